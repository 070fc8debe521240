//! ZB-V: zero bubble on a V (Qi et al., ICLR 2024, arXiv 2401.10241; Qi et al. 2024, arXiv
//! 2405.15362).

use super::row::{Step, rows};
use super::{Definition, Task};

/// Two stages a node, down the nodes and back up. Steady: forward and backward of one stage, then
/// of the other, with each W right after its I; around it, forwards fill the start and W the end.
/// With fewer than 2 P - 1 micro-batches it is the order for so many, without those there are not.
///
/// Node r keeps at most min(2 P, 2 M, M + 1 + r) halves of its state of a micro-batch: as much as
/// 1F1B's first node. Idle time if F, I and W take the same: (P - 1) F / 2 from
/// M = 1 + 3 (P - 1) / 2 on, and F more for each micro-batch fewer. That is all before a node's
/// first forward: from M = 2 P - 1 on, no node waits between its first action and its last.
///
/// ```text
/// node 0  0F0 0F1 0F2 3F0 3I0 3W0 3F1 3I1 3W1 0I0 0W0 3F2 3I2 3W2 0I1 0W1 0I2 0W2
/// node 1      1F0 2F0 1F1 2F1 2I0 2W0 1F2 1I0 1W0 2F2 2I1 2W1 1I1 2I2 1I2 1W1 2W2 1W2
/// ```
pub(super) fn zb_v(task: &Task) -> Definition {
    use Step::{F, I, W};
    let nodes = task.nodes().get();
    let micro_batches = task.micro_batches.get().max((2 * nodes).saturating_sub(1));
    let all = rows(task, |before, row| {
        let behind = nodes - 1 - before;
        // Warm-up: down, then down and up, then the first backwards.
        row.repeat(2 * behind + 1, &[F(0)]);
        row.repeat(before, &[F(1), F(0)]);
        row.repeat(behind + 1, &[F(1), I(1), W(1)]);
        // Steady; at its end the first stage has no forwards left.
        let steady = micro_batches + before + 1 - 2 * nodes;
        row.repeat(steady, &[F(0), I(0), W(0), F(1), I(1), W(1)]);
        row.repeat(behind, &[I(0), W(0), F(1), I(1), W(1)]);
        // Cool-down: backwards up and down, then W.
        row.repeat(before, &[I(0), I(1)]);
        row.repeat(behind + 1, &[I(0), W(0)]);
        row.repeat(before, &[W(1)]);
        row.repeat(before, &[W(0)]);
    });
    all.first(task.micro_batches)
}
