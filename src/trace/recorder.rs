//! What a node writes down while it walks through its list.

use super::{ActionSpan, LayerSpan, NodeTrace};
use crate::ids::{LayerIndex, MicroBatchId};
use crate::schedule::{Action, Work};
use brigade_layer::KernelTime;
use std::time::Instant;

/// A node's notes on one pass.
#[derive(Debug)]
pub(crate) struct Recorder {
    epoch: Instant,
    trace: NodeTrace,
}

impl Recorder {
    /// Notes on a list of this length, with times since `epoch`.
    pub(crate) fn new(epoch: Instant, actions: usize) -> Self {
        let actions = Vec::with_capacity(actions);
        let trace = NodeTrace {
            actions,
            ..NodeTrace::default()
        };
        Self { epoch, trace }
    }

    pub(crate) fn action(&mut self, action: Action, start: Instant, end: Instant) {
        let (start, end) = (start - self.epoch, end - self.epoch);
        self.trace.actions.push(ActionSpan { action, start, end });
    }

    pub(crate) fn call(
        &mut self,
        layer: LayerIndex,
        (work, micro_batch): (Work, MicroBatchId),
        (start, end): (Instant, Instant),
    ) {
        let (start, end) = (start - self.epoch, end - self.epoch);
        self.trace.layers.push(LayerSpan {
            layer,
            work,
            micro_batch,
            start,
            end,
        });
    }

    pub(crate) fn kernels(&mut self, layer: LayerIndex, times: Vec<KernelTime>) {
        let times = times.into_iter().map(|time| (layer, time));
        self.trace.kernels.extend(times);
    }

    pub(crate) fn done(self) -> NodeTrace {
        self.trace
    }
}
