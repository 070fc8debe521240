//! What really happened: every action of every node with its start and end, every call of a layer
//! within it, and the time that kernels took.
//!
//! ```text
//! Trainer::step_traced ──► Recorder on every node ──► StepTrace ──► Timeline, Times, Perfetto
//! ```
//!
//! A step that is not traced pays one comparison an action and one a layer call.

use crate::ids::{LayerIndex, MicroBatchId, StepId};
use crate::schedule::{Action, Span, Timeline, Work};
use brigade_layer::KernelTime;
use serde::{Deserialize, Serialize};
use std::time::Duration;

mod breakdown;
mod medians;
mod perfetto;
mod recorder;

pub use breakdown::{Spent, breakdown};
pub use medians::{LayerTime, kernel_times, layer_times, median_step, median_times};
pub(crate) use medians::{latency, median};
pub use perfetto::{perfetto_json, save_perfetto};
pub(crate) use recorder::Recorder;

/// One action as it happened. Times count from the start of the trainer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionSpan {
    /// The action.
    pub action: Action,
    /// Its start.
    pub start: Duration,
    /// Its end.
    pub end: Duration,
}

/// One call of a layer, within an action of its stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerSpan {
    /// The layer.
    pub layer: LayerIndex,
    /// F, I or W; a B is an I and a W.
    pub work: Work,
    /// The micro-batch.
    pub micro_batch: MicroBatchId,
    /// Its start.
    pub start: Duration,
    /// Its end.
    pub end: Duration,
}

/// One node's part of a traced step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeTrace {
    /// Its actions, in order.
    pub actions: Vec<ActionSpan>,
    /// The calls of its layers, layer by layer.
    pub layers: Vec<LayerSpan>,
    /// The kernels of its layers, as the layers name them.
    pub kernels: Vec<(LayerIndex, KernelTime)>,
}

/// A traced step.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StepTrace {
    /// The step.
    pub step: StepId,
    /// Every node's part.
    pub nodes: Vec<NodeTrace>,
}

impl StepTrace {
    /// A simulated step in seconds, as if it had begun with the traced one, or at `least` when
    /// that is later.
    pub(crate) fn simulated(&self, timeline: &Timeline, least: Duration) -> Self {
        let all = || self.nodes.iter().flat_map(|node| &node.actions);
        let first = all().map(|span| span.start).min().unwrap_or_default();
        let first = first.max(least);
        let at = |seconds: f64| first + Duration::try_from_secs_f64(seconds).unwrap_or_default();
        let span = |span: &Span| ActionSpan {
            action: span.action,
            start: at(span.start),
            end: at(span.end),
        };
        let node = |spans: &Vec<Span>| NodeTrace {
            actions: spans.iter().map(span).collect(),
            ..NodeTrace::default()
        };
        Self {
            step: self.step,
            nodes: timeline.nodes.iter().map(node).collect(),
        }
    }

    /// The step as a timeline in seconds, from the first start to the last end: for
    /// [`render`](crate::schedule::render) and for comparing with a simulated one.
    pub fn timeline(&self) -> Timeline {
        let all = || self.nodes.iter().flat_map(|node| &node.actions);
        let first = all().map(|span| span.start).min().unwrap_or_default();
        let last = all().map(|span| span.end).max().unwrap_or_default();
        let since = |time: Duration| (time - first).as_secs_f64();
        let span = |span: &ActionSpan| Span {
            action: span.action,
            start: since(span.start),
            end: since(span.end),
        };
        let nodes = self.nodes.iter();
        Timeline {
            nodes: nodes
                .map(|node| node.actions.iter().map(span).collect())
                .collect(),
            makespan: since(last),
        }
    }
}
