//! Which messages may have come to a node at each moment of its list: those that it has posted,
//! does not use yet, and whose makers may have had what they need.
//!
//! A gradient cannot come back before the node's own forward of that micro-batch is done; and what
//! comes from a stage that the node's own stages lead to cannot come before them.

use crate::ids::{MicroBatchCount, NodeId, StageId};
use crate::schedule::{Compute, Direction, Lane, Layout, Transfer, Work};
use std::collections::BTreeMap;

/// From a stage, to a stage, in a direction.
type Way = (StageId, StageId, Direction);
/// The stage of a node, by its place there, and whether its I is meant and not its F.
type Done = (usize, bool);

/// What has to be done on a node before messages to its stages can come.
pub(super) struct Needs {
    stages: Vec<StageId>,
    ways: Vec<(Way, Vec<Done>)>,
}

impl Needs {
    /// Of every node.
    pub(super) fn of_all(layout: &Layout) -> Vec<Self> {
        let mut forward = vec![Vec::new(); layout.placement.stages().index()];
        let mut backward = forward.clone();
        for route in &layout.routes {
            let comes_from = match route.lane.direction {
                Direction::Forward => &mut forward,
                Direction::Backward => &mut backward,
            };
            comes_from[route.to.index()].push(route.from);
        }
        let mut needs: Vec<Self> = (layout.nodes().iter())
            .map(|node| Self::new(layout, node))
            .collect();
        for route in layout.routes.iter().filter(|route| layout.crosses(route)) {
            let needs = &mut needs[layout.placement.node_of(route.to).index()];
            let way = (route.from, route.to, route.lane.direction);
            if needs.ways.iter().all(|(known, _)| *known != way) {
                let before = needs.before(way, &forward, &backward);
                needs.ways.push((way, before));
            }
        }
        needs
    }

    fn new(layout: &Layout, node: NodeId) -> Self {
        Self {
            stages: layout.placement.stages_on(node).collect(),
            ways: Vec::new(),
        }
    }

    fn before(
        &self,
        (from, to, direction): Way,
        forward: &[Vec<StageId>],
        backward: &[Vec<StageId>],
    ) -> Vec<Done> {
        let own = |stage: &StageId| self.stages.iter().position(|own| own == stage);
        let all = |stages: Vec<StageId>, inputs: bool| {
            let own = stages.into_iter().filter_map(move |stage| own(&stage));
            own.map(move |at| (at, inputs)).collect::<Vec<Done>>()
        };
        match direction {
            Direction::Forward => all(leading_to(from, forward), false),
            Direction::Backward => {
                let mut before = all(leading_to(from, backward), true);
                before.extend(all(vec![to], false));
                before
            }
        }
    }
}

/// The stages that lead to one.
fn leading_to(stage: StageId, comes_from: &[Vec<StageId>]) -> Vec<StageId> {
    let (mut found, mut next) = (Vec::new(), vec![stage]);
    let mut seen = vec![false; comes_from.len()];
    while let Some(stage) = next.pop() {
        for before in &comes_from[stage.index()] {
            if !std::mem::replace(&mut seen[before.index()], true) {
                found.push(*before);
                next.push(*before);
            }
        }
    }
    found
}

/// The messages of a node while its list is walked through.
pub(super) struct Arriving<'a> {
    needs: &'a Needs,
    /// Whether a receive takes its room as soon as it is posted.
    at_once: bool,
    micro_batches: usize,
    /// By stage of the node and micro-batch: whether F and I are done.
    done: Vec<[bool; 2]>,
    /// By way and micro-batch.
    posted: BTreeMap<(usize, u32), Vec<(Lane, u64)>>,
    /// Bytes that may have come.
    bytes: u64,
}

impl<'a> Arriving<'a> {
    pub(super) fn new(needs: &'a Needs, micro_batches: MicroBatchCount, at_once: bool) -> Self {
        let micro_batches = micro_batches.index();
        Self {
            needs,
            at_once,
            micro_batches,
            done: vec![[false; 2]; needs.stages.len() * micro_batches],
            posted: BTreeMap::new(),
            bytes: 0,
        }
    }

    /// What may have come and is not used yet.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether messages can come.
    fn can_come(&self, (way, micro_batch): (usize, u32)) -> bool {
        let done = |(stage, inputs): &Done| {
            let at = stage * self.micro_batches + micro_batch as usize;
            self.done[at][usize::from(*inputs)]
        };
        self.at_once || self.needs.ways[way].1.iter().all(done)
    }

    fn key(&self, transfer: &Transfer) -> Option<(usize, u32)> {
        let way = (transfer.peer, transfer.stage, transfer.lane.direction);
        let mut ways = self.needs.ways.iter();
        let at = ways.position(|(known, _)| *known == way)?;
        Some((at, transfer.micro_batch.get()))
    }

    pub(super) fn post(&mut self, transfer: &Transfer, bytes: u64) {
        let Some(key) = self.key(transfer) else {
            return;
        };
        let lanes = self.posted.entry(key).or_default();
        lanes.push((transfer.lane, bytes));
        if self.can_come(key) {
            self.bytes = self.bytes.saturating_add(bytes);
        }
    }

    /// It is here, and is the stage's from now on.
    pub(super) fn wait(&mut self, transfer: &Transfer) {
        let Some(key) = self.key(transfer) else {
            return;
        };
        let come = self.can_come(key);
        let Some(lanes) = self.posted.get_mut(&key) else {
            return;
        };
        if let Some(at) = lanes.iter().position(|(lane, _)| *lane == transfer.lane) {
            let (_, bytes) = lanes.swap_remove(at);
            if come {
                self.bytes = self.bytes.saturating_sub(bytes);
            }
        }
        if lanes.is_empty() {
            self.posted.remove(&key);
        }
    }

    /// Once this is done, more may come.
    pub(super) fn computed(&mut self, compute: Compute) {
        let inputs = match compute.work {
            Work::F => false,
            Work::I | Work::B => true,
            Work::W => return,
        };
        let mut stages = self.needs.stages.iter();
        let Some(own) = stages.position(|own| *own == compute.stage) else {
            return;
        };
        let needs = self.needs;
        let waiting: Vec<_> = (needs.ways.iter().enumerate())
            .filter(|(_, (_, before))| before.contains(&(own, inputs)))
            .map(|(way, _)| (way, compute.micro_batch.get()))
            .filter(|key| !self.can_come(*key))
            .collect();
        let at = own * self.micro_batches + compute.micro_batch.index();
        self.done[at][usize::from(inputs)] = true;
        for key in waiting {
            if !self.can_come(key) {
                continue;
            }
            let lanes = self.posted.get(&key).into_iter().flatten();
            let more: u64 = lanes.map(|(_, bytes)| bytes).sum();
            self.bytes = self.bytes.saturating_add(more);
        }
    }
}
