//! What a stage is told with every action.

use super::command::Along;
use crate::config::OnNonFinite;
use crate::ids::{MicroBatchId, StageId, StepId};
use crate::wire::halves;
use brigade_layer::{DType, LayerError, Mode, Network, Pool, Precision, Tensor};

/// What does not change during one pass.
#[derive(Clone, Copy)]
pub(super) struct PassCtx<'a> {
    pub(super) mode: Mode,
    pub(super) predicts: bool,
    pub(super) along: Option<Along>,
    pub(super) seed: u64,
    pub(super) step: StepId,
    pub(super) precision: Precision,
    /// Whether what goes from one layer to another is rounded as if it travelled in bf16.
    pub(super) rounds: bool,
    pub(super) on_nonfinite: OnNonFinite,
    pub(super) threads: usize,
    pub(super) pool: &'a Pool,
    pub(super) network: &'a Network,
}

impl PassCtx<'_> {
    /// What a layer gives to another, as that gets it, wherever the network is cut.
    pub(super) fn crossed(&self, value: Tensor, stays: bool) -> Result<Tensor, LayerError> {
        match self.rounds && !stays && value.dtype() == DType::F32 {
            true => halves::round(value, self.pool),
            false => Ok(value),
        }
    }
}

/// One micro-batch of a pass.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) pass: PassCtx<'a>,
    pub(super) stage: StageId,
    pub(super) micro_batch: MicroBatchId,
    pub(super) first_row: usize,
    /// Whether this is the last of the pass.
    pub(super) last: bool,
}

impl Call<'_> {
    /// Whether the network's output for it is wanted.
    pub(super) fn answers(&self) -> bool {
        self.pass
            .along
            .is_none_or(|along| along.answers && self.last)
    }

    /// The same once more, for what it leaves to the backward pass.
    pub(super) fn again(self) -> Self {
        let mode = Mode::Recompute;
        Self {
            pass: PassCtx { mode, ..self.pass },
            ..self
        }
    }
}
