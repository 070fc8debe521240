//! Where the sums of shared parameters find their holders.

use super::runner::Stage;
use crate::error::Cause;
use crate::ids::{LayerIndex, SharedId, StageId};
use crate::sync::{Holders, OnParam};

/// The shared parameters of a node's layers.
pub(super) struct StageHolders<'a>(pub(super) &'a mut [(StageId, Stage)]);

impl Holders for StageHolders<'_> {
    fn with_shared(
        &mut self,
        layer: LayerIndex,
        shared: SharedId,
        act: OnParam<'_>,
    ) -> Result<(), Cause> {
        for (_, stage) in self.0.iter_mut() {
            stage.visit_params(&mut |index, param| match index == layer
                && param.info().shared == Some(shared)
            {
                true => act(param),
                false => Ok(()),
            })?;
        }
        Ok(())
    }
}
