//! Walks of all nodes through their lists.

use super::Trainer;
use crate::error::{Error, PlanError};
use crate::ids::{PassId, StepId};
use crate::plan::{PassKind, Walk};
use crate::stage::{Command, Reply, Request};
use crate::sync::Verdict;
use crate::trace::NodeTrace;
use brigade_layer::{Data, LayerError, Tensor, Tensors};
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

/// What all nodes together answer to one pass.
pub(super) struct Answer {
    /// The same on all.
    pub(super) verdict: Verdict,
    /// From where the loss is.
    pub(super) predictions: Vec<Tensor>,
    /// Of every node, if they were asked for.
    pub(super) traces: Vec<NodeTrace>,
}

impl Trainer {
    pub(super) fn forward_all<D: Data + Clone>(
        &mut self,
        kind: PassKind,
        data: &D,
        mut on: impl FnMut(Answer) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let total = data.rows(StepId::new(0));
        let most = self.plan.forward_rows();
        if total == 0 {
            return Err(PlanError::TooManyRows { rows: 0, most }.into());
        }
        for first in (0..total).step_by(most) {
            let rows = most.min(total - first);
            let slice = Arc::new(Slice {
                data: data.clone(),
                first,
                rows,
            });
            on(self.pass(kind, rows, (StepId::new(0), None), slice)?)?;
        }
        Ok(())
    }

    /// One walk of all nodes. The outcome is the same on all; predictions are where the loss is.
    pub(super) fn pass(
        &mut self,
        kind: PassKind,
        rows: usize,
        (step, traced): (StepId, Option<Instant>),
        data: Arc<dyn Data>,
    ) -> Result<Answer, Error> {
        let walk = self.walk(kind, rows)?;
        let pass = PassId::new(self.passes);
        self.passes += 1;
        let replies = self.nodes.ask(&Command::Pass(Request {
            pass,
            step,
            walk,
            data,
            stop: self.stop.clone(),
            traced,
        }))?;
        let (mut verdict, mut predictions, mut traces) = (None, Vec::new(), Vec::new());
        for reply in replies {
            if let Reply::Pass(mut outcome) = reply {
                predictions.append(&mut outcome.predictions);
                traces.extend(outcome.trace);
                verdict.get_or_insert(outcome.verdict);
            }
        }
        if kind == PassKind::Predict {
            predictions = self.nodes.share_tensors("predictions", predictions)?;
        }
        if traced.is_some() {
            traces = self.nodes.share_by_node("trace", traces)?;
        }
        let verdict = verdict.ok_or_else(|| LayerError::Value("no node answered".into()))?;
        Ok(Answer {
            verdict,
            predictions,
            traces,
        })
    }

    /// The lists for this kind and size, kept for the next time.
    fn walk(&mut self, kind: PassKind, rows: usize) -> Result<Arc<Walk>, PlanError> {
        let known = self
            .walks
            .iter()
            .find(|walk| walk.kind == kind && walk.batch.rows() == rows);
        if let Some(walk) = known {
            return Ok(walk.clone());
        }
        let walk = Arc::new(self.plan.walk(kind, rows)?);
        // The full training step stays; of other sizes only a few are kept.
        const MOST_WALKS: usize = 8;
        if self.walks.len() >= MOST_WALKS {
            self.walks.remove(1);
        }
        self.walks.push(walk.clone());
        Ok(walk)
    }
}

/// Some rows of data.
struct Slice<D> {
    data: D,
    first: usize,
    rows: usize,
}

impl<D: Data> Data for Slice<D> {
    fn rows(&self, _: StepId) -> usize {
        self.rows
    }
    fn inputs(&self, step: StepId, rows: Range<usize>) -> Result<Tensors, LayerError> {
        self.data
            .inputs(step, rows.start + self.first..rows.end + self.first)
    }
    fn targets(&self, step: StepId, rows: Range<usize>) -> Result<Tensors, LayerError> {
        self.data
            .targets(step, rows.start + self.first..rows.end + self.first)
    }
}
