//! Inputs and targets of the pass that is under way.

use crate::batch::MiniBatch;
use crate::error::Cause;
use crate::ids::{MicroBatchId, StepId};
use crate::plan::{PassKind, Walk};
use brigade_layer::{
    AnySpec, Data, Feed, LayerError, Network, Pool, Source, Tensor, TensorSpec, Tensors,
};
use std::sync::Arc;

/// Asks the data for what this node's layers need, and nothing else. Data are pure functions: what
/// is needed twice is asked for twice, so that nothing is held in between.
pub(super) struct Feeds {
    data: Arc<dyn Data>,
    step: StepId,
    kind: PassKind,
    batch: MiniBatch,
    pool: Pool,
}

/// What was fetched for one micro-batch while it goes forward.
#[derive(Default)]
pub(super) struct Fetched {
    inputs: Option<Tensors>,
    targets: Option<Tensors>,
}

impl Feeds {
    pub(super) fn new(data: Arc<dyn Data>, step: StepId, walk: &Walk, pool: Pool) -> Self {
        Self {
            data,
            step,
            kind: walk.kind,
            batch: walk.batch,
            pool,
        }
    }

    /// Over how many terms the loss of each micro-batch sums.
    pub(super) fn count_terms(&self, network: &Network) -> Result<Vec<f64>, Cause> {
        let loss = &network.layers()[network.loss().index()];
        let count = |micro_batch| {
            let mut fetched = Fetched::default();
            let mut targets = Tensors::none();
            for source in &loss.inputs[1..] {
                if let Source::Feed(feed) = *source {
                    targets.push(Some(self.get(feed, micro_batch, network, &mut fetched)?))?;
                }
            }
            let terms = AnySpec::terms(loss.spec.as_ref(), &targets);
            Ok(terms.map_err(|error| error.in_layer(network.loss(), &loss.key))?)
        };
        self.batch.micro_batches().iter().map(count).collect()
    }

    /// One feed for one micro-batch, checked against its declaration.
    pub(super) fn get(
        &self,
        feed: Feed,
        micro_batch: MicroBatchId,
        network: &Network,
        fetched: &mut Fetched,
    ) -> Result<Tensor, Cause> {
        let (number, tensors, targets) = match feed {
            Feed::Input(number) => (number, &mut fetched.inputs, false),
            Feed::Target(number) => (number, &mut fetched.targets, true),
        };
        let tensors = match tensors {
            Some(tensors) => tensors,
            none => none.insert(self.fetch(micro_batch, targets)?),
        };
        let tensor = tensors.get(number).cloned();
        let tensor = tensor.ok_or_else(|| {
            let (given, call) = (tensors.len(), if targets { "targets" } else { "inputs" });
            LayerError::Value(format!(
                "the network has {feed:?}; `{call}` of the data gives {given} tensors"
            ))
        })?;
        if let Some(row) = network.feed(feed) {
            let rows = self.batch.rows_of(micro_batch).len();
            let row_shape = match self.kind {
                PassKind::Generate { length } => row.shape.with_rows(length),
                _ => row.shape,
            };
            let declared = TensorSpec {
                shape: row_shape.batched(rows)?,
                dtype: row.dtype,
            };
            if tensor.dtype() != declared.dtype {
                let given = tensor.spec();
                return Err(LayerError::Value(format!(
                    "{feed:?} of the data: declared as {declared}, given as {given}"
                ))
                .into());
            }
            if tensor.shape() != declared.shape {
                let what = format!("{feed:?} of the data");
                let expected = declared.to_string();
                return Err(LayerError::shape(what, expected, tensor.shape()).into());
            }
        }
        Ok(self.pool.adopt(tensor)?)
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
