//! Writes the list of one node: says which work and chunk come next, and counts micro-batches
//! itself.

use super::{Compute, Definition, Task, Work};
use crate::ids::{MicroBatchId, NodeId, StageId};
use std::collections::VecDeque;

/// What to write next. Chunks count the stages of a node in order.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// Forward of a chunk, for its next micro-batch.
    F(usize),
    /// Full backward of a chunk, for its next micro-batch.
    B(usize),
    /// Backward for inputs. Its W is owed from here on.
    I(usize),
    /// The oldest W that a chunk owes, if any.
    W(usize),
    /// The oldest W of all that are owed, if any.
    Oldest,
    /// F of one chunk together with B of another.
    Both(usize, usize),
}

/// The list of one node.
pub(super) struct Row {
    stages: Vec<StageId>,
    forward: Vec<u32>,
    backward: Vec<u32>,
    owed: VecDeque<Compute>,
    list: Vec<Compute>,
    pairs: Vec<u32>,
}

impl Row {
    pub(super) fn new(task: &Task, node: NodeId) -> Self {
        let stages: Vec<_> = task.placement.stages_on(node).collect();
        let none = vec![0; stages.len()];
        Self {
            stages,
            forward: none.clone(),
            backward: none,
            owed: VecDeque::new(),
            list: Vec::new(),
            pairs: Vec::new(),
        }
    }

    /// Writes these steps one after the other, so many times.
    pub(super) fn repeat(&mut self, times: u32, steps: &[Step]) {
        for _ in 0..times {
            steps.iter().for_each(|step| self.write(*step));
        }
    }

    pub(super) fn write(&mut self, step: Step) {
        match step {
            Step::F(chunk) => self.forward(chunk),
            Step::B(chunk) => {
                self.backward(Work::B, chunk);
            }
            Step::I(chunk) => {
                let done = self.backward(Work::I, chunk);
                let work = Work::W;
                self.owed.push_back(Compute { work, ..done });
            }
            Step::W(chunk) => {
                let of_chunk = |owed: &Compute| owed.stage == self.stages[chunk];
                let at = self.owed.iter().position(of_chunk);
                self.list.extend(at.and_then(|at| self.owed.remove(at)));
            }
            Step::Oldest => self.list.extend(self.owed.pop_front()),
            Step::Both(forward, backward) => {
                self.pairs.push(self.list.len() as u32);
                self.forward(forward);
                self.backward(Work::B, backward);
            }
        }
    }

    /// How many forwards of a chunk are written.
    pub(super) fn forwards(&self, chunk: usize) -> u32 {
        self.forward[chunk]
    }

    /// How many backwards of a chunk are written.
    pub(super) fn backwards(&self, chunk: usize) -> u32 {
        self.backward[chunk]
    }

    /// How many W are owed.
    pub(super) fn owed(&self) -> u32 {
        self.owed.len() as u32
    }

    /// How many chunks of micro-batches are kept: from F to W.
    pub(super) fn kept(&self) -> u32 {
        let (forward, backward) = (self.forward.iter(), self.backward.iter());
        forward.sum::<u32>() - backward.sum::<u32>() + self.owed()
    }

    /// Every W that is still owed, oldest first.
    pub(super) fn settle(&mut self) {
        self.list.extend(self.owed.drain(..));
    }

    fn forward(&mut self, chunk: usize) {
        let micro_batch = MicroBatchId::new(self.forward[chunk]);
        let done = Compute::new(self.stages[chunk], Work::F, micro_batch);
        self.forward[chunk] += 1;
        self.list.push(done);
    }

    fn backward(&mut self, work: Work, chunk: usize) -> Compute {
        let micro_batch = MicroBatchId::new(self.backward[chunk]);
        let done = Compute::new(self.stages[chunk], work, micro_batch);
        self.backward[chunk] += 1;
        self.list.push(done);
        done
    }
}

/// The lists of all nodes, as `write` writes each of them: it is told the node's number.
pub(super) fn rows(task: &Task, write: impl Fn(u32, &mut Row)) -> Definition {
    let row = |node: NodeId| {
        let mut row = Row::new(task, node);
        write(node.get(), &mut row);
        row
    };
    task.nodes().iter().map(row).collect()
}

impl FromIterator<Row> for Definition {
    fn from_iter<T: IntoIterator<Item = Row>>(rows: T) -> Self {
        let lists = rows.into_iter().map(|row| (row.list, row.pairs));
        let (nodes, pairs): (Vec<_>, Vec<_>) = lists.unzip();
        let paired = pairs.iter().any(|pairs| !pairs.is_empty());
        let pairs = if paired { pairs } else { Vec::new() };
        Self { nodes, pairs }
    }
}
