//! Interleaved 1F1B (Narayanan et al. 2021, arXiv 2104.04473).

use super::row::{Step, rows};
use super::{Definition, Task};
use crate::error::PlanError;
use crate::schedule::counted;

/// Micro-batches go in rounds of about one for each node. A node takes a round through its first
/// chunk, then its second, and so on; then the next round. Warm-up: enough forwards that the first
/// backward is there when they are done. Steady: one forward, one backward, the chunks of the
/// backward from last to first. Cool-down: the rest backward.
///
/// Rounds are of equal size R: there are max(1, M div P) of them, and they must divide M.
///
/// With v chunks, node r keeps at most min(M v, (v - 1) R + 2 (P - 1 - r) + 1) chunks, each one
/// v-th of the node's state of a micro-batch. Idle time: (P - 1) (F + B) / v, a v-th of 1F1B's; in
/// exchange every micro-batch goes around v times. With M < P nodes wait for each round:
/// (P - M) (F + B) (v - 1) / v more.
///
/// ```text
/// node 0  0F0 0F1 2F0 2F1         2B0     2B1     0B0     0B1
/// node 1      1F0 1F1 3F0 3B0     3F1 3B1     1B0     1B1
/// ```
pub(super) fn interleaved_1f1b(task: &Task) -> Result<Definition, PlanError> {
    let rounds = Rounds::of(task, "interleaved-1f1b")?;
    let nodes = task.nodes().get();
    Ok(rows(task, |node, row| {
        let warm_up = rounds.warm_up(2 * (nodes - 1 - node));
        for step in 0..rounds.all() + warm_up {
            if step < rounds.all() {
                row.write(Step::F(rounds.forward(step)));
            }
            if step >= warm_up {
                row.write(Step::B(rounds.backward(step - warm_up)));
            }
        }
    }))
}

/// Rounds of micro-batches through the chunks of a node.
pub(super) struct Rounds {
    chunks: u32,
    micro_batches: u32,
    size: u32,
}

impl Rounds {
    /// # Errors
    /// When the micro-batches do not divide into equal rounds.
    pub(super) fn of(task: &Task, schedule: &str) -> Result<Self, PlanError> {
        let (nodes, micro_batches) = (task.nodes().get(), task.micro_batches.get());
        let rounds = |micro_batches: u32| (micro_batches / nodes.max(1)).max(1);
        let legal = |count: &u32| count.is_multiple_of(rounds(*count));
        if !legal(&micro_batches) {
            let near = (0..micro_batches).rev().find(legal).into_iter();
            let near = near.chain((micro_batches + 1..).find(legal));
            let near: Vec<_> = near.map(|count| count.to_string()).collect();
            let rounds = rounds(micro_batches);
            return Err(PlanError::Illegal {
                schedule: schedule.to_owned(),
                reason: format!(
                    "{} on {}: they do not divide into {rounds} equal rounds",
                    counted(micro_batches, "micro-batch"),
                    counted(nodes, "node")
                ),
                nearest: format!("{} micro-batches", near.join(" or ")),
            });
        }
        Ok(Self {
            chunks: task.placement.chunks().unwrap_or(1) as u32,
            micro_batches,
            size: micro_batches / rounds(micro_batches),
        })
    }

    /// How many forwards a node does in all, and how many backwards.
    pub(super) fn all(&self) -> u32 {
        self.chunks * self.micro_batches
    }

    /// How many forwards come before the first backward: a round through all chunks but the last,
    /// and so many more.
    pub(super) fn warm_up(&self, more: u32) -> u32 {
        self.all().min((self.chunks - 1) * self.size + more)
    }

    /// The chunk of a forward of a node, counted from 0.
    pub(super) fn forward(&self, count: u32) -> usize {
        (count / self.size % self.chunks) as usize
    }

    /// The chunk of a backward of a node, counted from 0.
    pub(super) fn backward(&self, count: u32) -> usize {
        self.chunks as usize - 1 - self.forward(count)
    }
}
