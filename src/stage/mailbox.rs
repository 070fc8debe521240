//! Tensors that have arrived and are not needed yet, or that wait for their send.

use crate::error::Cause;
use crate::ids::MicroBatchId;
use crate::schedule::Lane;
use brigade_layer::Tensor;

/// Tensors by lane and micro-batch. There are only ever a few.
#[derive(Debug, Default)]
pub(super) struct Mailbox(Vec<(Lane, MicroBatchId, Tensor)>);

impl Mailbox {
    pub(super) fn put(&mut self, lane: Lane, micro_batch: MicroBatchId, tensor: Tensor) {
        self.0.push((lane, micro_batch, tensor));
    }

    pub(super) fn take(&mut self, lane: Lane, micro_batch: MicroBatchId) -> Result<Tensor, Cause> {
        let at = self
            .0
            .iter()
            .position(|(l, m, _)| (*l, *m) == (lane, micro_batch));
        let at = at.ok_or_else(|| {
            Cause::Bug(format!("no tensor of {lane:?}, micro-batch {micro_batch}"))
        })?;
        Ok(self.0.swap_remove(at).2)
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}
