//! V-Min: a third of the memory of 1F1B (Qi et al. 2024, arXiv 2405.15362).

use super::stable::stable;
use super::{Definition, Task};

/// Two stages a node, down the nodes and back up. Forwards and backwards go through at full speed,
/// one micro-batch every six slots, so that few of them are under way. W fills the gaps, or makes
/// room for a forward.
///
/// Every node keeps at most 2 ((P + 4) div 3) halves of its state of a micro-batch: about a third
/// of what 1F1B's first node keeps. Idle time if F, I and W take the same, from M = 2 on:
/// 2 (P - 1) F, two thirds of 1F1B's; F / 2 more if 3 divides P, else F / 2 less; none with one
/// node. The slots are for equal times: if they differ, each micro-batch may add idle time.
///
/// ```text
/// node 0  0F0                 5F0 0F1 5I0 5W0         5F1 0F2 0I0 5I1 0W0 5W1 ...
/// node 1      1F0         4F0         1F1 4I0 4W0 4F1     1I0 1F2 1W0 4I1 4F2 ...
/// node 2          2F0 3F0                 2F1 3F1 3I0 2I0 3W0 2W0 2F2 3F2 3I1 ...
/// ```
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
