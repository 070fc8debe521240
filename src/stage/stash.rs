//! What a stage keeps for its backward passes: one frame for every micro-batch between its F and
//! its W, bounded.

use crate::error::Cause;
use crate::ids::MicroBatchId;
use brigade_layer::{Slot, Tensor};

/// What a stage keeps of one micro-batch.
#[derive(Debug)]
pub(super) struct Frame {
    /// The states of its layers.
    pub(super) slots: Vec<Slot>,
    /// From F to I, the values that each segment needs to be computed again.
    pub(super) kept: Vec<Vec<Tensor>>,
}

/// Frames in flight, and frames that wait to be used again.
#[derive(Debug, Default)]
pub(super) struct Stash {
    in_flight: Vec<(MicroBatchId, Frame)>,
    free: Vec<Frame>,
    limit: usize,
}

impl Stash {
    /// At most `limit` micro-batches from now on.
    pub(super) fn limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// A frame for a micro-batch that goes forward.
    pub(super) fn open(
        &mut self,
        micro_batch: MicroBatchId,
        new: impl FnOnce() -> Frame,
    ) -> Result<&mut Frame, Cause> {
        if self.in_flight.len() >= self.limit {
            return Err(Cause::Bug(format!(
                "more than {} micro-batches are kept",
                self.limit
            )));
        }
        let frame = self.free.pop().unwrap_or_else(new);
        self.in_flight.push((micro_batch, frame));
        let last = self.in_flight.len() - 1;
        Ok(&mut self.in_flight[last].1)
    }

    /// The frame of a micro-batch in flight.
    pub(super) fn get(&mut self, micro_batch: MicroBatchId) -> Result<&mut Frame, Cause> {
        let frame = self.in_flight.iter_mut().find(|(m, _)| *m == micro_batch);
        frame
            .map(|(_, frame)| frame)
            .ok_or_else(|| Cause::Bug(format!("micro-batch {micro_batch} was not kept")))
    }

    /// The micro-batch is done.
    pub(super) fn close(&mut self, micro_batch: MicroBatchId) {
        if let Some(at) = self.in_flight.iter().position(|(m, _)| *m == micro_batch) {
            let (_, mut frame) = self.in_flight.swap_remove(at);
            frame.slots.iter_mut().for_each(Slot::clear);
            frame.kept.iter_mut().for_each(Vec::clear);
            self.free.push(frame);
        }
    }
}
