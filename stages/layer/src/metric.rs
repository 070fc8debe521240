//! What is measured of a network's output beside the loss.

use crate::{LayerError, Tensors};
use std::fmt::Debug;

/// A sum and what it is to be divided by: measures of micro-batches add up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measure {
    /// The sum over the samples (or tokens) measured.
    pub sum: f64,
    /// How many were measured.
    pub count: f64,
}

impl Measure {
    /// The mean, or `None` when nothing was measured.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0.0).then(|| self.sum / self.count)
    }
}

impl std::ops::AddAssign for Measure {
    fn add_assign(&mut self, other: Self) {
        self.sum += other.sum;
        self.count += other.count;
    }
}

/// Something measured when evaluating, such as accuracy.
pub trait Metric: Debug + Send + Sync + 'static {
    /// Its name in reports.
    fn name(&self) -> &str;

    /// Measures one micro-batch.
    ///
    /// # Shapes
    /// `inputs` are those of the loss: what the network put out, then the targets.
    ///
    /// # Errors
    /// When the inputs are not what it can measure.
    fn measure(&self, inputs: &Tensors) -> Result<Measure, LayerError>;
}
