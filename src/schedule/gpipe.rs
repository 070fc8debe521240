//! GPipe: fill and drain (Huang et al. 2019, arXiv 1811.06965).

use super::{Compute, Definition, Work};
use crate::ids::{MicroBatchCount, NodeCount, StageId};

/// All forwards, then all backwards, both in ascending order.
///
/// Every node keeps the state of all micro-batches. Idle time: (P - 1) (F + B) of M (F + B).
///
/// ```text
/// node 0  F0 F1 F2       B0 B1 B2
/// node 1     F0 F1 F2 B0 B1 B2        (B as long as F here)
/// ```
pub fn gpipe(nodes: NodeCount, micro_batches: MicroBatchCount) -> Definition {
    let all = |stage, work| {
        micro_batches
            .iter()
            .map(move |m| Compute::new(stage, work, m))
    };
    (nodes.iter())
        .map(|node| StageId::new(node.get()))
        .map(|stage| all(stage, Work::F).chain(all(stage, Work::B)).collect())
        .collect()
}
