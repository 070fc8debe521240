//! Every id and every count is a type of its own. Nowhere else is one an integer.

use brigade_layer::number_type;

pub use brigade_layer::{EdgeId, LayerIndex, MicroBatchId, SharedId, StepId};

number_type! {
    /// A stage: consecutive layers that are computed together. Stages are numbered in the order of
    /// their layers.
    StageId(u32)
}
number_type! {
    /// A node of the pipeline: a thread, or a rank on another machine, with its own memory.
    NodeId(u32)
}
number_type! {
    /// A copy of the whole pipeline. Always 0 until data parallelism joins.
    ReplicaId(u32)
}
number_type! {
    /// One walk of all nodes through their lists: a training step, an evaluation, a prediction.
    /// Counted from 0.
    PassId(u64)
}
number_type! {
    /// How many nodes.
    NodeCount(u32)
}
number_type! {
    /// How many stages.
    StageCount(u32)
}
number_type! {
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
