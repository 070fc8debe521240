//! What the actions of a list take and leave, worked out once for every stage, so that a walk
//! through the list is a sum.

use super::Walk;
use super::arriving::{Arriving, Moments};
use super::edges::travelling;
use super::lying::Lying;
use super::memory::Prediction;
use super::recompute::Segment;
use super::tally::{Effect, Tally};
use crate::ids::{NodeId, StageId};
use crate::schedule::{Action, Compute, Direction, Lane, Work};
use std::collections::{BTreeMap, BTreeSet};

/// What lies around a stage and its node, whatever the order.
pub(super) struct Surroundings<'a> {
    pub(super) prediction: &'a Prediction<'a>,
    /// What lies ready while layers are at work, by stage.
    pub(super) lying: Vec<Lying>,
    /// What a stage hands over to others on its node, and what it takes from them: tensors that
    /// lie there in between. Forward and backward.
    pub(super) handed: Vec<[(u64, u64); 2]>,
    /// Messages, by lane.
    messages: BTreeMap<Lane, Message>,
    /// Bytes that leave a stage for other nodes after a forward and after a backward, as layers see
    /// them.
    leaving_bytes: Vec<[u64; 2]>,
    /// Lanes that leave a node, where what is sent stays until it has left.
    leaving: Vec<Vec<Lane>>,
    /// The largest value of a stage for which several gradients come back: the first two are added
    /// into a copy, because others may hold them as well.
    added: Vec<u64>,
}

/// What travels on a lane.
#[derive(Clone, Copy, Default)]
struct Message {
    bytes: u64,
    /// What comes as layers see it, and what goes where it leaves.
    comes: u64,
    goes: u64,
    /// Whether it travels in another form.
    converted: bool,
}

/// A list with what its actions do.
pub(super) struct Effects<'a> {
    surroundings: &'a Surroundings<'a>,
    walk: &'a Walk,
    stages: Vec<[Effect; 4]>,
    moments: Moments,
}

fn at(work: Work) -> usize {
    match work {
        Work::F => 0,
        Work::I => 1,
        Work::W => 2,
        Work::B => 3,
    }
}

impl<'a> Surroundings<'a> {
    pub(super) fn new(prediction: &'a Prediction<'a>) -> Self {
        let (partition, layout) = (prediction.partition, prediction.layout);
        let stages = partition.stages().index();
        let mut handed = vec![[(0, 0); 2]; stages];
        let mut messages = BTreeMap::new();
        let mut leaving_bytes = vec![[0; 2]; stages];
        let mut leaving = vec![Vec::new(); layout.nodes().index()];
        let (mut added, mut comes_back) = (vec![0; stages], BTreeSet::new());
        // A value that goes to several stages is there until it has gone to the last.
        let mut stays = BTreeSet::new();
        for route in layout.routes.iter().rev() {
            let edge = prediction.network.edges()[route.lane.edge.index()];
            let tensor = prediction.shapes[edge.from.index()].outputs[edge.output];
            let back = route.lane.direction == Direction::Backward;
            let side = usize::from(back);
            if back && !comes_back.insert((edge.from, edge.output)) {
                let added = &mut added[route.to.index()];
                *added = tensor.bytes().max(*added);
            }
            let goes = match route.lane.direction {
                Direction::Forward if !stays.insert((edge.from, edge.output)) => 0,
                _ => tensor.bytes(),
            };
            if layout.crosses(route) {
                leaving_bytes[route.from.index()][side] += goes;
                let travels = travelling(tensor, prediction.wire);
                let message = Message {
                    bytes: travels.bytes(),
                    comes: tensor.bytes(),
                    goes,
                    converted: travels != tensor,
                };
                messages.insert(route.lane, message);
                if prediction.across {
                    let from = layout.placement.node_of(route.from);
                    leaving[from.index()].push(route.lane);
                }
            } else {
                handed[route.from.index()][side].0 += tensor.bytes();
                handed[route.to.index()][side].1 += tensor.bytes();
            }
        }
        Self {
            prediction,
            lying: Lying::of_all(prediction),
            handed,
            messages,
            leaving_bytes,
            leaving,
            added,
        }
    }

    /// What leaves for other nodes once this is done.
    fn leaves(&self, compute: Compute) -> u64 {
        let [forward, backward] = self.leaving_bytes[compute.stage.index()];
        match compute.work {
            Work::F => forward,
            Work::I | Work::B => backward,
            Work::W => 0,
        }
    }

    /// What the actions of a list do where these segments are computed again.
    pub(super) fn effects(&'a self, walk: &'a Walk, segments: &[Vec<Segment>]) -> Effects<'a> {
        let trains = walk.kind == super::PassKind::Train;
        let partition = self.prediction.partition;
        let stage = |stage: StageId| {
            let segments = segments.get(stage.index()).map_or(&[][..], Vec::as_slice);
            let of = |work| Tally::of(self, (stage, segments), (work, trains));
            [Work::F, Work::I, Work::W, Work::B].map(of)
        };
        Effects {
            surroundings: self,
            walk,
            moments: Moments::of(walk, self.prediction.layout),
            stages: partition.stages().iter().map(stage).collect(),
        }
    }
}

/// The worst moment of a node's list.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Worst {
    /// What is kept and worked on.
    pub(super) working_bytes: u64,
    /// Tensors on their way: a receive that was posted may have come. Between processes also what
    /// is on its way from the node.
    pub(super) slot_bytes: u64,
}

impl Effects<'_> {
    /// The moment at which most is held.
    pub(super) fn worst(&self, node: NodeId) -> Worst {
        let around = self.surroundings;
        let message = |lane: Lane| around.messages.get(&lane).copied().unwrap_or_default();
        let bytes = |lane: Lane| message(lane).bytes;
        let slots = &self.walk.lowered.slots;
        let leaving = around.leaving[node.index()].iter();
        let leaving = leaving.map(|lane| u64::from(slots.of(*lane)).saturating_mul(bytes(*lane)));
        let leaving = leaving.fold(0, u64::saturating_add);
        let across = around.prediction.across;
        let mut arriving = Arriving::new(&self.moments, (self.walk, node), across, &bytes);
        // What is kept, and what came and is not used yet or waits to leave.
        let (mut held, mut mail) = (0i128, 0i128);
        let mut worst = (0, i128::from(leaving));
        let mut see = |working: i128, arriving: u64| {
            let on_their_way = i128::from(arriving.saturating_add(leaving));
            if working + on_their_way > worst.0 + worst.1 {
                worst = (working, on_their_way);
            }
        };
        for (index, action) in self.walk.lowered.nodes[node.index()].iter().enumerate() {
            let here = arriving.at(index);
            match action {
                Action::Compute(compute) => {
                    if matches!(compute.work, Work::I | Work::B) {
                        let added = around.added[compute.stage.index()];
                        see(held + mail + i128::from(added), here);
                    }
                    let effect = self.stages[compute.stage.index()][at(compute.work)];
                    see(held + effect.most, here);
                    held += effect.rest;
                    mail = i128::from(around.leaves(*compute));
                }
                Action::Post(_) => see(held + mail, here),
                // What travels in another form is there in both for a moment.
                Action::Wait(transfer) => {
                    let message = message(transfer.lane);
                    mail += i128::from(message.comes);
                    if message.converted {
                        see(held + mail, here);
                    }
                    arriving.taken(message.bytes);
                    see(held + mail, arriving.at(index));
                }
                Action::Send(transfer) => {
                    let message = message(transfer.lane);
                    let twice = if message.converted { message.bytes } else { 0 };
                    see(held + mail + i128::from(twice), here);
                    mail -= i128::from(message.goes);
                }
                Action::SumShared(_) | Action::Exchange | Action::Step => {}
            }
        }
        let bytes = |part: i128| u64::try_from(part.max(0)).unwrap_or(u64::MAX);
        Worst {
            working_bytes: bytes(worst.0),
            slot_bytes: bytes(worst.1),
        }
    }
}
