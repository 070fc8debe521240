//! Tags: every message of a walk has a number, the same on all nodes.

use crate::error::Cause;
use crate::ids::{LayerIndex, MicroBatchCount, NodeId, SharedId};
use crate::schedule::{Lane, Layout};
use crate::wire::{MessageId, Subject};

/// Tags below are for what is not part of a walk.
const FIRST_TAG: usize = 16;

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
    /// Of a walk through this layout, where no tag may be larger.
    pub(super) fn new(
        layout: &Layout,
        micro_batches: MicroBatchCount,
        largest_tag: usize,
    ) -> Result<Self, Cause> {
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
        if tags > largest_tag {
            return Err(Cause::Machine {
                what: "numbering the messages of a step for MPI",
                problem: format!(
                    "{tags} tags are needed and {largest_tag} exist; use fewer micro-batches"
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{MicroBatchId, NodeCount, PassId, ReplicaId, StageId};
    use crate::placement::Placement;
    use crate::schedule::SharedSum;
    use std::collections::BTreeSet;

    #[test]
    fn no_two_messages_to_a_node_have_one_tag() {
        let placement = Placement::straight(NodeCount::new(3));
        let mut layout = Layout::chain(placement);
        let holder = |layer| (LayerIndex::new(layer), StageId::new(layer));
        layout.shared = vec![SharedSum {
            shared: SharedId::new(7),
            holders: vec![holder(0), holder(2)],
        }];
        let micro_batches = MicroBatchCount::new(5);
        let numbers = Numbers::new(&layout, micro_batches, 1 << 20).unwrap();
        let mut subjects = Vec::new();
        for route in &layout.routes {
            let each = (0..5).map(MicroBatchId::new);
            subjects.extend(each.map(|m| (Subject::Lane(route.lane, m), 0)));
        }
        for layer in [0, 2] {
            let part = Subject::SharedPart(SharedId::new(7), LayerIndex::new(layer));
            subjects.push((part, 0));
        }
        for node in 0..3 {
            subjects.push((Subject::SharedTotal(SharedId::new(7)), node));
            subjects.push((Subject::Scalars(NodeId::new(node)), 0));
            subjects.push((Subject::Verdict, node));
        }
        let mut tags = BTreeSet::new();
        for (subject, to) in &subjects {
            for pass in [4, 5] {
                let id = MessageId {
                    replica: ReplicaId::default(),
                    pass: PassId::new(pass),
                    subject: *subject,
                };
                tags.insert(numbers.tag(id, NodeId::new(*to)).unwrap());
            }
        }
        assert_eq!(tags.len(), 2 * subjects.len());
        assert!(*tags.first().unwrap() >= FIRST_TAG as i32);
        let most = *tags.last().unwrap() as usize;
        assert!(Numbers::new(&layout, micro_batches, most - 1).is_err());
    }
}
