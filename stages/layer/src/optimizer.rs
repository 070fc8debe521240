//! The rule that turns gradients into new parameter values.

use crate::{LayerError, ParamRole, ParamSpec, StepId, TensorMut};
use std::fmt::Debug;
use std::sync::Arc;

/// One parameter's update.
#[derive(Debug)]
#[non_exhaustive]
pub struct Update<'a> {
    /// The step that ends with this update, from 0.
    pub step: StepId,
    /// The parameter's key (`h.3.attn.c_attn.weight`). A shared one has that of its first holder.
    pub key: &'a str,
    /// What the parameter is for.
    pub role: ParamRole,
    /// What the gradient is multiplied with before anything else (clipping).
    pub gradient_scale: f32,
    /// How many threads of the node's pool may be used.
    pub threads: usize,
    /// The values, to be changed.
    pub value: &'a mut [f32],
    /// The gradient of the mini-batch's loss.
    pub gradient: &'a [f32],
    /// The named states, zeros before the first update.
    pub state: &'a mut [TensorMut],
}

/// A rule that turns gradients into new parameter values: plain data, and state by name for every
/// parameter.
///
/// An update must not depend on other parameters, on the number of threads, or on anything but its
/// arguments.
pub trait Optimizer: Debug + Send + Sync + 'static {
    /// Names of the states that it keeps for every parameter, each of the parameter's shape.
    fn state_names(&self) -> &[&'static str];

    /// The learning rate of a step.
    fn learning_rate(&self, step: StepId) -> f64;

    /// Changes the values and states of one parameter.
    fn update(&self, update: Update<'_>);

    /// What is wrong with its settings, if anything.
    ///
    /// # Errors
    /// Names the setting and what it may be.
    fn validate(&self) -> Result<(), LayerError> {
        Ok(())
    }

    /// Whether its settings are for parameters such as these, a whole network's with their keys.
    ///
    /// # Errors
    /// Names the setting that does not fit.
    fn suits(&self, params: &[(String, ParamSpec)]) -> Result<(), LayerError> {
        let _ = params;
        Ok(())
    }
}

impl Optimizer for Arc<dyn Optimizer> {
    fn state_names(&self) -> &[&'static str] {
        (**self).state_names()
    }
    fn learning_rate(&self, step: StepId) -> f64 {
        (**self).learning_rate(step)
    }
    fn update(&self, update: Update<'_>) {
        (**self).update(update);
    }
    fn validate(&self) -> Result<(), LayerError> {
        (**self).validate()
    }
    fn suits(&self, params: &[(String, ParamSpec)]) -> Result<(), LayerError> {
        (**self).suits(params)
    }
}
