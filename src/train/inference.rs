//! Trainers that only infer.

use super::Trainer;
use crate::config::Config;
use crate::error::Error;
use crate::plan::Plan;
use brigade_layer::{Network, Optimizer, StepId, Update};
use std::sync::Arc;

impl Trainer {
    /// Plans, starts the nodes, and has every node build its own layers, to generate, evaluate and
    /// predict. Nodes hold no gradients and no optimizer's state, and need no memory for them: see
    /// [`Plan::for_inference`]. A training step is an error.
    ///
    /// # Errors
    /// When the plan does not work out, or a node cannot build its layers.
    pub fn start_inference(network: &Network, config: &Config) -> Result<Self, Error> {
        let plan = Plan::for_inference(network, config);
        Self::start_planned(network, config, Arc::new(NoUpdates), plan, None)
    }
}

/// Where nothing is trained, nothing is updated.
#[derive(Debug)]
struct NoUpdates;

impl Optimizer for NoUpdates {
    fn state_names(&self) -> &[&'static str] {
        &[]
    }
    fn learning_rate(&self, _: StepId) -> f64 {
        0.0
    }
    fn update(&self, _: Update<'_>) {}
}
