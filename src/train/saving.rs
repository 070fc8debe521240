//! Checkpoints: saved while training goes on, and resumed from by any pipeline.

use super::Trainer;
use crate::checkpoint::{
    Claimed, Manifest, NodeFile, NotWritten, SaveTo, TensorEntry, Written, part, whole,
};
use crate::config::Config;
use crate::error::Error;
use crate::ids::NodeId;
use crate::process;
use crate::stage::{Command, Outbox, State, Wanted};
use crate::wire::Patience;
use brigade_layer::{LayerIndex, Network, Optimizer, ParamRole, Part, Pool};
use crossbeam_channel::{Receiver, RecvTimeoutError, bounded, unbounded};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long those that write are waited for when nobody wants what they write any more.
const WELL: Duration = Duration::from_secs(5);

/// The setting that says which layers are frozen.
pub(super) const FROZEN: &str = "frozen";
/// None of them.
pub(super) const NO_LAYER: &str = "no layer";

/// What saving needs to know, and what is under way.
pub(super) struct Saves {
    /// What the numbers depend on beside network and data.
    pub(super) settings: BTreeMap<String, String>,
    budget_bytes: u64,
    patience: Duration,
    /// By the first process.
    claimed: Option<Claimed>,
    pending: Option<Pending>,
    /// What became of one that was written next to training.
    pub(super) finished: Option<Result<PathBuf, Error>>,
}

/// The keys of the layers that are frozen.
fn frozen(network: &Network) -> String {
    let layers = network.enumerate();
    let frozen = layers.filter(|(index, _)| network.is_frozen(*index));
    let keys: Vec<_> = frozen.map(|(_, layer)| layer.key.as_str()).collect();
    match keys.is_empty() {
        true => NO_LAYER.into(),
        false => keys.join(", "),
    }
}

/// A checkpoint that is being written.
struct Pending {
    to: SaveTo,
    step: u64,
    outcomes: Vec<Outcome>,
}

/// A node's file, and what becomes of it.
type Outcome = (PathBuf, Receiver<Written>);

impl Saves {
    pub(super) fn new(config: &Config, optimizer: &dyn Optimizer, network: &Network) -> Self {
        let precision = |precision| format!("{precision:?}").to_lowercase();
        let clip = config.clip.map_or("none".into(), |clip| clip.to_string());
        let settings = [
            ("seed", config.seed.to_string()),
            ("batch_size", config.batch_size.to_string()),
            ("micro_batch_size", config.micro_batch_size.to_string()),
            ("precision", precision(config.precision)),
            ("wire", precision(config.wire)),
            ("clip", clip),
            (
                "on_nonfinite",
                format!("{:?}", config.on_nonfinite).to_lowercase(),
            ),
            // As checkpoints said it before there were groups.
            (
                "optimizer",
                format!("{optimizer:?}").replace(", groups: []", ""),
            ),
            (FROZEN, frozen(network)),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value));
        Self {
            settings: settings.into(),
            budget_bytes: config.saving_bytes,
            patience: Patience::within(config.deadline()).busy,
            claimed: None,
            pending: None,
            finished: None,
        }
    }

    /// What there is of a checkpoint is of no use.
    fn give_up(&self, step: u64) {
        if let Some(claimed) = &self.claimed {
            claimed.give_up(step);
        }
    }

    /// A folder is claimed once, for as long as this trainer lives or until another is.
    fn begin(&mut self, folder: &Path, step: u64) -> Result<(), Error> {
        if !self.claimed.as_ref().is_some_and(|it| it.is_of(folder)) {
            self.claimed = None;
            self.claimed = Some(Claimed::new(folder)?);
        }
        self.claimed.as_ref().map_or(Ok(()), |it| it.begin(step))
    }
}

impl Drop for Saves {
    /// What was not finished is of no use.
    fn drop(&mut self) {
        if let Some(pending) = &self.pending {
            // Who writes hears that nothing comes any more, and ends.
            let until = Instant::now() + WELL;
            for (_, outcome) in &pending.outcomes {
                let _ = outcome.recv_deadline(until);
            }
            self.give_up(pending.step);
        }
    }
}

impl Trainer {
    /// Saves a checkpoint of the steps done so far, and waits until it is whole: its folder. It
    /// exists wholly or not at all, whatever happens meanwhile.
    ///
    /// Every node writes what it owns; of several processes the folder must be one that all see.
    ///
    /// # Errors
    /// When it cannot be written: which file, why, and how much was missing where the disk is
    /// full. Checkpoints that were there before stay, and training may go on.
    pub fn save(&mut self, to: impl Into<SaveTo>) -> Result<PathBuf, Error> {
        self.finish_in_report()?;
        let to = to.into();
        let path = whole(&to.folder, self.steps);
        self.begin_saving(to)?;
        self.finish_pending().map(|_| path)
    }

    /// Begins to save a checkpoint of the steps done so far, which is written next to the training
    /// that goes on: what is not copied yet is copied between the actions of the next step, at
    /// most [`Config::saving_bytes`](crate::Config::saving_bytes) at once, so that a step hardly
    /// notices. The report of the step in which it becomes whole says so, or why not.
    ///
    /// One that is still being written is waited for first; the next report says what became of it.
    /// Dropping the trainer gives up what is not whole: [`finish_saving`](Self::finish_saving)
    /// waits for it.
    ///
    /// # Errors
    /// When it cannot be begun. Training may go on.
    pub fn save_beside(&mut self, to: impl Into<SaveTo>) -> Result<(), Error> {
        self.finish_in_report()?;
        self.begin_saving(to.into())?;
        if self.saves.budget_bytes == 0 {
            self.finish_in_report()?;
        }
        Ok(())
    }

    /// Waits for a checkpoint that is being written: its folder. Without one, the folder of the
    /// last that no report has told of, if there is one.
    ///
    /// # Errors
    /// As [`Trainer::save`].
    pub fn finish_saving(&mut self) -> Result<Option<PathBuf>, Error> {
        match self.finish_pending()? {
            None => self.saves.finished.take().transpose(),
            path => Ok(path),
        }
    }

    /// Waits for what is being written; the next report says what became of it.
    pub(super) fn finish_in_report(&mut self) -> Result<(), Error> {
        match self.finish_pending() {
            Ok(None) => {}
            Ok(Some(path)) => self.saves.finished = Some(Ok(path)),
            Err(error @ (Error::Write { .. } | Error::Elsewhere { .. })) => {
                self.saves.finished = Some(Err(error));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn begin_saving(&mut self, to: SaveTo) -> Result<(), Error> {
        let step = self.steps;
        let begun = match process::is_first() {
            true => self.saves.begin(&to.folder, step),
            false => Ok(()),
        };
        self.alike(begun)?;
        let started = self.writers(&to.folder);
        let (commands, outcomes) = self.alike(started).inspect_err(|_| {
            self.saves.give_up(step);
        })?;
        self.saves.pending = Some(Pending { to, step, outcomes });
        self.nodes.ask_each(commands)?;
        Ok(())
    }

    /// Starts a thread for the file of each node of this process.
    fn writers(&self, folder: &Path) -> Result<(Vec<Command>, Vec<Outcome>), Error> {
        let started = self.nodes.here().iter().map(|node| {
            let path = part(folder, self.steps).join(format!("node-{node}.safetensors"));
            let (outbox, outcome) = self.writer(*node, path.clone())?;
            Ok((Command::Save(outbox), (path, outcome)))
        });
        started
            .collect::<Result<Vec<_>, _>>()
            .map(|started| started.into_iter().unzip())
    }

    /// Starts the thread that writes a node's file.
    fn writer(&self, node: NodeId, path: PathBuf) -> Result<(Outbox, Receiver<Written>), Error> {
        let (wanted, at_once) = self.wanted(node);
        let names = self.optimizer.state_names();
        let tensors = wanted.iter().map(|wanted| TensorEntry {
            key: wanted.key.clone(),
            state: match wanted.part {
                Part::State(number) => names.get(number).map(|name| (*name).to_owned()),
                _ => None,
            },
            layer: wanted.layer.get(),
            shape: wanted.shape.axes().to_vec(),
            sha256: String::new(),
        });
        let (copies, from) = unbounded();
        let (tell, written) = unbounded();
        let (answer, outcome) = bounded(1);
        let state = Arc::new(State::default());
        let file = NodeFile {
            path: path.clone(),
            tensors: tensors.collect(),
            copies: from,
            written: tell,
            state: state.clone(),
        };
        let thread = std::thread::Builder::new().name(format!("brigade-save-{node}"));
        let started = thread.spawn(move || {
            let _ = answer.send(file.write());
        });
        started.map_err(|error| Error::Write {
            path: path.display().to_string(),
            problem: format!("no thread to write it: {error}"),
        })?;
        let outbox = Outbox {
            wanted: wanted.into(),
            at_once,
            copies,
            written,
            state,
            budget_bytes: self.saves.budget_bytes,
            // In time for those who wait for this node.
            patience: self.saves.patience / 2,
        };
        Ok((outbox, outcome))
    }

    /// What a node holds that is to be saved: of shared parameters the first holder's. What a layer
    /// may change by itself in its forward pass comes first, and how many those are.
    fn wanted(&self, node: NodeId) -> (Vec<Wanted>, usize) {
        let (network, plan, pool) = (&self.network, &self.plan, Pool::default());
        let states = self.optimizer.state_names().len();
        let (mut kept, mut settled) = (Vec::new(), Vec::new());
        let stages = plan.layout.placement.stages_on(node);
        for layer in stages.flat_map(|stage| plan.partition.layers_of(stage)) {
            let layer = LayerIndex::new(layer as u32);
            let cx = network.build_ctx(layer, &pool, 0);
            let spec = &network.layers()[layer.index()].spec;
            let thawed = spec.thawed().unwrap_or(spec.as_ref()).param_specs();
            for (spec, thawed) in spec.param_specs().iter().zip(thawed) {
                let info = cx.info(spec);
                let of = |part| Wanted {
                    layer,
                    key: info.key.clone(),
                    part,
                    shape: info.shape,
                };
                // A statistic changes when a step ends, as what is trained does.
                let by_itself = !thawed.trains && thawed.role != ParamRole::Statistic;
                if info.primary && by_itself {
                    kept.push(of(Part::Value));
                } else if info.primary {
                    let states = if info.trains { states } else { 0 };
                    settled.push(of(Part::Value));
                    settled.extend((0..states).map(|number| of(Part::State(number))));
                }
            }
        }
        let at_once = kept.len();
        kept.append(&mut settled);
        (kept, at_once)
    }

    /// Has the nodes copy what is left, waits until it is written, and makes a checkpoint of it.
    fn finish_pending(&mut self) -> Result<Option<PathBuf>, Error> {
        let Some(pending) = &self.saves.pending else {
            return Ok(None);
        };
        let outcomes = pending.outcomes.clone();
        self.nodes.ask(&Command::Complete)?;
        // In time for the others, who wait for what this process says.
        let patience = self.saves.patience / 2;
        let until = Instant::now() + patience;
        let own: Vec<Written> = (outcomes.iter())
            .map(|(path, outcome)| {
                let none = |error| NotWritten {
                    path: path.display().to_string(),
                    problem: match error {
                        RecvTimeoutError::Timeout => {
                            format!("the disk does not answer for {patience:?}")
                        }
                        RecvTimeoutError::Disconnected => "whoever wrote it is gone".into(),
                    },
                    missing_bytes: None,
                };
                outcome.recv_deadline(until).map_err(none).flatten()
            })
            .collect();
        let all = self.nodes.share("checkpoint", own)?.into_iter().flatten();
        let Some(Pending { to, step, .. }) = self.saves.pending.take() else {
            return Ok(None);
        };
        let (files, failures): (Vec<_>, Vec<_>) = all.partition(Result::is_ok);
        let files = files.into_iter().flatten().collect();
        let failures: Vec<_> = failures.into_iter().filter_map(Result::err).collect();
        if let Some(error) = NotWritten::together(&failures) {
            self.saves.give_up(step);
            return Err(error);
        }
        let made = match &self.saves.claimed {
            None => Ok(PathBuf::new()),
            Some(claimed) => {
                let mut manifest = Manifest::new(step, files, &self.network);
                manifest.settings = self.saves.settings.clone();
                manifest.notes = to.notes;
                claimed.finish(&manifest, to.keep)
            }
        };
        let made = made.inspect_err(|_| self.saves.give_up(step));
        self.alike(made)?;
        Ok(Some(whole(&to.folder, step)))
    }
}
