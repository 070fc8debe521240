//! 1F1B: one forward, one backward (PipeDream-Flush, Narayanan et al. 2021, arXiv 2006.09503;
//! DAPPLE, Fan et al. 2021).

use super::{Compute, Definition, Work};
use crate::ids::{MicroBatchCount, MicroBatchId, NodeCount, StageId};

/// Warm-up: as many forwards as there are nodes behind. Steady: one forward, one backward.
/// Cool-down: the rest backward.
///
/// Node r keeps the state of at most P - r micro-batches. Idle time: (P - 1) (F + B), as GPipe;
/// only memory differs.
///
/// ```text
///         warm-up | steady      | cool-down
/// node 0  F0 F1   | F2 B0 F3 B1 | B2 B3
/// node 1     F0   | F1 B0 F2 B1 F3 B2 | B3
/// node 2          | F0 B0 F1 B1 F2 B2 F3 B3 |
/// ```
pub fn one_f_one_b(nodes: NodeCount, micro_batches: MicroBatchCount) -> Definition {
    nodes
        .iter()
        .map(|node| row(node.get(), nodes.get(), micro_batches.get()))
        .collect()
}

fn row(node: u32, nodes: u32, micro_batches: u32) -> Vec<Compute> {
    let stage = StageId::new(node);
    let warm_up = micro_batches.min(nodes - 1 - node);
    let forward = |m| Compute::new(stage, Work::F, MicroBatchId::new(m));
    let backward = |m| Compute::new(stage, Work::B, MicroBatchId::new(m));

    let mut row: Vec<_> = (0..warm_up).map(forward).collect();
    for steady in 0..micro_batches - warm_up {
        row.extend([forward(warm_up + steady), backward(steady)]);
    }
    row.extend((micro_batches - warm_up..micro_batches).map(backward));
    row
}
