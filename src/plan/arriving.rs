//! Which messages may have come to a node at each moment of its list: those that it does not use
//! yet, and whose makers need nothing more of it.
//!
//! What follows from the lists decides, and nothing else: everything that can have happened without
//! the node's next action may have happened.

use super::Walk;
use crate::ids::{MicroBatchId, NodeId};
use crate::schedule::{Action, Lane, Layout, Transfer, first_moments};
use std::collections::BTreeMap;

/// How far each message's receiver must have come before it can be there.
pub(super) struct Moments(BTreeMap<(Lane, MicroBatchId), usize>);

impl Moments {
    pub(super) fn of(walk: &Walk, layout: &Layout) -> Self {
        let micro_batches = walk.batch.micro_batches();
        // Lists that cannot end are refused elsewhere; here anything may have come.
        let moments = first_moments(&walk.lowered.nodes, layout, micro_batches);
        Self(moments.unwrap_or_default())
    }
}

/// The messages of a node while its list is walked through.
pub(super) struct Arriving {
    /// From which place in the list on, and bytes: the earliest last.
    to_come: Vec<(usize, u64)>,
    bytes: u64,
}

impl Arriving {
    /// Of a node with this list. Where receives take their room at once, that is when they are
    /// posted.
    pub(super) fn new(
        moments: &Moments,
        (walk, node): (&Walk, NodeId),
        at_once: bool,
        bytes: &dyn Fn(Lane) -> u64,
    ) -> Self {
        let row = &walk.lowered.nodes[node.index()];
        let comes = |at: usize, transfer: &Transfer| {
            let key = (transfer.lane, transfer.micro_batch);
            let moment = moments.0.get(&key).copied().unwrap_or(0);
            (if at_once { at } else { moment }, bytes(transfer.lane))
        };
        let posts = row
            .iter()
            .enumerate()
            .filter_map(|(at, action)| match action {
                Action::Post(transfer) => Some(comes(at, transfer)),
                _ => None,
            });
        let mut to_come: Vec<_> = posts.collect();
        to_come.sort_unstable_by(|one, other| other.cmp(one));
        let bytes = 0;
        Self { to_come, bytes }
    }

    /// What may have come and is not used yet, while this entry of the list is at work.
    pub(super) fn at(&mut self, index: usize) -> u64 {
        while let Some((_, bytes)) = self.to_come.pop_if(|(from, _)| *from <= index) {
            self.bytes = self.bytes.saturating_add(bytes);
        }
        self.bytes
    }

    /// It is here, and is the stage's from now on.
    pub(super) fn taken(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}
