//! What belongs to one walk through a node's list.

use super::command::{Along, Outcome, Request};
use super::feeds::Feeds;
use super::runner::Forwarded;
use crate::config::OnNonFinite;
use crate::error::Cause;
use crate::ids::{MicroBatchId, NodeId, PassId, StepId};
use crate::plan::{PassKind, Plan};
use crate::sync::Verdict;
use crate::trace::Recorder;
use brigade_layer::{Mode, Network, Pool};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// One pass on one node.
pub(super) struct Pass {
    pub(super) id: PassId,
    pub(super) step: StepId,
    pub(super) mode: Mode,
    pub(super) feeds: Feeds,
    pub(super) along: Option<Along>,
    /// Raised by whoever wants to stop.
    pub(super) stop: Arc<AtomicBool>,
    /// Over how many terms the loss of each micro-batch sums, on the node that has it.
    terms: Option<Vec<f64>>,
    pub(super) trains: bool,
    metrics: usize,
    /// By micro-batch.
    forwarded: Vec<Forwarded>,
    pub(super) loss_gradient: f32,
    verdict: Option<Verdict>,
    /// Notes on what happens and when, if they are wanted.
    pub(super) recorder: Option<Recorder>,
}

impl Pass {
    pub(super) fn begin(
        request: &Request,
        node: NodeId,
        plan: &Plan,
        network: &Network,
        pool: &Pool,
    ) -> Result<Self, Cause> {
        let walk = &request.walk;
        let feeds = Feeds::new(request.data.clone(), request.step, walk, pool.clone());
        let with_loss = plan
            .layout
            .placement
            .node_of(plan.partition.stage_of(network.loss()));
        let terms = match with_loss == node && !walk.kind.predicts() {
            true => Some(feeds.count_terms(network)?),
            false => None,
        };
        let trains = walk.kind == PassKind::Train;
        let total = terms.as_ref().map(|terms| terms.iter().sum::<f64>());
        if trains && total.is_some_and(|total| total <= 0.0 || !total.is_finite()) {
            return Err(Cause::NoTerms);
        }
        let actions = walk.lowered.nodes[node.index()].len();
        let recorder = (request.traced).map(|epoch| Recorder::new(epoch, actions));
        let mut forwarded = Vec::new();
        forwarded.resize_with(walk.batch.micro_batches().index(), Forwarded::default);
        Ok(Self {
            id: request.pass,
            step: request.step,
            mode: match walk.kind {
                PassKind::Train => Mode::Train,
                PassKind::Generate { .. } => Mode::Generate,
                PassKind::Evaluate | PassKind::Predict => Mode::Evaluate,
            },
            along: request.along,
            feeds,
            stop: request.stop.clone(),
            terms,
            trains,
            metrics: if trains { 0 } else { network.metrics().len() },
            forwarded,
            loss_gradient: total.map_or(0.0, |total| (1.0 / total) as f32),
            // Nothing is left to agree on after a piece of a sequence.
            verdict: request.along.map(|_| Verdict::default()),
            recorder,
        })
    }

    pub(super) fn keep(&mut self, micro_batch: MicroBatchId, forwarded: Forwarded) {
        self.forwarded[micro_batch.index()] = forwarded;
    }

    /// Training: loss sum and terms, folded in micro-batch order. Evaluating: for every micro-batch
    /// its loss sum and terms, and a sum and a count for every metric, so that whoever folds them
    /// does not depend on how many go through the pipeline at once.
    pub(super) fn measures(&self) -> Vec<f64> {
        let Some(terms) = &self.terms else {
            return Vec::new();
        };
        let losses = self
            .forwarded
            .iter()
            .map(|forwarded| forwarded.loss.map_or(0.0, f64::from));
        if self.trains {
            return vec![losses.sum(), terms.iter().sum()];
        }
        let mut measures = Vec::with_capacity(self.forwarded.len() * (2 + 2 * self.metrics));
        for ((forwarded, loss), terms) in self.forwarded.iter().zip(losses).zip(terms) {
            measures.extend([loss, *terms]);
            measures.extend(
                forwarded
                    .metrics
                    .iter()
                    .flat_map(|metric| [metric.sum, metric.count]),
            );
        }
        measures
    }

    /// Takes what all nodes agreed on, or what is wrong with it.
    pub(super) fn heed(&mut self, verdict: Verdict, on: OnNonFinite) -> Result<(), Cause> {
        if let (OnNonFinite::Stop, Some(nonfinite)) = (on, &verdict.nonfinite) {
            return Err(Cause::NonFinite(nonfinite.clone()));
        }
        self.verdict = Some(verdict);
        Ok(())
    }

    /// What all nodes agreed on.
    pub(super) fn verdict(&self) -> Result<&Verdict, Cause> {
        self.verdict.as_ref().ok_or_else(no_exchange)
    }

    /// What all nodes agreed on, and the predictions in micro-batch order.
    pub(super) fn outcome(self) -> Result<Outcome, Cause> {
        let trace = self.recorder.map(Recorder::done);
        let verdict = self.verdict.ok_or_else(no_exchange)?;
        let predictions = self
            .forwarded
            .into_iter()
            .filter_map(|forwarded| forwarded.prediction)
            .collect();
        Ok(Outcome {
            verdict,
            predictions,
            trace,
        })
    }
}

fn no_exchange() -> Cause {
    Cause::Bug("a list without an exchange".into())
}
