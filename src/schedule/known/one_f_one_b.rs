//! 1F1B: one forward, one backward (PipeDream-Flush, Narayanan et al. 2021, arXiv 2006.09503;
//! DAPPLE, Fan et al. 2021).

use super::{Compute, Definition, Task, Work};
use crate::ids::{MicroBatchId, NodeId, StageId};

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
pub(super) fn one_f_one_b(task: &Task) -> Definition {
    let (nodes, micro_batches) = (task.nodes(), task.micro_batches.get());
    let row = |node: NodeId| row(node.get(), nodes.get(), micro_batches);
    nodes.iter().map(row).collect::<Vec<_>>().into()
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
