//! Inputs and targets of the pass that is under way.

use crate::batch::MiniBatch;
use crate::error::Cause;
use crate::ids::{MicroBatchId, StepId};
use brigade_layer::{
    AnySpec, Data, Feed, LayerError, Network, Pool, Source, Tensor, TensorSpec, Tensors,
};
use std::sync::Arc;

/// Asks the data for what this node's layers need, and nothing else.
pub(super) struct Feeds {
    data: Arc<dyn Data>,
    step: StepId,
    batch: MiniBatch,
    pool: Pool,
    /// Targets of every micro-batch, on the node that has the loss: they are counted before the
    /// first action.
    targets: Vec<Option<Tensors>>,
}

impl Feeds {
    pub(super) fn new(data: Arc<dyn Data>, step: StepId, batch: MiniBatch, pool: Pool) -> Self {
        Self {
            data,
            step,
            batch,
            pool,
            targets: Vec::new(),
        }
    }

    /// Over how many terms the loss of the whole mini-batch sums.
    pub(super) fn count_terms(&mut self, network: &Network) -> Result<f64, Cause> {
        let loss = &network.layers()[network.loss().index()];
        let target = loss.inputs.iter().find_map(|source| match source {
            Source::Feed(Feed::Target(number)) => Some(*number),
            _ => None,
        });
        let target = target.ok_or(LayerError::spec(&loss.key, "a loss must read a target"))?;
        let mut terms = 0.0;
        for micro_batch in self.batch.micro_batches().iter() {
            let targets = self.fetch(micro_batch, true)?;
            let counted = targets
                .get(target)
                .ok_or(LayerError::Missing { index: target })?;
            terms += AnySpec::terms(loss.spec.as_ref(), counted)?;
            self.targets.push(Some(targets));
        }
        Ok(terms)
    }

    /// One feed for one micro-batch, checked against its declaration.
    pub(super) fn get(
        &mut self,
        feed: Feed,
        micro_batch: MicroBatchId,
        network: &Network,
        fetched: &mut Option<Tensors>,
    ) -> Result<Tensor, Cause> {
        let (number, tensors) = match feed {
            Feed::Input(number) => {
                if fetched.is_none() {
                    *fetched = Some(self.fetch(micro_batch, false)?);
                }
                (number, fetched.as_ref())
            }
            Feed::Target(number) => {
                let at = micro_batch.index();
                self.targets
                    .resize_with(self.targets.len().max(at + 1), || None);
                if self.targets[at].is_none() {
                    self.targets[at] = Some(self.fetch(micro_batch, true)?);
                }
                (number, self.targets[at].as_ref())
            }
        };
        let tensor = tensors.and_then(|tensors| tensors.get(number)).cloned();
        let tensor = tensor.ok_or(LayerError::Missing { index: number })?;
        if let Some(row) = network.feed(feed) {
            let rows = self.batch.rows_of(micro_batch).len();
            let declared = TensorSpec {
                shape: row.shape.batched(rows)?,
                dtype: row.dtype,
            };
            if tensor.spec() != declared {
                let what = format!("{feed:?} of the data");
                return Err(LayerError::shape(what, declared.to_string(), tensor.shape()).into());
            }
        }
        Ok(self.pool.adopt(tensor)?)
    }

    /// The micro-batch went forward: its targets are no longer needed.
    pub(super) fn done(&mut self, micro_batch: MicroBatchId) {
        if let Some(targets) = self.targets.get_mut(micro_batch.index()) {
            *targets = None;
        }
    }

    fn fetch(&self, micro_batch: MicroBatchId, targets: bool) -> Result<Tensors, Cause> {
        let rows = self.batch.rows_of(micro_batch);
        let fetched = match targets {
            true => self.data.targets(self.step, rows),
            false => self.data.inputs(self.step, rows),
        };
        Ok(fetched?)
    }
}
