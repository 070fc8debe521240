//! Walks of all nodes through their lists.

use super::Trainer;
use crate::error::{Error, PlanError};
use crate::ids::{PassId, StepId};
use crate::plan::{PassKind, Walk};
use crate::stage::{Along, Command, Reply, Request};
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
        if !self.plan.trains() {
            self.plan.evaluating(&self.network, &self.config)?;
        }
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
        let mut answer = self.pass_along(kind, rows, (step, traced), (data, None))?;
        if kind == PassKind::Predict {
            let own = answer.predictions;
            answer.predictions = self.nodes.share_tensors("predictions", own)?;
        }
        if traced.is_some() {
            answer.traces = self.nodes.share_by_node("trace", answer.traces)?;
        }
        Ok(answer)
    }

    /// The same, with predictions and traces of the nodes of this process.
    pub(super) fn pass_along(
        &mut self,
        kind: PassKind,
        rows: usize,
        (step, traced): (StepId, Option<Instant>),
        (data, along): (Arc<dyn Data>, Option<Along>),
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
            along,
        }))?;
        let (mut verdict, mut predictions, mut traces) = (None, Vec::new(), Vec::new());
        for reply in replies {
            if let Reply::Pass(mut outcome) = reply {
                predictions.append(&mut outcome.predictions);
                traces.extend(outcome.trace);
                verdict.get_or_insert(outcome.verdict);
            }
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
        // The full training step stays; of others only those that were used last are kept.
        const MOST_WALKS: usize = 8;
        let mut walks = self.walks.iter();
        let known = walks.position(|walk| walk.kind == kind && walk.batch.rows() == rows);
        let walk = match known {
            Some(0) => return Ok(self.walks[0].clone()),
            Some(at) => self.walks.remove(at),
            None => Arc::new(self.plan.walk(kind, rows)?),
        };
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
