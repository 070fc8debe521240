//! When every node does what: simulated or measured, drawn and compared alike.

use super::Action;
use crate::ids::NodeId;

/// When an action starts and ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    /// The action.
    pub action: Action,
    /// Its start.
    pub start: f64,
    /// Its end.
    pub end: f64,
}

/// One walk of all nodes through their lists, with times in any one unit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timeline {
    /// Every node's actions in order.
    pub nodes: Vec<Vec<Span>>,
    /// From the first start to the last end.
    pub makespan: f64,
}

impl Timeline {
    /// The time in which a node computes, the optimizer's work included.
    pub fn busy(&self, node: NodeId) -> f64 {
        let computes = self.nodes[node.index()]
            .iter()
            .filter(|span| matches!(span.action, Action::Compute(_) | Action::Step));
        computes.map(|span| span.end - span.start).sum()
    }

    /// The share of the makespan in which this node does not compute.
    pub fn idle(&self, node: NodeId) -> f64 {
        if self.makespan > 0.0 {
            1.0 - self.busy(node) / self.makespan
        } else {
            0.0
        }
    }

    /// The share of the makespan in which the mean node does not compute.
    pub fn bubble(&self) -> f64 {
        let nodes = self.nodes.len();
        let idle = (0..nodes).map(|node| self.idle(NodeId::new(node as u32)));
        idle.sum::<f64>() / nodes.max(1) as f64
    }
}
