//! What crosses between stages: which tensors a schedule must send, and whose gradients it must
//! sum.

use super::{Direction, Lane};
use crate::ids::{EdgeId, LayerIndex, MicroBatchCount, NodeCount, NodeId, SharedId, StageId};
use crate::placement::Placement;
use serde::Serialize;

/// Where a lane leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Route {
    /// The lane.
    pub lane: Lane,
    /// The stage that sends.
    pub from: StageId,
    /// The stage that receives.
    pub to: StageId,
}

/// A shared parameter with its holders in layer order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SharedSum {
    /// The shared parameter.
    pub shared: SharedId,
    /// The layers that hold it, and the stage of each.
    pub holders: Vec<(LayerIndex, StageId)>,
}

/// Everything that lowering must know of a network cut into stages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Layout {
    /// Stages to nodes.
    pub placement: Placement,
    /// What crosses between stages, in the order in which a stage sends: by lane.
    pub routes: Vec<Route>,
    /// Shared parameters, in order.
    pub shared: Vec<SharedSum>,
}

impl Layout {
    /// A chain of stages in which every stage feeds the next over an edge with the number of the
    /// sending stage.
    pub fn chain(placement: Placement) -> Self {
        let mut routes = Vec::new();
        for direction in [Direction::Forward, Direction::Backward] {
            for stage in 1..placement.stages().get() {
                let (before, after) = (StageId::new(stage - 1), StageId::new(stage));
                let lane = Lane {
                    edge: EdgeId::new(stage - 1),
                    direction,
                };
                let (from, to) = match direction {
                    Direction::Forward => (before, after),
                    Direction::Backward => (after, before),
                };
                routes.push(Route { lane, from, to });
            }
        }
        Self {
            placement,
            routes,
            shared: Vec::new(),
        }
    }

    /// How many nodes.
    pub fn nodes(&self) -> NodeCount {
        self.placement.nodes()
    }

    /// Routes that a stage receives in this direction.
    pub fn into(&self, stage: StageId, direction: Direction) -> impl Iterator<Item = &Route> {
        self.routes
            .iter()
            .filter(move |route| route.to == stage && route.lane.direction == direction)
    }

    /// Routes that a stage sends in this direction.
    pub fn out_of(&self, stage: StageId, direction: Direction) -> impl Iterator<Item = &Route> {
        self.routes
            .iter()
            .filter(move |route| route.from == stage && route.lane.direction == direction)
    }

    /// Whether a route leads to another node.
    pub fn crosses(&self, route: &Route) -> bool {
        self.placement.node_of(route.from) != self.placement.node_of(route.to)
    }

    /// The nodes that hold a shared parameter: the first holder's, where the sum is made, then the
    /// others in order.
    pub fn members(&self, sum: &SharedSum) -> Vec<NodeId> {
        let mut members = Vec::new();
        for (_, stage) in &sum.holders {
            let node = self.placement.node_of(*stage);
            if !members.contains(&node) {
                members.push(node);
            }
        }
        members
    }

    /// The sum of a shared parameter.
    pub fn sum_of(&self, shared: SharedId) -> Option<&SharedSum> {
        self.shared.iter().find(|sum| sum.shared == shared)
    }

    /// The most messages that can be under way to one node at once, whatever the schedule: what a
    /// queue must hold.
    pub(crate) fn most_messages_to(&self, node: NodeId, micro_batches: MicroBatchCount) -> usize {
        let lanes = (self.routes.iter())
            .filter(|route| self.crosses(route) && self.placement.node_of(route.to) == node)
            .count();
        let shared: usize = self.shared.iter().map(|sum| sum.holders.len() + 1).sum();
        lanes * micro_batches.index() + shared + 4 * self.nodes().index()
    }
}
