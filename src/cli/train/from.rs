//! What a training goes on from: nothing, a checkpoint of a run, or after a failure the last one of
//! its own.

use super::Run;
use crate::cli::carried::{Carried, token_ids};
use crate::cli::failure::Failure;
use crate::cli::model::{Model, network_json};
use crate::cli::options::TrainOptions;
use crate::cli::origin::{Origin, newest_whole};
use crate::cli::output::{StepLine, warn};
use crate::cli::run_folder::{CHECKPOINTS, RunFolder, Texts, earlier};
use crate::cli::tokenizer::Vocabulary;
use crate::ids::StepId;
use crate::process::{self, Processes};
use crate::{Checkpoint, SaveTo, StepReport};
use brigade_nn::Decoder;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The token that fills up sequences.
const PAD: &str = "pad_token_id";

/// What a training goes on from.
pub(super) struct From {
    checkpoint: Option<Checkpoint>,
    /// The run whose steps were taken before.
    run: Option<PathBuf>,
    /// The run folder, if there is one already.
    folder: Option<PathBuf>,
}

impl From {
    pub(super) fn of(options: &TrainOptions) -> Result<Self, Failure> {
        let out = options.run.output.out.clone();
        let Some(wanted) = &options.resume else {
            return Ok(Self {
                checkpoint: None,
                run: None,
                folder: None,
            });
        };
        let origin = Origin::of(wanted)?;
        if process::is_first() {
            for damaged in &origin.damaged {
                let at = origin.checkpoint.path().display();
                warn(&format!("{damaged}; going on from {at}"));
            }
        }
        let known = |path: &Option<PathBuf>| path.as_ref()?.canonicalize().ok();
        let same = out.is_none() || known(&out).is_some_and(|out| Some(out) == known(&origin.run));
        if let (true, true, Some(later)) = (same, origin.damaged.is_empty(), origin.later()?) {
            let at = origin.checkpoint.manifest().step;
            return Err(Failure::Usage(format!(
                "the run has later checkpoints than that of step {at}, up to step {later}; give \
                 --out for a run of its own from there"
            )));
        }
        Ok(Self {
            folder: if same { origin.run.clone() } else { None },
            run: origin.run,
            checkpoint: Some(origin.checkpoint),
        })
    }

    /// The run whose steps were taken before, if it is still there.
    pub(super) fn run(&self) -> Option<&Path> {
        self.run.as_deref()
    }

    /// The run folder, if it is there already.
    pub(super) fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// After a failure: from the last whole checkpoint of this run, or from its beginning.
    pub(super) fn again(self, failure: Failure, left: u32) -> Result<Self, Failure> {
        let Some(folder) = self.folder.clone() else {
            warn(&format!(
                "{failure}; starting again from the beginning, {left} retries left"
            ));
            return Ok(self);
        };
        let (own, damaged) = newest_whole(&folder.join(CHECKPOINTS), Checkpoint::verify)?;
        for damaged in damaged {
            warn(&damaged);
        }
        let (checkpoint, run) = match own {
            Some(own) => (Some(own), Some(folder.clone())),
            None => (self.checkpoint, self.run),
        };
        let step = checkpoint.as_ref().map_or(0, |it| it.manifest().step);
        warn(&format!(
            "{failure}; starting again after step {step}, {left} retries left"
        ));
        Ok(Self {
            checkpoint,
            run,
            folder: Some(folder),
        })
    }
}

impl Run<'_> {
    /// Makes or opens the run folder, and takes up what it goes on from.
    pub(super) fn go_on_from(&mut self, settings: &str, from: &mut From) -> Result<(), Failure> {
        let done = match &from.checkpoint {
            Some(checkpoint) => self.resume(checkpoint)?,
            None => self.begin()?,
        };
        let lines = match (&from.run, done) {
            (Some(run), 1..) => earlier(run, done)?,
            _ => Vec::new(),
        };
        self.earlier = lines.iter().map(report).collect();
        let validated = lines.iter();
        self.validations = validated
            .filter_map(|line| Some((line.step, line.val_loss?)))
            .collect();
        if !self.options.writes() {
            return Ok(());
        }
        let network = &network_json(&self.decoder)?;
        let texts = Texts { settings, network };
        let (plan, out) = (self.trainer.plan(), self.options.output.out.as_deref());
        let vocabulary = self.vocabulary.as_deref();
        let opened = process::is_first().then(|| match &from.folder {
            Some(folder) => RunFolder::reopen(folder, plan, texts, &lines),
            None => {
                let model = self.options.network.from.as_deref();
                let model = from.run.as_deref().or(model);
                let carried = model.map(Carried::of).transpose()?.unwrap_or_default();
                let folder = RunFolder::open(out, plan, texts, &lines)?;
                carried.write(folder.path())?;
                if let Some(tokenizer) = vocabulary.and_then(Vocabulary::json) {
                    folder.tokenizer(tokenizer)?;
                }
                Ok(folder)
            }
        });
        let (folder, path) = self.shared(opened)?;
        self.folder = folder;
        let folder = path;
        from.folder = Some(folder.clone());
        let to = SaveTo::new(folder.join(CHECKPOINTS)).keep(self.options.saving.keep);
        self.saves = Some(to.note("data", &self.data));
        Ok(())
    }

    /// Starts with the weights of a model, if so: no step is done.
    fn begin(&mut self) -> Result<u64, Failure> {
        let Some(folder) = &self.options.network.from else {
            return Ok(0);
        };
        Model::of(folder)?.load(&mut self.trainer)?;
        if let (Decoder::Llama(_), Some(pad)) = (&self.decoder, token_ids(folder)?.get(PAD))
            && process::is_first()
        {
            self.output.warn(&format!(
                "{PAD} is {pad}: transformers gives that row of the embedding no gradient, here \
                 it is trained like all others"
            ));
        }
        let folder = folder.display();
        self.output.say(&format!("Starting from {folder}\n"))?;
        self.output.tell(&json!({ "from": folder.to_string() }))?;
        Ok(0)
    }

    fn resume(&mut self, checkpoint: &Checkpoint) -> Result<u64, Failure> {
        let mut resumed = self.trainer.resume(checkpoint)?;
        let notes = &checkpoint.manifest().notes;
        if let Some(then) = notes.get("data").filter(|then| **then != self.data) {
            let now = &self.data;
            resumed
                .differs
                .push(format!("data are {now}, they were {then}"));
        }
        if process::is_first() {
            for differs in &resumed.differs {
                let problem = format!("{differs}: the numbers are not those of a run in one go");
                self.output.warn(&problem);
            }
        }
        let (step, path) = (resumed.step, checkpoint.path().display());
        self.output
            .say(&format!("Going on after step {step}, from {path}\n"))?;
        let differs = &resumed.differs;
        let from = json!({ "step": step, "checkpoint": path.to_string(), "differs": differs });
        self.output.tell(&json!({ "resumed": from }))?;
        self.saved = Some((step, checkpoint.path().to_owned()));
        Ok(step)
    }

    /// The run folder that the first process has opened, and where it is; or why there is none, on
    /// all processes.
    fn shared(
        &self,
        opened: Option<Result<RunFolder, Failure>>,
    ) -> Result<(Option<RunFolder>, PathBuf), Failure> {
        let told = opened.as_ref().map(|opened| match opened {
            Ok(folder) => Ok(folder.path().to_string_lossy().into_owned()),
            Err(failure) => Err(failure.to_string()),
        });
        let deadline = self.config.deadline();
        let all = Processes::meet(deadline)?.share("run folder", told, deadline);
        let all = all.map_err(|cause| Failure::Other(cause.to_string()))?;
        let folder = opened.transpose()?;
        match all.into_iter().flatten().next() {
            Some(Ok(path)) => Ok((folder, path.into())),
            Some(Err(problem)) => Err(Failure::Other(problem)),
            None => Err(Failure::Other("no process has opened a run folder".into())),
        }
    }
}

/// A step as it was reported when it was taken.
fn report(line: &StepLine) -> StepReport {
    StepReport {
        step: StepId::new(line.step),
        loss: line.loss,
        gradient_norm: line.grad_norm,
        learning_rate: line.lr,
        duration: Duration::try_from_secs_f64(line.step_ms / 1e3).unwrap_or_default(),
        skipped: None,
        stop: false,
        saved: None,
    }
}
