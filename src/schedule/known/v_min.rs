//! V-Min: a third of the memory of 1F1B (Qi et al. 2024, arXiv 2405.15362).

use super::stable::stable;
use super::{Definition, Task};

/// Two stages a node, down the nodes and back up. Forwards and backwards go through at full speed,
/// one micro-batch every six slots, so that few of them are under way. W fills the gaps, or makes
/// room for a forward.
///
/// Every node keeps at most 2 ((P + 4) div 3) halves of its state of a micro-batch: about a third
/// of what 1F1B's first node keeps. Idle time if F, I and W take the same, from M = 2 on:
/// (2 P - 5/2) F, and F more if 3 divides P; none with one node. Where W and the others do not take
/// the same, the steps of neighbours do not mesh, and more is idle.
pub(super) fn v_min(task: &Task) -> Definition {
    let nodes = task.nodes().get();
    let apart = if nodes.is_multiple_of(3) { 2 } else { 0 };
    stable(task, 2 * ((nodes + 4) / 3), |node| {
        [
            node,
            2 * nodes - node - 1,
            2 * nodes + apart + node,
            4 * nodes + apart - node - 1,
        ]
    })
}
