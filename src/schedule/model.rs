//! The engine's model of running: when an action may happen. Written once; lowering, check and
//! simulator walk through it.
//!
//! - SEND puts a message into its lane and never waits, as long as the lane has a free slot. A lane
//!   without slots makes the sender wait until the receiver waits for that very message.
//! - WAIT needs the message.
//! - SUM and EXCHANGE need their members: the root needs everyone to have come, the others need the
//!   root to be done.
//! - Everything else may happen as soon as its turn comes.

use super::{Action, CheckError, Lane, Layout, Problem};
use crate::ids::{MicroBatchCount, NodeId, SharedId};
use std::collections::BTreeMap;

/// How many messages a lane holds.
#[derive(Clone, Copy)]
pub(super) enum Capacity<'a> {
    /// As many as there are.
    Unlimited,
    /// So many for each lane.
    Slots(&'a dyn Fn(Lane) -> u32),
}

/// An action that happened.
#[derive(Clone, Copy)]
pub(super) struct Event {
    pub(super) node: NodeId,
    pub(super) index: usize,
    pub(super) action: Action,
}

/// What a node cannot go on without.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Need {
    Message(usize),
    Room(usize),
    Sum(SharedId),
    Exchange,
}

#[derive(Default)]
struct Gathering {
    come: Vec<bool>,
    root_done: bool,
}

struct Walk<'a> {
    nodes: &'a [Vec<Action>],
    layout: &'a Layout,
    capacity: Capacity<'a>,
    lanes: Vec<Lane>,
    micro_batches: usize,
    at: Vec<usize>,
    sent: Vec<bool>,
    under_way: Vec<u32>,
    gatherings: BTreeMap<Option<SharedId>, Gathering>,
    asleep: BTreeMap<Need, Vec<NodeId>>,
    awake: Vec<NodeId>,
}

/// Walks through the lists in an order in which they can happen, and calls `on` with every action.
///
/// The order is one of many; whatever the order, the same actions happen (the walk only ever adds
/// possibilities), so getting stuck here is getting stuck always.
pub(super) fn walk(
    nodes: &[Vec<Action>],
    layout: &Layout,
    micro_batches: MicroBatchCount,
    capacity: Capacity<'_>,
    on: &mut dyn FnMut(Event),
) -> Result<(), Box<CheckError>> {
    let mut lanes: Vec<Lane> = layout.routes.iter().map(|route| route.lane).collect();
    lanes.sort_unstable();
    let messages = lanes.len() * micro_batches.index();
    let mut walk = Walk {
        nodes,
        layout,
        capacity,
        micro_batches: micro_batches.index(),
        at: vec![0; nodes.len()],
        sent: vec![false; messages],
        under_way: vec![0; lanes.len()],
        lanes,
        gatherings: BTreeMap::new(),
        asleep: BTreeMap::new(),
        awake: layout.nodes().iter().rev().collect(),
    };
    while let Some(node) = walk.awake.pop() {
        walk.run(node, on)?;
    }
    walk.finished()
}

impl Walk<'_> {
    fn run(&mut self, node: NodeId, on: &mut dyn FnMut(Event)) -> Result<(), Box<CheckError>> {
        let row = &self.nodes[node.index()];
        while let Some(&action) = row.get(self.at[node.index()]) {
            let index = self.at[node.index()];
            match self.attempt(node, index, action)? {
                Some(need) => {
                    self.asleep.entry(need).or_default().push(node);
                    // A receiver that waits makes room for a sender without slots.
                    if let Need::Message(message) = need {
                        self.wake(Need::Room(message / self.micro_batches));
                    }
                    return Ok(());
                }
                None => {
                    on(Event {
                        node,
                        index,
                        action,
                    });
                    self.at[node.index()] += 1;
                }
            }
        }
        Ok(())
    }

    /// Lets an action happen, or says what it needs first.
    fn attempt(
        &mut self,
        node: NodeId,
        index: usize,
        action: Action,
    ) -> Result<Option<Need>, Box<CheckError>> {
        match action {
            Action::Compute(_) | Action::Post(_) | Action::Step => Ok(None),
            Action::Send(transfer) => {
                let (lane, message) =
                    self.message(node, index, transfer.lane, transfer.micro_batch.index())?;
                if self.sent[message] {
                    return Err(self.error(node, index, Problem::SentTwice));
                }
                if !self.has_room(lane, message) {
                    return Ok(Some(Need::Room(lane)));
                }
                self.sent[message] = true;
                self.under_way[lane] += 1;
                self.wake(Need::Message(message));
                Ok(None)
            }
            Action::Wait(transfer) => {
                let (lane, message) =
                    self.message(node, index, transfer.lane, transfer.micro_batch.index())?;
                if !self.sent[message] {
                    return Ok(Some(Need::Message(message)));
                }
                self.under_way[lane] = self.under_way[lane].saturating_sub(1);
                self.wake(Need::Room(lane));
                Ok(None)
            }
            Action::SumShared(shared) => {
                let Some(sum) = self.layout.sum_of(shared) else {
                    return Err(self.error(node, index, Problem::UnknownShared));
                };
                let members = self.layout.members(sum);
                Ok(self
                    .gather(node, Some(shared), &members)
                    .then_some(Need::Sum(shared)))
            }
            Action::Exchange => {
                let members: Vec<_> = self.layout.nodes().iter().collect();
                Ok(self.gather(node, None, &members).then_some(Need::Exchange))
            }
        }
    }

    fn has_room(&self, lane: usize, message: usize) -> bool {
        match self.capacity {
            Capacity::Unlimited => true,
            Capacity::Slots(slots) => match slots(self.lanes[lane]) {
                0 => self
                    .asleep
                    .get(&Need::Message(message))
                    .is_some_and(|nodes| !nodes.is_empty()),
                slots => self.under_way[lane] < slots,
            },
        }
    }

    fn message(
        &self,
        node: NodeId,
        index: usize,
        lane: Lane,
        micro_batch: usize,
    ) -> Result<(usize, usize), Box<CheckError>> {
        let known = self
            .lanes
            .binary_search(&lane)
            .ok()
            .filter(|_| micro_batch < self.micro_batches);
        let lane = known.ok_or_else(|| self.error(node, index, Problem::UnknownMessage))?;
        Ok((lane, lane * self.micro_batches + micro_batch))
    }

    /// Whether the node must still wait for the others of a sum or exchange.
    fn gather(&mut self, node: NodeId, what: Option<SharedId>, members: &[NodeId]) -> bool {
        let gathering = self.gatherings.entry(what).or_default();
        gathering.come.resize(self.nodes.len(), false);
        let first_time = !std::mem::replace(&mut gathering.come[node.index()], true);
        let everyone = members.iter().all(|member| gathering.come[member.index()]);
        let waits = if members.first() == Some(&node) {
            gathering.root_done |= everyone;
            !everyone
        } else {
            !gathering.root_done
        };
        if first_time || !waits {
            self.wake(what.map_or(Need::Exchange, Need::Sum));
        }
        waits
    }

    fn wake(&mut self, need: Need) {
        if let Some(nodes) = self.asleep.remove(&need) {
            self.awake.extend(nodes);
        }
    }

    fn error(&self, node: NodeId, index: usize, problem: Problem) -> Box<CheckError> {
        CheckError::new(self.nodes, node, index, problem)
    }

    fn finished(&self) -> Result<(), Box<CheckError>> {
        let stuck = self
            .layout
            .nodes()
            .iter()
            .zip(self.nodes)
            .find(|(node, row)| self.at[node.index()] < row.len());
        let Some((node, _)) = stuck else {
            return Ok(());
        };
        let others = (self.layout.nodes().iter().zip(self.nodes))
            .filter_map(|(node, row)| Some((node, *row.get(self.at[node.index()])?)))
            .collect();
        Err(self.error(
            node,
            self.at[node.index()],
            Problem::Deadlock { waiting: others },
        ))
    }
}
