//! Samples by number.

use brigade_layer::{LayerError, Tensors};
use std::sync::Arc;

/// Samples that can be had in any order: arrays, files, images in a folder. [`Batches`] makes
/// mini-batches of them.
///
/// `inputs` and `targets` are pure functions of the samples asked for: they are called on whichever
/// node uses them, perhaps in different processes. Only the node with the first layers asks for
/// inputs, and only that with the loss for targets.
///
/// [`Batches`]: crate::Batches
///
/// # Example
/// ```
/// use brigade_layer::{LayerError, Tensor, Tensors};
/// use brigade_nn::Dataset;
///
/// /// Numbers and their squares.
/// struct Squares;
///
/// impl Dataset for Squares {
///     fn len(&self) -> usize {
///         1000
///     }
///     fn inputs(&self, samples: &[usize]) -> Result<Tensors, LayerError> {
///         let numbers: Vec<f32> = samples.iter().map(|it| *it as f32 / 1000.0).collect();
///         Ok(Tensor::from_vec([samples.len(), 1], numbers)?.into())
///     }
///     fn targets(&self, samples: &[usize]) -> Result<Tensors, LayerError> {
///         let square = |it: &usize| (*it as f32 / 1000.0).powi(2);
///         let squares: Vec<f32> = samples.iter().map(square).collect();
///         Ok(Tensor::from_vec([samples.len(), 1], squares)?.into())
///     }
/// }
/// ```
pub trait Dataset: Send + Sync + 'static {
    /// How many samples it has.
    fn len(&self) -> usize;

    /// Whether it has none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The network's inputs for these samples, in the order of the input feeds.
    ///
    /// # Shapes
    /// Each [samples, ...] with the rest as the feed was declared.
    ///
    /// # Errors
    /// When the data cannot be had.
    fn inputs(&self, samples: &[usize]) -> Result<Tensors, LayerError>;

    /// The targets for these samples, in the order of the target feeds.
    ///
    /// # Errors
    /// When the data cannot be had.
    fn targets(&self, samples: &[usize]) -> Result<Tensors, LayerError>;
}

impl<D: Dataset + ?Sized> Dataset for Arc<D> {
    fn len(&self) -> usize {
        (**self).len()
    }
    fn inputs(&self, samples: &[usize]) -> Result<Tensors, LayerError> {
        (**self).inputs(samples)
    }
    fn targets(&self, samples: &[usize]) -> Result<Tensors, LayerError> {
        (**self).targets(samples)
    }
}
