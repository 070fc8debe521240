//! How many messages of a lane can be ahead of their receives, in the partial order of the lists.
//!
//! Every node knows, for other nodes, how far they have surely come: through the messages it
//! received (a vector clock: Fidge 1988, Mattern 1989). A send of which `n` came before on its
//! lane, while `k` receives are surely done, finds at most `n - k` messages under way.
//!
//! A clock needs few entries. Where two nodes are joined by a bridge (a link whose loss would part
//! the pipeline in two), nothing that one learns of the other came another way; so a message over a
//! bridge carries the entries of its two ends, and any other those of the nodes that are joined
//! without bridges. A chain of nodes, however long, is bridges only. Where more nodes than
//! [`MOST_TOGETHER`] are joined without bridges, as in a very long ring, every message carries its
//! two ends only: what would be known by other ways is left out, so that the slots are still enough
//! and may be more than are needed.

use super::model::{self, Capacity};
use super::wiring::Wiring;
use super::{Action, CheckError, Lane, Layout};
use crate::ids::{MicroBatchCount, MicroBatchId, NodeId};
use serde::Serialize;
use std::collections::BTreeMap;

/// Clocks are no longer: they take the square of it in memory, and as much time a message.
const MOST_TOGETHER: usize = 1024;

/// How many messages of a lane can be ahead of their receives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Slots(Vec<(Lane, u32)>);

impl Slots {
    /// The slots of a lane; 0 for a lane that does not leave its node.
    pub fn of(&self, lane: Lane) -> u32 {
        self.0
            .binary_search_by_key(&lane, |(lane, _)| *lane)
            .map_or(0, |at| self.0[at].1)
    }

    /// Every lane between nodes, with its slots.
    pub fn iter(&self) -> impl Iterator<Item = (Lane, u32)> + '_ {
        self.0.iter().copied()
    }
}

/// Nodes whose positions travel together.
struct Group {
    members: Vec<NodeId>,
    /// What each member knows of each, a row a member.
    clocks: Vec<u32>,
    /// Rows on their way, and places among them that are free.
    carried: Vec<u32>,
    free: Vec<u32>,
}

impl Group {
    fn new(members: Vec<NodeId>) -> Self {
        let clocks = vec![0; members.len() * members.len()];
        let (carried, free) = (Vec::new(), Vec::new());
        Self {
            members,
            clocks,
            carried,
            free,
        }
    }

    fn place(&self, node: NodeId) -> usize {
        self.members.partition_point(|member| *member < node)
    }

    /// A member sends what it knows, its own position included.
    fn send(&mut self, member: usize, position: u32) -> u32 {
        let width = self.members.len();
        let own = member * width;
        self.clocks[own + member] = position;
        let at = self.free.pop().unwrap_or_else(|| {
            let at = self.carried.len() / width;
            self.carried.resize((at + 1) * width, 0);
            at as u32
        });
        let to = at as usize * width;
        self.carried[to..to + width].copy_from_slice(&self.clocks[own..own + width]);
        at
    }

    /// A member learns what was sent.
    fn receive(&mut self, member: usize, at: u32) {
        let width = self.members.len();
        let theirs = &self.carried[at as usize * width..][..width];
        let mine = &mut self.clocks[member * width..][..width];
        (mine.iter_mut().zip(theirs)).for_each(|(mine, theirs)| *mine = (*mine).max(*theirs));
        self.free.push(at);
    }
}

/// What is known of a lane.
#[derive(Clone, Default)]
struct Use {
    group: usize,
    /// The places of sender and receiver in the group.
    ends: (usize, usize),
    /// The receiver's positions of its waits, ascending; how many are surely done.
    waits: Vec<u32>,
    done: usize,
    sent: u32,
    needs: Needs,
}

/// The most messages of a lane that can be under way, and the entry in the sender's list that
/// makes them so many.
#[derive(Clone, Copy, Default)]
pub(super) struct Needs {
    pub(super) slots: u32,
    pub(super) index: usize,
}

/// The slots that the lists need, whatever the order in which they happen.
pub(super) fn count(
    nodes: &[Vec<Action>],
    layout: &Layout,
    wiring: &Wiring,
) -> Result<Slots, Box<CheckError>> {
    let needs = needs(nodes, layout, wiring)?.into_iter().enumerate();
    let used = needs.filter(|(_, needs)| needs.slots > 0);
    Ok(Slots(
        used.map(|(lane, needs)| (wiring.lane(lane), needs.slots))
            .collect(),
    ))
}

/// What every lane needs.
///
/// # Errors
/// When the lists cannot end, however many slots there are.
pub(super) fn needs(
    nodes: &[Vec<Action>],
    layout: &Layout,
    wiring: &Wiring,
) -> Result<Vec<Needs>, Box<CheckError>> {
    needs_known(nodes, layout, wiring, MOST_TOGETHER, |_, _| ())
}

/// How far a node must have come in its list before a message can come to it, in the partial order
/// of the lists: by lane and micro-batch.
///
/// # Errors
/// When the lists cannot end.
pub(crate) fn first_moments(
    nodes: &[Vec<Action>],
    layout: &Layout,
    micro_batches: MicroBatchCount,
) -> Result<BTreeMap<(Lane, MicroBatchId), usize>, Box<CheckError>> {
    let wiring = Wiring::new(layout, micro_batches);
    let mut moments = BTreeMap::new();
    needs_known(nodes, layout, &wiring, MOST_TOGETHER, |message, known| {
        let (lane, micro_batch) = wiring.of_message(message);
        moments.insert((wiring.lane(lane), micro_batch), known as usize);
    })?;
    Ok(moments)
}

fn needs_known(
    nodes: &[Vec<Action>],
    layout: &Layout,
    wiring: &Wiring,
    most_together: usize,
    mut on_send: impl FnMut(usize, u32),
) -> Result<Vec<Needs>, Box<CheckError>> {
    let (mut groups, mut lanes) = group(nodes.len(), wiring, most_together);
    for action in nodes.iter().flat_map(|row| row.iter().enumerate()) {
        if let (at, Action::Wait(transfer)) = action
            && let Some(lane) = wiring.number(transfer.lane)
        {
            lanes[lane].waits.push(at as u32);
        }
    }
    let mut carried = vec![0u32; wiring.messages()];
    model::walk(nodes, layout, wiring, Capacity::Unlimited, |event| {
        let Some((lane, message)) = event.message else {
            return;
        };
        let lane = &mut lanes[lane];
        let group = &mut groups[lane.group];
        let (from, to) = lane.ends;
        if let Action::Wait(_) = event.action {
            group.receive(to, carried[message]);
            return;
        }
        let known = group.clocks[from * group.members.len() + to];
        on_send(message, known);
        while lane.waits.get(lane.done).is_some_and(|at| *at < known) {
            lane.done += 1;
        }
        lane.sent += 1;
        let slots = lane.sent.saturating_sub(lane.done as u32);
        if slots > lane.needs.slots {
            let index = event.index;
            lane.needs = Needs { slots, index };
        }
        carried[message] = group.send(from, event.index as u32 + 1);
    })?;
    Ok(lanes.into_iter().map(|lane| lane.needs).collect())
}

/// Whose positions travel together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Together {
    /// Nodes that are joined without bridges.
    Part(usize),
    /// The two ends of a link.
    Ends(NodeId, NodeId),
}

/// Groups of nodes, and every lane's.
fn group(nodes: usize, wiring: &Wiring, most_together: usize) -> (Vec<Group>, Vec<Use>) {
    let mut neighbours = vec![Vec::new(); nodes];
    for lane in 0..wiring.lanes() {
        let (from, to) = wiring.ends(lane);
        neighbours[from.index()].push(to.index());
        neighbours[to.index()].push(from.index());
    }
    for list in &mut neighbours {
        list.sort_unstable();
        list.dedup();
    }
    let part_of = parts_without_bridges(&neighbours);
    let mut parts = BTreeMap::<usize, Vec<NodeId>>::new();
    for (node, part) in (0..).map(NodeId::new).zip(&part_of) {
        parts.entry(*part).or_default().push(node);
    }
    let key = |(from, to): (NodeId, NodeId)| {
        let part = part_of[from.index()];
        match part == part_of[to.index()] && parts[&part].len() <= most_together {
            true => Together::Part(part),
            false => Together::Ends(from.min(to), from.max(to)),
        }
    };
    let mut members = BTreeMap::<Together, Vec<NodeId>>::new();
    for lane in 0..wiring.lanes() {
        let together = key(wiring.ends(lane));
        members.entry(together).or_insert_with(|| match together {
            Together::Part(part) => parts[&part].clone(),
            Together::Ends(low, high) => vec![low, high],
        });
    }
    let numbers: BTreeMap<_, _> = members.keys().copied().zip(0..).collect();
    let groups: Vec<_> = members.into_values().map(Group::new).collect();
    let lanes = (0..wiring.lanes()).map(|lane| {
        let ends = wiring.ends(lane);
        let group: usize = numbers[&key(ends)];
        let place = |node| groups[group].place(node);
        Use {
            group,
            ends: (place(ends.0), place(ends.1)),
            ..Use::default()
        }
    });
    let lanes = lanes.collect();
    (groups, lanes)
}

/// Which nodes stay joined when all bridges are gone (Tarjan 1974): a number for each node.
fn parts_without_bridges(neighbours: &[Vec<usize>]) -> Vec<usize> {
    const NEW: usize = usize::MAX;
    let nodes = neighbours.len();
    let (mut found, mut low, mut part) = (vec![NEW; nodes], vec![NEW; nodes], vec![NEW; nodes]);
    let (mut time, mut open) = (0, Vec::new());
    for root in 0..nodes {
        if found[root] != NEW {
            continue;
        }
        // Node, where it was found from, and its next neighbour.
        let mut path = vec![(root, NEW, 0)];
        while let Some((node, parent, next)) = path.pop() {
            if next == 0 {
                (found[node], low[node]) = (time, time);
                time += 1;
                open.push(node);
            }
            match neighbours[node].get(next) {
                Some(&other) => {
                    path.push((node, parent, next + 1));
                    if found[other] == NEW {
                        path.push((other, node, 0));
                    } else if other != parent {
                        low[node] = low[node].min(found[other]);
                    }
                }
                None => {
                    if let Some(low_parent) = low.get(parent).copied() {
                        low[parent] = low_parent.min(low[node]);
                    }
                    if low[node] == found[node] {
                        while let Some(member) = open.pop() {
                            part[member] = node;
                            if member == node {
                                break;
                            }
                        }
                    }
                }
            }
        }
    }
    part
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::NodeCount;
    use crate::schedule::{Schedule, ScheduleKind, Task, lower};

    /// As if the ring were too long for clocks of all its nodes.
    #[test]
    fn long_rings_get_as_many_slots_or_more() {
        let mut more = 0;
        for kind in [ScheduleKind::Interleaved1F1B, ScheduleKind::LoopedBfs] {
            for (nodes, chunks) in [(3, 2), (4, 2), (4, 3), (5, 2)] {
                let placement = kind.place(NodeCount::new(nodes), Some(chunks)).unwrap();
                let micro_batches = MicroBatchCount::new(2 * nodes);
                let task = Task::new(placement.clone(), micro_batches);
                let layout = Layout::chain(placement);
                let definition = kind.define(&task).unwrap();
                let lowered = lower(&definition, &layout, micro_batches).unwrap();
                let wiring = Wiring::new(&layout, micro_batches);
                let needs = |most| {
                    let needs = needs_known(&lowered.nodes, &layout, &wiring, most, |_, _| ());
                    let needs = needs.unwrap();
                    needs.iter().map(|needs| needs.slots).collect::<Vec<_>>()
                };
                for (all, ends) in needs(MOST_TOGETHER).into_iter().zip(needs(2)) {
                    assert!(all <= ends && ends <= 2 * nodes);
                    more += usize::from(all < ends);
                }
            }
        }
        assert!(more > 0, "it makes a difference");
    }

    #[test]
    fn a_chain_is_bridges_only_and_a_ring_has_none() {
        let chain = [vec![1], vec![0, 2], vec![1]];
        assert_eq!(parts_without_bridges(&chain), [0, 1, 2]);
        let ring = [vec![1, 2], vec![0, 2], vec![0, 1]];
        assert_eq!(parts_without_bridges(&ring), [0, 0, 0]);
        // Two triangles with a bridge between them, and a node by itself.
        let two = [
            vec![1, 2],
            vec![0, 2],
            vec![0, 1, 3],
            vec![2, 4, 5],
            vec![3, 5],
            vec![3, 4],
            vec![],
        ];
        let parts = parts_without_bridges(&two);
        assert_eq!(parts[..3], [parts[0]; 3]);
        assert_eq!(parts[3..6], [parts[3]; 3]);
        assert!(parts[0] != parts[3] && parts[6] != parts[0] && parts[6] != parts[3]);
    }
}
