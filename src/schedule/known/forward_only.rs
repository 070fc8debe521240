//! Forward only: evaluation and prediction.

use super::{Compute, Definition, Work};
use crate::ids::MicroBatchCount;
use crate::placement::Placement;

/// Every stage computes every micro-batch forward: stage after stage for the same micro-batch where
/// a node has several.
pub fn forward_only(placement: &Placement, micro_batches: MicroBatchCount) -> Definition {
    let row = |node| {
        let each = |m| {
            placement
                .stages_on(node)
                .map(move |stage| Compute::new(stage, Work::F, m))
        };
        micro_batches.iter().flat_map(each).collect()
    };
    placement.nodes().iter().map(row).collect::<Vec<_>>().into()
}
