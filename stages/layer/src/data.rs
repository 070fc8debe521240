//! Where a network's inputs and targets come from.

use crate::{LayerError, StepId, Tensor, Tensors};
use std::ops::Range;
use std::sync::Arc;

/// Data to train on, evaluate on, or predict from.
///
/// `inputs` and `targets` are pure functions of step and rows: they are called on whichever node
/// uses them, for some micro-batch, in any order, perhaps in different processes. A node in the
/// middle of the pipeline calls neither.
pub trait Data: Send + Sync + 'static {
    /// Rows (samples) of this step's mini-batch. When evaluating or predicting, the step is 0.
    fn rows(&self, step: StepId) -> usize;

    /// The network's inputs for some rows of the mini-batch, in the order of the input feeds.
    ///
    /// # Shapes
    /// Each [rows.len(), ...] with the rest as the feed was declared.
    ///
    /// # Errors
    /// When the data cannot be had.
    fn inputs(&self, step: StepId, rows: Range<usize>) -> Result<Tensors, LayerError>;

    /// The targets for some rows of the mini-batch, in the order of the target feeds.
    ///
    /// # Errors
    /// When the data cannot be had.
    fn targets(&self, step: StepId, rows: Range<usize>) -> Result<Tensors, LayerError>;
}

impl<D: Data + ?Sized> Data for Arc<D> {
    fn rows(&self, step: StepId) -> usize {
        (**self).rows(step)
    }
    fn inputs(&self, step: StepId, rows: Range<usize>) -> Result<Tensors, LayerError> {
        (**self).inputs(step, rows)
    }
    fn targets(&self, step: StepId, rows: Range<usize>) -> Result<Tensors, LayerError> {
        (**self).targets(step, rows)
    }
}

/// One batch of inputs and targets in memory, the same in every step. Micro-batches are views of
/// it.
#[derive(Clone, Debug)]
pub struct Batch {
    inputs: Tensor,
    targets: Tensor,
}

impl Batch {
    /// A batch of inputs and their targets.
    ///
    /// # Errors
    /// When they have different numbers of rows.
    pub fn new(inputs: Tensor, targets: Tensor) -> Result<Self, LayerError> {
        if inputs.shape().rows() != targets.shape().rows() {
            let expected = format!("{} rows, as the inputs have", inputs.shape().rows());
            return Err(LayerError::shape(
                "targets of a batch",
                expected,
                targets.shape(),
            ));
        }
        Ok(Self { inputs, targets })
    }
}

impl Data for Batch {
    fn rows(&self, _: StepId) -> usize {
        self.inputs.shape().rows()
    }
    fn inputs(&self, _: StepId, rows: Range<usize>) -> Result<Tensors, LayerError> {
        Ok(self.inputs.rows(rows)?.into())
    }
    fn targets(&self, _: StepId, rows: Range<usize>) -> Result<Tensors, LayerError> {
        Ok(self.targets.rows(rows)?.into())
    }
}
