//! Which node computes which stage.

use crate::ids::{NodeCount, NodeId, StageCount, StageId};
use serde::Serialize;

/// Stages to nodes. A stage of several on one node is a chunk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Placement {
    nodes: NodeCount,
    node_of: Vec<NodeId>,
}

impl Placement {
    /// One stage a node, in order.
    pub fn straight(nodes: NodeCount) -> Self {
        Self {
            nodes,
            node_of: nodes.iter().collect(),
        }
    }

    /// How many nodes.
    pub fn nodes(&self) -> NodeCount {
        self.nodes
    }

    /// How many stages.
    pub fn stages(&self) -> StageCount {
        StageCount::new(self.node_of.len() as u32)
    }

    /// The node of a stage.
    pub fn node_of(&self, stage: StageId) -> NodeId {
        self.node_of[stage.index()]
    }

    /// The stages of a node, in order.
    pub fn stages_on(&self, node: NodeId) -> impl Iterator<Item = StageId> + '_ {
        self.stages()
            .iter()
            .filter(move |stage| self.node_of(*stage) == node)
    }
}
