//! Interleaved zero bubble: ZB-H1 (Qi et al., ICLR 2024, arXiv 2401.10241) on several stages a
//! node, as PyTorch's `ScheduleInterleavedZeroBubble` has it.

use super::interleaved_1f1b::Rounds;
use super::row::{Step, rows};
use super::{Definition, Task};
use crate::error::PlanError;

/// Interleaved 1F1B with the backward in two: I is handed on at once, W waits for a gap. The
/// warm-up is shorter by half, and node r does a W only once r more I than that are done, so that
/// gradients reach the first node early and the gaps at the end are filled with W.
///
/// Rounds of R micro-batches as in interleaved 1F1B: max(1, M div P) of them must divide M.
///
/// With v chunks every node keeps at most (v - 1) R + P chunks, each one v-th of its state of a
/// micro-batch (M v if that is less). Idle time while W takes no longer than I:
/// (P - 1) (F + I - W) / v from M = P on; with M < P it is more.
///
/// ```text
/// node 0  0F0 0F1 2F0 2F1     2I0 2W0 2I1 2W1 0I0 0W0 0I1 0W1
/// node 1      1F0 1F1 3F0 3I0 3F1 3I1 3W0 1I0 3W1 1I1 1W0 1W1
/// ```
pub(super) fn interleaved_zb(task: &Task) -> Result<Definition, PlanError> {
    let rounds = Rounds::of(task, "interleaved-zb")?;
    let nodes = task.nodes().get();
    Ok(rows(task, |node, row| {
        let warm_up = rounds.warm_up(nodes - 1 - node);
        for step in 0..rounds.all() + warm_up {
            if step < rounds.all() {
                row.write(Step::F(rounds.forward(step)));
            }
            if step >= warm_up {
                let done = step - warm_up;
                row.write(Step::I(rounds.backward(done)));
                if done >= node {
                    row.write(Step::Oldest);
                }
            }
        }
        row.settle();
    }))
}
