//! What the trainer says of steps and evaluations.

use crate::error::{Error, NonFinite};
use crate::ids::StepId;
use std::path::PathBuf;
use std::time::Duration;

/// What a training step did. What is there seldom is boxed, so that the reports of millions of
/// steps can be kept.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct StepReport {
    /// The step, from 0.
    pub step: StepId,
    /// The mean loss over all terms of the mini-batch, before the update.
    pub loss: f64,
    /// The global norm of the gradients, before clipping.
    pub gradient_norm: f64,
    /// The learning rate of the update.
    pub learning_rate: f64,
    /// Why nothing was updated, where such steps are skipped
    /// ([`OnNonFinite::Skip`](crate::OnNonFinite::Skip)): the same step on any number of nodes.
    pub skipped: Option<Box<NonFinite>>,
    /// Somebody asked some process to stop ([`Trainer::stop_on`](crate::Trainer::stop_on)): the
    /// same on all processes.
    pub stop: bool,
    /// The folder of a checkpoint that became whole in this step
    /// ([`Trainer::save_beside`](crate::Trainer::save_beside)), or why there is none.
    pub saved: Option<Box<Result<PathBuf, Error>>>,
    /// How long it took.
    pub duration: Duration,
}

/// What an evaluation found.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Evaluation {
    /// The mean loss over all terms.
    pub loss: f64,
    /// Over how many terms.
    pub terms: f64,
    /// Every metric of the network by name; a mean is `None` when nothing was measured.
    pub metrics: Vec<(String, Option<f64>)>,
}
