//! What travels over the edges of a network.

use super::Walk;
use crate::ids::MicroBatchId;
use crate::schedule::Lane;
use brigade_layer::{DType, LayerError, LayerShapes, Network, Precision, TensorSpec};

/// Tensors on the edges, by lane and micro-batch.
pub(crate) struct EdgeSpecs {
    /// Of a full micro-batch, and of the last one.
    shapes: [Vec<LayerShapes>; 2],
    last: MicroBatchId,
}

impl EdgeSpecs {
    pub(crate) fn new(network: &Network, walk: &Walk) -> Result<Self, LayerError> {
        let batch = walk.batch;
        let last = MicroBatchId::new(batch.micro_batches().get() - 1);
        let rows = [batch.largest(), batch.rows_of(last).len()];
        let [full, rest] = rows.map(|rows| walk.kind.shapes(network, rows));
        let shapes = [full?, rest?];
        Ok(Self { shapes, last })
    }

    /// As layers see it.
    pub(crate) fn of(
        &self,
        network: &Network,
        lane: Lane,
        micro_batch: MicroBatchId,
    ) -> TensorSpec {
        let edge = network.edges()[lane.edge.index()];
        let shapes = &self.shapes[usize::from(micro_batch == self.last)];
        shapes[edge.from.index()].outputs[edge.output]
    }
}

/// As it travels: two numbers of bf16 in 32 bits, where that is asked for.
pub(crate) fn travelling(spec: TensorSpec, wire: Precision) -> TensorSpec {
    match (wire, spec.dtype) {
        (Precision::Bf16, DType::F32) => TensorSpec::i32([spec.shape.elements().div_ceil(2)]),
        _ => spec,
    }
}
