//! Which node computes which stage.
//!
//! ```text
//!            straight        looped, 2 chunks       V
//! node 0     stage 0         stages 0, 3            stages 0, 5
//! node 1     stage 1         stages 1, 4            stages 1, 4
//! node 2     stage 2         stages 2, 5            stages 2, 3
//! ```

use crate::ids::{NodeCount, NodeId, StageCount, StageId};
use serde::Serialize;

/// Stages to nodes. A stage of several on one node is a chunk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Placement {
    nodes: NodeCount,
    node_of: Vec<NodeId>,
    /// The same the other way round.
    #[serde(skip)]
    stages_on: Vec<Vec<StageId>>,
}

impl Placement {
    /// One stage a node, in order.
    pub fn straight(nodes: NodeCount) -> Self {
        Self::looped(nodes, 1)
    }

    /// Several stages a node: once around all nodes for each chunk (Narayanan et al. 2021, arXiv
    /// 2104.04473, figure 4).
    pub fn looped(nodes: NodeCount, chunks: usize) -> Self {
        let node_of = (0..chunks).flat_map(|_| nodes.iter()).collect();
        Self::new(nodes, node_of)
    }

    fn new(nodes: NodeCount, node_of: Vec<NodeId>) -> Self {
        let mut stages_on = vec![Vec::new(); nodes.index()];
        for (stage, node) in (0..).map(StageId::new).zip(&node_of) {
            stages_on[node.index()].push(stage);
        }
        Self {
            nodes,
            node_of,
            stages_on,
        }
    }

    /// Two stages a node: down along the nodes and back up, so that the last node has two
    /// neighbouring stages, and the first node the first and the last (Qi et al. 2024, arXiv
    /// 2405.15362).
    pub fn v_shaped(nodes: NodeCount) -> Self {
        Self::new(nodes, nodes.iter().chain(nodes.iter().rev()).collect())
    }

    /// Any other: the node of every stage, in order of the stages. `None` unless every node has a
    /// stage.
    pub fn of(node_of: Vec<NodeId>) -> Option<Self> {
        let nodes = node_of.iter().map(|node| node.get()).max()?;
        let mut taken = vec![false; node_of.len()];
        for node in &node_of {
            *taken.get_mut(node.index())? = true;
        }
        let nodes = NodeCount::new(nodes + 1);
        let all = taken[..nodes.index()].iter().all(|taken| *taken);
        all.then(|| Self::new(nodes, node_of))
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
    pub fn stages_on(&self, node: NodeId) -> impl ExactSizeIterator<Item = StageId> + '_ {
        self.stages_on[node.index()].iter().copied()
    }

    /// How many stages each node has, if all have the same number.
    pub fn chunks(&self) -> Option<usize> {
        let mut counts = self.stages_on.iter().map(Vec::len);
        let first = counts.next()?;
        counts.all(|count| count == first).then_some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_above_is_right() {
        let nodes = NodeCount::new(3);
        let on = |placement: &Placement, node| -> Vec<u32> {
            let stages = placement.stages_on(NodeId::new(node));
            stages.map(StageId::get).collect()
        };
        let looped = Placement::looped(nodes, 2);
        assert_eq!(
            [0, 1, 2].map(|node| on(&looped, node)),
            [[0, 3], [1, 4], [2, 5]]
        );
        let v = Placement::v_shaped(nodes);
        assert_eq!([0, 1, 2].map(|node| on(&v, node)), [[0, 5], [1, 4], [2, 3]]);
        assert_eq!(v.chunks(), Some(2));
        assert_eq!(Placement::straight(nodes).stages(), StageCount::new(3));
    }

    #[test]
    fn a_placement_of_ones_own_leaves_no_node_out() {
        let of = |nodes: &[u32]| Placement::of(nodes.iter().copied().map(NodeId::new).collect());
        assert_eq!(
            of(&[0, 1, 1, 0]),
            Some(Placement::v_shaped(NodeCount::new(2)))
        );
        assert_eq!(
            of(&[1, 0, 0]).and_then(|placement| placement.chunks()),
            None
        );
        for wrong in [&[][..], &[1], &[0, 2, 0], &[0, 4_000_000_000], &[u32::MAX]] {
            assert_eq!(of(wrong), None, "{wrong:?}");
        }
    }
}
