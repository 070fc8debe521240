//! V-Half: half the memory of 1F1B (Qi et al. 2024, arXiv 2405.15362).

use super::stable::stable;
use super::{Definition, Task};

/// Two stages a node, down the nodes and back up. Forwards go down at half speed and up at full
/// speed, and so do backwards, so that every node keeps a micro-batch for about the same time. W
/// fills the gaps, or makes room for a forward.
///
/// Every node keeps at most 2 ((P + 2) div 2) halves of its state of a micro-batch: about half of
/// what 1F1B's first node keeps. Idle time if F, I and W take the same, from M = P div 2 + 1 on:
/// (P - 1) (F + B) / 2, half of 1F1B's; F / 2 less if P is odd and not 1. The slots are for equal
/// times: if they differ, each micro-batch may add idle time.
///
/// ```text
/// node 0  0F0         3F0 0F1 3I0 3W0 3F1     0I0 3I1 0W0 3W1 0I1 0W1
/// node 1      1F0 2F0         1F1 2F1 2I0 1I0 2W0 1W0 2I1 1I1 2W1 1W1
/// ```
pub(super) fn v_half(task: &Task) -> Definition {
    let nodes = task.nodes().get();
    let apart = if nodes.is_multiple_of(2) { 3 } else { 0 };
    stable(task, 2 * ((nodes + 2) / 2), |node| {
        [
            2 * node,
            3 * nodes - node - 2,
            3 * nodes + apart + 2 * node - 1,
            6 * nodes + apart - node - 2,
        ]
    })
}
