//! Tensors on their way between nodes, as they travel.

use super::setup::WorkerSetup;
use crate::error::Cause;
use crate::plan::{EdgeSpecs, Walk};
use crate::schedule::Transfer;
use crate::wire::halves;
use brigade_layer::{DType, Precision, Tensor};
use std::sync::Arc;

/// How tensors leave and arrive in a pass: as they are, unless they travel in bf16.
#[derive(Default)]
pub(super) struct Crossing {
    walk: Option<Arc<Walk>>,
    specs: Option<EdgeSpecs>,
}

impl Crossing {
    /// Gets ready for a pass through these lists.
    pub(super) fn begin(&mut self, setup: &WorkerSetup, walk: &Arc<Walk>) -> Result<(), Cause> {
        let known = self.walk.as_ref();
        if setup.plan.wire == Precision::Bf16 && known.is_none_or(|known| !Arc::ptr_eq(known, walk))
        {
            self.specs = Some(EdgeSpecs::new(&setup.network, walk)?);
            self.walk = Some(walk.clone());
        }
        Ok(())
    }

    pub(super) fn leaving(&self, tensor: Tensor, setup: &WorkerSetup) -> Result<Tensor, Cause> {
        match self.specs {
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
        let Some(specs) = &self.specs else {
            return Ok(tensor);
        };
        let spec = specs.of(&setup.network, transfer.lane, transfer.micro_batch);
        match spec.dtype {
            DType::F32 => Ok(halves::unpack(&tensor, spec.shape, &setup.pool)?),
            _ => Ok(tensor),
        }
    }
}
