//! Tags: every message of a walk has a number, the same on all nodes.

use crate::error::Cause;
use crate::ids::{LayerIndex, MicroBatchCount, NodeId, SharedId};
use crate::schedule::{Lane, Layout};
use crate::wire::{MessageId, Subject};

/// Tags below are for what is not part of a walk.
const FIRST_TAG: usize = 16;
/// MPI libraries have at least this many tags (MPICH has no more).
const TAGS: usize = 1 << 28;

/// Dense numbers of the messages of a walk.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    lanes: Vec<Lane>,
    micro_batches: usize,
    shared: Vec<(SharedId, Vec<LayerIndex>)>,
    /// The first part's number of every shared parameter, and the number behind the last.
    parts: Vec<usize>,
    nodes: usize,
}

impl Numbers {
    pub(super) fn new(layout: &Layout, micro_batches: MicroBatchCount) -> Result<Self, Cause> {
        let mut lanes: Vec<_> = layout.routes.iter().map(|route| route.lane).collect();
        lanes.sort_unstable();
        let shared: Vec<(_, Vec<_>)> = (layout.shared.iter())
            .map(|sum| {
                let layers = sum.holders.iter().map(|(layer, _)| *layer);
                (sum.shared, layers.collect())
            })
            .collect();
        let mut next = lanes.len() * micro_batches.index();
        let mut parts = vec![next];
        for (_, layers) in &shared {
            next += layers.len();
            parts.push(next);
        }
        let numbers = Self {
            lanes,
            micro_batches: micro_batches.index(),
            shared,
            parts,
            nodes: layout.nodes().index(),
        };
        let tags = FIRST_TAG + 2 * numbers.count();
        if tags > TAGS {
            return Err(Cause::Machine {
                what: "numbering the messages of a step for MPI",
                problem: format!(
                    "{tags} tags are needed and {TAGS} exist; use fewer micro-batches"
                ),
            });
        }
        Ok(numbers)
    }

    fn count(&self) -> usize {
        self.totals() + (self.shared.len() + 2) * self.nodes
    }

    /// The first number behind all parts of shared gradients.
    fn totals(&self) -> usize {
        self.parts.last().copied().unwrap_or(0)
    }

    /// The tag of a message to this node: its number, and the parity of the pass.
    pub(super) fn tag(&self, id: MessageId, to: NodeId) -> Result<i32, Cause> {
        let number = self.number(id.subject, to);
        let number = number.ok_or_else(|| Cause::Bug(format!("no number for {id}")))?;
        let parity = (id.pass.get() % 2) as usize;
        Ok((FIRST_TAG + 2 * number + parity) as i32)
    }

    fn number(&self, subject: Subject, to: NodeId) -> Option<usize> {
        let shared_at = |shared| self.shared.iter().position(|(id, _)| *id == shared);
        match subject {
            Subject::Lane(lane, micro_batch) => {
                let at = self.lanes.binary_search(&lane).ok()?;
                Some(at * self.micro_batches + micro_batch.index())
            }
            Subject::SharedPart(shared, layer) => {
                let at = shared_at(shared)?;
                let holder = self.shared[at].1.iter().position(|l| *l == layer)?;
                Some(self.parts[at] + holder)
            }
            Subject::SharedTotal(shared) => {
                Some(self.totals() + shared_at(shared)? * self.nodes + to.index())
            }
            Subject::Scalars(node) => {
                Some(self.totals() + self.shared.len() * self.nodes + node.index())
            }
            Subject::Verdict => {
                Some(self.totals() + (self.shared.len() + 1) * self.nodes + to.index())
            }
        }
    }
}
