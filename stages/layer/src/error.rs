//! What can go wrong inside a layer or in the description of a network.

use crate::{DType, LayerIndex, Shape, SharedId};

/// An error of a layer, a parameter, a tensor or a network description.
///
/// The engine adds where and when it happened (step, node, stage, micro-batch, action).
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LayerError {
    /// A tensor had another shape than the layer can take.
    #[error("{what}: expected shape {expected}, found {found}")]
    Shape {
        /// Which tensor of which kind of layer.
        what: String,
        /// What would have been right, as text (it may hold names such as `[rows, 16]`).
        expected: String,
        /// What came.
        found: Shape,
    },
    /// A tensor had another element type than asked for.
    #[error("expected a tensor of {expected}, found {found}")]
    DType {
        /// The type asked for.
        expected: DType,
        /// The type that came.
        found: DType,
    },
    /// A layer was given another number of tensors than it takes.
    #[error("expected {expected} tensors, found {found}")]
    Arity {
        /// How many the layer takes.
        expected: usize,
        /// How many came.
        found: usize,
    },
    /// A tensor that must be there (an input, an output's gradient) was not.
    #[error("tensor {index} is missing, as the gradient of an output is that nobody reads")]
    Missing {
        /// Which of the tensors.
        index: usize,
    },
    /// The node may not hold that many bytes.
    #[error(
        "out of memory: {requested_bytes} bytes asked for while {held_bytes} are held, and the limit is {limit_bytes}; \
         give the node more memory, use more nodes, or a smaller micro-batch"
    )]
    OutOfMemory {
        /// Bytes of the refused allocation.
        requested_bytes: u64,
        /// Bytes held by the node at that moment.
        held_bytes: u64,
        /// The most it may hold.
        limit_bytes: u64,
    },
    /// The machine refused an allocation that the node's limit would have allowed.
    #[error("the machine refused an allocation of {requested_bytes} bytes")]
    AllocationRefused {
        /// Bytes of the refused allocation.
        requested_bytes: u64,
    },
    /// A value that the layer cannot work with (an id outside its table, say).
    #[error("{0}")]
    Value(String),
    /// A layer's description does not make sense, whatever its input.
    #[error("{what}: {problem}")]
    Spec {
        /// Which description.
        what: String,
        /// What is wrong and what to change.
        problem: String,
    },
    /// An error of one layer, with its name.
    #[error("layer {layer} ({key}): {source}")]
    InLayer {
        /// Its place in the network.
        layer: LayerIndex,
        /// Its key.
        key: String,
        /// What went wrong in it.
        source: Box<LayerError>,
    },
    /// A pattern of keys matches nothing.
    #[error("no {of} matches {pattern:?}; there are {there_are}")]
    NoSuchKey {
        /// What it was to match: a layer or a parameter.
        of: &'static str,
        /// The pattern.
        pattern: String,
        /// The first keys that there are.
        there_are: String,
    },
    /// A shared parameter would be frozen in one layer and train in another.
    #[error("layers {frozen} and {trained} share a parameter ({shared}): freeze both or none")]
    FrozenInPart {
        /// The shared parameter.
        shared: SharedId,
        /// The layer that was to be frozen.
        frozen: String,
        /// The one that was not.
        trained: String,
    },
    /// All layers that have parameters are frozen.
    #[error("every layer with parameters is frozen, nothing is left to train: freeze fewer")]
    NothingTrains,
    /// Two holders of a shared parameter describe it differently.
    #[error(
        "shared parameter {shared}: {first} and {second} describe it differently; give them one shape, one initialisation and one role"
    )]
    SharedMismatch {
        /// The shared parameter.
        shared: SharedId,
        /// Key under its first holder.
        first: String,
        /// Key under the holder that differs.
        second: String,
    },
}

impl LayerError {
    /// A shape error: `what` expected `expected` and found `found`.
    pub fn shape(what: impl Into<String>, expected: impl Into<String>, found: Shape) -> Self {
        Self::Shape {
            what: what.into(),
            expected: expected.into(),
            found,
        }
    }

    /// A description that does not make sense: what it describes, and what to change.
    pub fn spec(what: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Spec {
            what: what.into(),
            problem: problem.into(),
        }
    }

    /// The same error with the layer it happened in.
    pub fn in_layer(self, layer: LayerIndex, key: &str) -> Self {
        Self::InLayer {
            layer,
            key: key.to_owned(),
            source: Box::new(self),
        }
    }
}
