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
    /// What it comes to.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::new(self.nodes.len());
        totals.makespan = self.makespan;
        for (node, spans) in (0..).map(NodeId::new).zip(&self.nodes) {
            spans.iter().for_each(|span| totals.add(node, span));
        }
        totals
    }

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
        self.totals().bubble_makespan()
    }
}

/// What a timeline comes to.
///
/// A bubble is the share of a time in which the mean node does not compute, and there are two such
/// times. By makespan, from the first start to the last end over all nodes, is what a step with a
/// synchronous optimizer takes. By span, the longest over nodes from the start of a node's first
/// compute action to the end of its last, is what the zero-bubble papers give: it is what a step
/// takes in the long run if the next may begin on one node while others still work on this one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    /// From the first start to the last end.
    pub makespan: f64,
    /// The time in which each node computes, the optimizer's work included.
    pub busy: Vec<f64>,
    /// The same without the optimizer's work.
    pub computing: Vec<f64>,
    /// From the start of each node's first compute action to the end of its last.
    windows: Vec<(f64, f64)>,
}

impl Totals {
    pub(super) fn new(nodes: usize) -> Self {
        Self {
            makespan: 0.0,
            busy: vec![0.0; nodes],
            computing: vec![0.0; nodes],
            windows: vec![(f64::INFINITY, f64::NEG_INFINITY); nodes],
        }
    }

    pub(super) fn add(&mut self, node: NodeId, span: &Span) {
        if let Action::Compute(_) | Action::Step = span.action {
            self.busy[node.index()] += span.end - span.start;
        }
        if let Action::Compute(_) = span.action {
            self.computing[node.index()] += span.end - span.start;
            let window = &mut self.windows[node.index()];
            *window = (window.0.min(span.start), window.1.max(span.end));
        }
    }

    /// The longest over nodes from the start of a node's first compute action to the end of its
    /// last.
    pub fn span(&self) -> f64 {
        let spans = self.windows.iter().map(|(start, end)| end - start);
        spans.fold(0.0, f64::max)
    }

    /// The time of the makespan in which each node does not compute.
    pub fn idle(&self) -> Vec<f64> {
        self.busy.iter().map(|busy| self.makespan - busy).collect()
    }

    /// The share of the makespan in which the mean node does not compute.
    pub fn bubble_makespan(&self) -> f64 {
        bubble(&self.busy, self.makespan)
    }

    /// The same of the span.
    pub fn bubble_span(&self) -> f64 {
        bubble(&self.computing, self.span())
    }
}

fn bubble(work: &[f64], of: f64) -> f64 {
    let mean = work.iter().sum::<f64>() / work.len().max(1) as f64;
    if of > 0.0 { 1.0 - mean / of } else { 0.0 }
}
