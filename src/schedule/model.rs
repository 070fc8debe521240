//! The engine's model of running: when an action may happen. Written once; lowering, check and
//! simulator walk through it.
//!
//! - SEND puts a message into its lane and never waits, as long as the lane has a free slot. A lane
//!   without slots makes the sender wait until the receiver waits for that very message.
//! - WAIT needs the message.
//! - SUM and EXCHANGE need their members: the root needs everyone to have come, the others need the
//!   root to be done.
//! - Everything else may happen as soon as its turn comes.
//!
//! A lane has one sender and one receiver, so whoever makes something possible knows whom to wake:
//! the time is linear in the number of actions.

use super::wiring::Wiring;
use super::{Action, CheckError, Layout, Problem, Transfer};
use crate::ids::{NodeId, SharedId};

/// How many messages a lane holds.
#[derive(Clone, Copy)]
pub(super) enum Capacity<'a> {
    /// As many as there are.
    Unlimited,
    /// So many for each lane, by its number.
    Slots(&'a [u32]),
}

/// An action that happened.
#[derive(Clone, Copy)]
pub(super) struct Event {
    pub(super) node: NodeId,
    pub(super) index: usize,
    pub(super) action: Action,
    /// Lane and message, of a send or a wait.
    pub(super) message: Option<(usize, usize)>,
}

/// What a node cannot go on without.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    Message(usize),
    Room(usize),
    Sum(SharedId),
    Exchange,
}

/// A sum or exchange, whose members come one after the other. The first is the root.
struct Gathering {
    what: Need,
    members: Vec<NodeId>,
    come: usize,
    root_done: bool,
}

struct Walk<'a> {
    nodes: &'a [Vec<Action>],
    wiring: &'a Wiring,
    capacity: Capacity<'a>,
    at: Vec<usize>,
    sent: Vec<bool>,
    under_way: Vec<u32>,
    gatherings: Vec<Gathering>,
    needs: Vec<Option<Need>>,
    awake: Vec<NodeId>,
}

/// Walks through the lists in an order in which they can happen, and calls `on` with every action.
///
/// The order is one of many; whatever the order, the same actions happen (the walk only ever adds
/// possibilities), so getting stuck here is getting stuck always.
pub(super) fn walk(
    nodes: &[Vec<Action>],
    layout: &Layout,
    wiring: &Wiring,
    capacity: Capacity<'_>,
    mut on: impl FnMut(Event),
) -> Result<(), Box<CheckError>> {
    let gathering = |what, members| Gathering {
        what,
        members,
        come: 0,
        root_done: false,
    };
    let sums = layout.shared.iter();
    let mut gatherings: Vec<_> = sums
        .map(|sum| gathering(Need::Sum(sum.shared), layout.members(sum)))
        .collect();
    gatherings.push(gathering(Need::Exchange, layout.nodes().iter().collect()));
    let mut walk = Walk {
        nodes,
        wiring,
        capacity,
        at: vec![0; nodes.len()],
        sent: vec![false; wiring.messages()],
        under_way: vec![0; wiring.lanes()],
        gatherings,
        needs: vec![None; nodes.len()],
        awake: layout.nodes().iter().rev().collect(),
    };
    while let Some(node) = walk.awake.pop() {
        walk.run(node, &mut on)?;
    }
    walk.finished()
}

impl Walk<'_> {
    fn run(&mut self, node: NodeId, on: &mut impl FnMut(Event)) -> Result<(), Box<CheckError>> {
        let row = &self.nodes[node.index()];
        while let Some(&action) = row.get(self.at[node.index()]) {
            let index = self.at[node.index()];
            let message = match action {
                Action::Send(transfer) => Some(self.message(node, index, transfer, true)?),
                Action::Wait(transfer) => Some(self.message(node, index, transfer, false)?),
                _ => None,
            };
            let need = self.attempt(node, index, action, message)?;
            self.needs[node.index()] = need;
            if let Some(need) = need {
                // A receiver that waits makes room for a sender without slots.
                if let Need::Message(message) = need {
                    self.made_room(self.wiring.of_message(message).0);
                }
                return Ok(());
            }
            on(Event {
                node,
                index,
                action,
                message,
            });
            self.at[node.index()] += 1;
        }
        Ok(())
    }

    /// Lets an action happen, or says what it needs first.
    fn attempt(
        &mut self,
        node: NodeId,
        index: usize,
        action: Action,
        message: Option<(usize, usize)>,
    ) -> Result<Option<Need>, Box<CheckError>> {
        match (action, message) {
            (Action::Send(_), Some((lane, message))) => {
                if self.sent[message] {
                    return Err(self.error(node, index, Problem::SentTwice));
                }
                if !self.has_room(lane, message) {
                    return Ok(Some(Need::Room(lane)));
                }
                self.sent[message] = true;
                self.under_way[lane] += 1;
                self.wake(self.wiring.ends(lane).1, Need::Message(message));
                Ok(None)
            }
            (Action::Wait(_), Some((lane, message))) => {
                if !self.sent[message] {
                    return Ok(Some(Need::Message(message)));
                }
                self.under_way[lane] = self.under_way[lane].saturating_sub(1);
                self.made_room(lane);
                Ok(None)
            }
            (Action::SumShared(shared), _) => self.gather(node, index, Need::Sum(shared)),
            (Action::Exchange, _) => self.gather(node, index, Need::Exchange),
            (Action::Compute(_) | Action::Post(_) | Action::Step, _) => Ok(None),
            (Action::Send(_) | Action::Wait(_), None) => {
                Err(self.error(node, index, Problem::UnknownMessage))
            }
        }
    }

    fn has_room(&self, lane: usize, message: usize) -> bool {
        match self.capacity {
            Capacity::Unlimited => true,
            Capacity::Slots(slots) => match slots[lane] {
                0 => {
                    let (_, receiver) = self.wiring.ends(lane);
                    self.needs[receiver.index()] == Some(Need::Message(message))
                }
                slots => self.under_way[lane] < slots,
            },
        }
    }

    fn made_room(&mut self, lane: usize) {
        self.wake(self.wiring.ends(lane).0, Need::Room(lane));
    }

    /// Lane and message of a transfer that this node may do.
    fn message(
        &self,
        node: NodeId,
        index: usize,
        transfer: Transfer,
        sends: bool,
    ) -> Result<(usize, usize), Box<CheckError>> {
        let lane = self.wiring.number(transfer.lane);
        let message = lane.and_then(|lane| self.wiring.message(lane, transfer.micro_batch));
        let (Some(lane), Some(message)) = (lane, message) else {
            return Err(self.error(node, index, Problem::UnknownMessage));
        };
        let (from, to) = self.wiring.ends(lane);
        let owner = if sends { from } else { to };
        match owner == node {
            true => Ok((lane, message)),
            false => Err(self.error(node, index, Problem::WrongNode(owner))),
        }
    }

    /// Whether the node must still wait for the others of a sum or exchange.
    fn gather(
        &mut self,
        node: NodeId,
        index: usize,
        what: Need,
    ) -> Result<Option<Need>, Box<CheckError>> {
        let again = self.needs[node.index()] == Some(what);
        let found = (self.gatherings.iter_mut())
            .find(|gathering| gathering.what == what)
            .filter(|it| what == Need::Exchange || it.members.contains(&node));
        let Some(gathering) = found else {
            return Err(self.error(node, index, Problem::UnknownShared));
        };
        gathering.come += usize::from(!again);
        let everyone = gathering.come == gathering.members.len();
        let root = gathering.members[0];
        if node == root {
            if !everyone {
                return Ok(Some(what));
            }
            gathering.root_done = true;
            for at in 1..gathering.members.len() {
                let member = gathering.members[at];
                if self.needs[member.index()] == Some(what) {
                    self.awake.push(member);
                }
            }
            return Ok(None);
        }
        if gathering.root_done {
            return Ok(None);
        }
        if everyone {
            self.wake(root, what);
        }
        Ok(Some(what))
    }

    fn wake(&mut self, node: NodeId, need: Need) {
        if self.needs[node.index()] == Some(need) {
            self.awake.push(node);
        }
    }

    fn error(&self, node: NodeId, index: usize, problem: Problem) -> Box<CheckError> {
        CheckError::new(self.nodes, node, index, problem)
    }

    fn finished(&self) -> Result<(), Box<CheckError>> {
        let standing = |node: NodeId| {
            let row = self.nodes.get(node.index())?;
            let action = row.get(self.at[node.index()])?;
            Some((node, self.at[node.index()], *action))
        };
        let nodes = (0..self.nodes.len() as u32).map(NodeId::new);
        let stuck: Vec<_> = nodes.filter_map(standing).collect();
        match stuck.first() {
            None => Ok(()),
            Some(_) => Err(CheckError::deadlock(self.nodes, &stuck)),
        }
    }
}
