//! Tensors on their way between nodes, as they travel.

use super::setup::WorkerSetup;
use crate::error::Cause;
use crate::plan::{EdgeSpecs, Walk};
use crate::schedule::Transfer;
use crate::wire::halves;
use brigade_layer::{DType, Precision, Tensor};

/// How tensors leave and arrive in a pass: as they are, unless they travel in bf16.
#[derive(Default)]
pub(super) struct Crossing(Option<EdgeSpecs>);

impl Crossing {
    pub(super) fn new(setup: &WorkerSetup, walk: &Walk) -> Result<Self, Cause> {
        Ok(Self(match setup.plan.wire {
            Precision::Bf16 => Some(EdgeSpecs::new(&setup.network, walk.batch)?),
            _ => None,
        }))
    }

    pub(super) fn leaving(&self, tensor: Tensor, setup: &WorkerSetup) -> Result<Tensor, Cause> {
        match self.0 {
            Some(_) if tensor.dtype() == DType::F32 => Ok(halves::pack(&tensor, &setup.pool)?),
            _ => Ok(tensor),
        }
    }

    pub(super) fn arriving(
        &self,
        tensor: Tensor,
        transfer: &Transfer,
        setup: &WorkerSetup,
    ) -> Result<Tensor, Cause> {
        let Some(specs) = &self.0 else {
            return Ok(tensor);
        };
        let spec = specs.of(&setup.network, transfer.lane, transfer.micro_batch);
        match spec.dtype {
            DType::F32 => Ok(halves::unpack(&tensor, spec.shape, &setup.pool)?),
            _ => Ok(tensor),
        }
    }
}
