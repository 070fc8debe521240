//! DualPipeV: forwards and backwards in pairs, on a V (DualPipe, DeepSeek-AI 2024, arXiv
//! 2412.19437, cut in half by Sea AI Lab 2025).

use super::row::{Step, rows};
use super::{Definition, Task};
use crate::error::PlanError;
use crate::schedule::counted;

/// Two stages a node, down the nodes and back up. In the steady part each forward of one stage is
/// paired with a backward of the other, so that one can compute while the other's messages travel.
/// Needs two micro-batches for each node.
///
/// Every node keeps at most 2 P + 1 halves of its state of a micro-batch.
/// Idle time: (P - 1) F if F, I and W take the same and a pair takes as long as its two halves:
/// more than ZB-V, so it pays only where pairs are faster than that.
///
/// Two nodes, pairs in brackets:
///
/// ```text
/// node 0  0F0 0F1 0F2 3F0 3I0 3W0 3F1 [0F3 3B1] [3F2 0B0] 3B2 [3F3 0B1] 3B3 0I2 0W2 0I3 0W3
/// node 1  1F0 2F0 1F1 2F1 1F2 2B0 [2F2 1B0] [1F3 2B1] [2F3 1B1] 2B2 1B2 2I3 1I3 2W3 1W3
/// ```
pub(super) fn dualpipe_v(task: &Task) -> Result<Definition, PlanError> {
    use Step::{B, Both, F, I, Oldest, W};
    let (nodes, micro_batches) = (task.nodes().get(), task.micro_batches.get());
    let Some(more) = micro_batches.checked_sub(2 * nodes) else {
        return Err(PlanError::Illegal {
            schedule: "dualpipe-v".to_owned(),
            reason: format!(
                "{} on {}: it needs two for each node",
                counted(micro_batches, "micro-batch"),
                counted(nodes, "node")
            ),
            nearest: format!("{} micro-batches", 2 * nodes),
        });
    };
    Ok(rows(task, |before, row| {
        let behind = nodes - 1 - before;
        // Warm-up: down, then down and up, then the first backwards.
        row.repeat(2 * behind, &[F(0)]);
        row.repeat(before + 1, &[F(0), F(1)]);
        row.repeat(behind, &[I(1), W(1), F(1)]);
        // Steady. The last node's first pair would need its own forward: it is none.
        let last = u32::from(behind == 0);
        row.repeat(last, &[F(0), B(1), Both(1, 0)]);
        row.repeat(more + before + 1 - last, &[Both(0, 1), Both(1, 0)]);
        row.repeat(behind, &[B(1), Both(1, 0)]);
        // Cool-down: backwards up and down, in two parts from the middle on; then W.
        let halves = before.div_ceil(2);
        row.repeat(halves, &[B(1), B(0)]);
        if before % 2 == 0 {
            row.repeat(1, &[B(1), I(0)]);
        }
        row.repeat(halves, &[I(1), I(0)]);
        row.repeat(behind, &[Oldest, I(0)]);
        row.repeat(before + 1, &[Oldest]);
    }))
}
