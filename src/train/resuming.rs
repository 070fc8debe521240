//! Going on from a checkpoint.

use super::Trainer;
use super::saving::{FROZEN, NO_LAYER};
use crate::checkpoint::{Checkpoint, Manifest};
use crate::error::Error;
use crate::stage::Command;
use std::sync::Arc;

/// From where a training goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resumed {
    /// Steps done.
    pub step: u64,
    /// What is not as it was: the run goes on, but not as if it had never been interrupted.
    pub differs: Vec<String>,
}

impl Trainer {
    /// Goes on from a checkpoint of the same network, whatever pipeline saved it: parameters,
    /// optimizer state, and the position in the schedule of the learning rate, in the data, and
    /// in everything random. With the same data and settings the numbers from here on are bit
    /// for bit those of a run that was never interrupted.
    ///
    /// More layers may be [frozen](brigade_layer::Network::freeze) than were: their optimizer state
    /// is dropped. A layer that was frozen and is not has no state there, which is an error where
    /// the optimizer keeps some: [load](Trainer::load_weights) its weights instead, and train anew.
    ///
    /// Every node reads what it owns, and compares it with its checksums.
    ///
    /// # Errors
    /// When it is of another network or optimizer: what differs. When a file cannot be read or has
    /// changed: which; the trainer is of no use then.
    pub fn resume(&mut self, checkpoint: &Checkpoint) -> Result<Resumed, Error> {
        self.finish_in_report()?;
        let manifest = checkpoint.manifest();
        let fits = self
            .suits(checkpoint)
            .and_then(|()| match crate::process::is_first() {
                true => checkpoint.look(),
                false => Ok(()),
            });
        self.alike(fits)?;
        let mine = (manifest.step, manifest.weights_sha256.clone());
        let all = self.nodes.share("checkpoint", mine.clone())?;
        let other = all.iter().position(|other| *other != mine);
        self.alike(other.map_or(Ok(()), |rank| {
            Err(resume_error(
                checkpoint,
                format!("rank {rank} sees another one there; give all the same files"),
            ))
        }))?;
        self.nodes
            .ask(&Command::Load(Arc::new(checkpoint.clone())))?;
        self.steps = manifest.step;
        let differs = self.differences(manifest);
        Ok(Resumed {
            step: manifest.step,
            differs,
        })
    }

    /// Whether it is of this network and kind of optimizer.
    fn suits(&self, checkpoint: &Checkpoint) -> Result<(), Error> {
        let manifest = checkpoint.manifest();
        let refuse = |problem: String| Err(resume_error(checkpoint, problem));
        let here = Manifest::new(0, Vec::new(), &self.network);
        let values = manifest.values();
        let params = values.iter();
        let params = params.map(|tensor| (tensor.key.as_str(), tensor.shape.as_slice()));
        if let Err(problem) = self.fits(params) {
            return refuse(format!("it is of another network: {problem}"));
        }
        let own = self.network.params();
        let mut keys = values.iter().map(|tensor| &tensor.key).zip(&own);
        if let Some((there, (here, _))) = keys.find(|(there, (here, _))| *there != here) {
            return refuse(format!(
                "it is of another network: it has {there} where this one has {here}"
            ));
        }
        let mut layers = manifest.layers.iter().zip(&here.layers);
        if let Some((there, here)) = layers.find(|(there, here)| there != here) {
            let (key, there, here) = (&there.key, &there.is, &here.is);
            return refuse(format!(
                "it is of another network: its layer {key} is {there} where this one's is {here}"
            ));
        }
        if manifest.network != here.network {
            return refuse("it is of another network: its layers are joined otherwise".into());
        }
        let wanted = self.optimizer.state_names();
        for (key, spec) in self.network.params() {
            // What is frozen now needs no state, and has lost it when it trains again.
            if !spec.trains {
                continue;
            }
            let found = checkpoint.states_of(&key);
            let missing = wanted.iter().any(|name| !found.contains(name));
            let frozen = checkpoint.manifest().settings.get(FROZEN);
            if missing && found.is_empty() && frozen.is_some_and(|layers| layers != NO_LAYER) {
                return refuse(format!(
                    "{key} was not trained there and has no {wanted:?}, which its optimizer needs \
                     here; freeze its layer, or load the weights alone"
                ));
            }
            if missing || found.len() != wanted.len() {
                return refuse(format!(
                    "its optimizer keeps {found:?} of {key}, this one {wanted:?}; take the same \
                     optimizer, or load its weights alone"
                ));
            }
        }
        Ok(())
    }

    fn differences(&self, manifest: &Manifest) -> Vec<String> {
        let here = &self.saves.settings;
        let mut differs = Vec::new();
        for (name, now) in here {
            let then = manifest.settings.get(name).map(String::as_str);
            // Checkpoints from before layers could be frozen do not say it.
            match then.or((name == FROZEN).then_some(NO_LAYER)) {
                Some(then) if then == now => {}
                Some(then) => differs.push(format!("{name} is {now}, it was {then}")),
                None => differs.push(format!("{name} is {now}, it was not noted down")),
            }
        }
        let version = env!("CARGO_PKG_VERSION");
        if manifest.version != version {
            let then = &manifest.version;
            differs.push(format!("the version is {version}, it was {then}"));
        }
        differs
    }
}

fn resume_error(checkpoint: &Checkpoint, problem: String) -> Error {
    let path = checkpoint.path().display().to_string();
    Error::Resume { path, problem }
}
