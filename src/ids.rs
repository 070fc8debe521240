//! Every id and every count is a type of its own. Nowhere else is one an integer.

use serde::{Deserialize, Serialize};
use std::fmt;

pub use brigade_layer::{EdgeId, LayerIndex, MicroBatchId, SharedId, StepId};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[derive(Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name($inner);

        impl $name {
            /// With this number.
            pub const fn new(number: $inner) -> Self {
                Self(number)
            }

            /// The number, to index or size a list with.
            pub const fn index(self) -> usize {
                self.0 as usize
            }

            /// The number.
            pub const fn get(self) -> $inner {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A stage: consecutive layers that are computed together. Stages are numbered in the order of
    /// their layers.
    StageId(u32)
}
number! {
    /// A node of the pipeline: a thread, or a rank on another machine, with its own memory.
    NodeId(u32)
}
number! {
    /// A copy of the whole pipeline. Always 0 until data parallelism joins.
    ReplicaId(u32)
}
number! {
    /// One walk of all nodes through their lists: a training step, an evaluation, a prediction.
    /// Counted from 0.
    PassId(u64)
}
number! {
    /// How many nodes.
    NodeCount(u32)
}
number! {
    /// How many stages.
    StageCount(u32)
}
number! {
    /// How many micro-batches a mini-batch is cut into.
    MicroBatchCount(u32)
}

impl NodeCount {
    /// All nodes in order.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = NodeId> + ExactSizeIterator {
        (0..self.0).map(NodeId)
    }
}

impl StageCount {
    /// All stages in order.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = StageId> + ExactSizeIterator {
        (0..self.0).map(StageId)
    }
}

impl MicroBatchCount {
    /// All micro-batches in order.
    pub fn iter(self) -> impl DoubleEndedIterator<Item = MicroBatchId> + ExactSizeIterator {
        (0..self.0).map(MicroBatchId::new)
    }
}
