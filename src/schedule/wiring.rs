//! The lanes of a layout as dense numbers, found by stage: what makes lowering, check and simulator
//! linear in the number of actions.

use super::{Compute, Direction, Lane, Layout, Route, Transfer, Work};
use crate::ids::{MicroBatchCount, MicroBatchId, NodeId, StageId};

/// Lanes between nodes, numbered in their order, and who uses them.
pub(super) struct Wiring {
    micro_batches: usize,
    routes: Vec<Route>,
    ends: Vec<(NodeId, NodeId)>,
    /// For every stage and direction.
    stages: Vec<[Use; 2]>,
    links: Vec<u32>,
    link_count: usize,
}

/// What a stage needs and makes in one direction.
#[derive(Clone, Default)]
struct Use {
    waits: Vec<u32>,
    sends: Vec<u32>,
    /// Stages on the same node that hand over to it.
    local: Vec<StageId>,
}

fn side(direction: Direction) -> usize {
    match direction {
        Direction::Forward => 0,
        Direction::Backward => 1,
    }
}

impl Wiring {
    pub(super) fn new(layout: &Layout, micro_batches: MicroBatchCount) -> Self {
        let mut routes: Vec<Route> = layout.routes.clone();
        routes.sort_by_key(|route| route.lane);
        let mut stages = vec![<[Use; 2]>::default(); layout.placement.stages().index()];
        let (local, routes): (Vec<_>, Vec<_>) =
            routes.into_iter().partition(|route| !layout.crosses(route));
        for route in local {
            let to = &mut stages[route.to.index()][side(route.lane.direction)];
            to.local.push(route.from);
        }
        let node_of = |stage| layout.placement.node_of(stage);
        let ends: Vec<_> = (routes.iter())
            .map(|route| (node_of(route.from), node_of(route.to)))
            .collect();
        for (lane, route) in (0..).zip(&routes) {
            let at = side(route.lane.direction);
            stages[route.from.index()][at].sends.push(lane);
            stages[route.to.index()][at].waits.push(lane);
        }
        let mut pairs = ends.clone();
        pairs.sort_unstable();
        pairs.dedup();
        let link = |end: &(NodeId, NodeId)| pairs.partition_point(|pair| pair < end) as u32;
        Self {
            micro_batches: micro_batches.index(),
            links: ends.iter().map(link).collect(),
            link_count: pairs.len(),
            stages,
            routes,
            ends,
        }
    }

    /// How many lanes lead from node to node.
    pub(super) fn lanes(&self) -> usize {
        self.routes.len()
    }

    /// How many messages they carry.
    pub(super) fn messages(&self) -> usize {
        self.routes.len() * self.micro_batches
    }

    /// How many ordered pairs of nodes have a lane.
    pub(super) fn links(&self) -> usize {
        self.link_count
    }

    pub(super) fn lane(&self, lane: usize) -> Lane {
        self.routes[lane].lane
    }

    /// The node that sends on a lane, and the one that receives.
    pub(super) fn ends(&self, lane: usize) -> (NodeId, NodeId) {
        self.ends[lane]
    }

    /// The link that a lane uses.
    pub(super) fn link(&self, lane: usize) -> usize {
        self.links[lane] as usize
    }

    /// The number of a lane, unless it stays on its node or does not exist.
    pub(super) fn number(&self, lane: Lane) -> Option<usize> {
        let found = self.routes.binary_search_by_key(&lane, |route| route.lane);
        found.ok()
    }

    /// The number of a message on a lane.
    pub(super) fn message(&self, lane: usize, micro_batch: MicroBatchId) -> Option<usize> {
        let inside = micro_batch.index() < self.micro_batches;
        inside.then(|| lane * self.micro_batches + micro_batch.index())
    }

    /// Lane and micro-batch of a message.
    pub(super) fn of_message(&self, message: usize) -> (usize, MicroBatchId) {
        let micro_batch = MicroBatchId::new((message % self.micro_batches) as u32);
        (message / self.micro_batches, micro_batch)
    }

    fn used(&self, compute: Compute) -> Option<&Use> {
        let direction = match compute.work {
            Work::F => Direction::Forward,
            Work::I | Work::B => Direction::Backward,
            Work::W => return None,
        };
        Some(&self.stages[compute.stage.index()][side(direction)])
    }

    /// The lanes that a compute action needs a message of.
    pub(super) fn waits(&self, compute: Compute) -> &[u32] {
        self.used(compute).map_or(&[], |used| &used.waits)
    }

    /// The lanes that it makes a message for.
    pub(super) fn sends(&self, compute: Compute) -> &[u32] {
        self.used(compute).map_or(&[], |used| &used.sends)
    }

    /// The stages on the same node that must have done theirs.
    pub(super) fn local(&self, compute: Compute) -> &[StageId] {
        self.used(compute).map_or(&[], |used| &used.local)
    }

    /// A message as its receiver sees it.
    pub(super) fn incoming(&self, lane: u32, micro_batch: MicroBatchId) -> Transfer {
        let Route { lane, from, to } = self.routes[lane as usize];
        Transfer {
            stage: to,
            peer: from,
            lane,
            micro_batch,
        }
    }

    /// A message as its sender sees it.
    pub(super) fn outgoing(&self, lane: u32, micro_batch: MicroBatchId) -> Transfer {
        let Route { lane, from, to } = self.routes[lane as usize];
        Transfer {
            stage: from,
            peer: to,
            lane,
            micro_batch,
        }
    }
}
