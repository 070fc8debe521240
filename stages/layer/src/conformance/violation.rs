//! What may be found.

use crate::LayerError;

/// A law that a layer broke.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// The layer returned an error.
    #[error("the layer failed: {0}")]
    Failed(#[from] LayerError),
    /// A gradient does not agree with the difference quotient.
    #[error("gradient of {of}: the layer says {claimed}, finite differences say {measured}")]
    Gradient {
        /// Of what.
        of: String,
        /// Slope by the layer's gradient.
        claimed: f64,
        /// Slope by finite differences.
        measured: f64,
    },
    /// A gradient that was wanted is missing.
    #[error(
        "input {input} is of f32 and its gradient was wanted (`Ctx::wants_gradient`), but \
         `backward_input` gave none"
    )]
    NoGradient {
        /// Which input.
        input: usize,
    },
    /// Two equal calls gave different bits.
    #[error("not deterministic: {0} differs between two equal runs")]
    NotDeterministic(String),
    /// W gave other gradients when other micro-batches came between.
    #[error("{0}: the gradient depends on what other micro-batches do between F, I and W")]
    NotSeparable(String),
    /// The description does not tell the truth.
    #[error("{what}: the description says {said}, found is {found}; correct one of the two")]
    Dishonest {
        /// About what.
        what: String,
        /// What it says.
        said: String,
        /// What is.
        found: String,
    },
    /// A loss is not a sum over its terms.
    #[error(
        "{what} of all rows is {whole}, of the rows one by one it sums up to {rows}: a loss puts \
         out the sum over its terms, no mean, and `loss_terms` counts them"
    )]
    NotASum {
        /// What of the loss.
        what: String,
        /// For all rows together.
        whole: f64,
        /// The sum over the rows, each alone.
        rows: f64,
    },
}
