//! The trainer: plans once, starts the nodes, and asks them for steps.

use crate::checkpoint::{NamedTensor, Weights, weights_sha256};
use crate::config::Config;
use crate::error::{Error, PlanError, RunError};
use crate::ids::{PassId, StepId};
use crate::plan::{PassKind, Plan, Walk};
use crate::stage::{Command, NodeReport, Outcome, ParamReport, Reply, Request};
use crate::wire::Fault;
use brigade_layer::{Data, LayerError, LayerIndex, Measure, Network, Optimizer, Tensor, Tensors};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

mod nodes;

use nodes::Nodes;

/// What a training step did.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct StepReport {
    /// The step, from 0.
    pub step: StepId,
    /// The mean loss over all terms of the mini-batch, before the update.
    pub loss: f64,
    /// The global norm of the gradients, before clipping.
    pub gradient_norm: f64,
    /// The learning rate of the update.
    pub learning_rate: f64,
    /// How long it took.
    pub duration: Duration,
}

/// What an evaluation found.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Evaluation {
    /// The mean loss over all terms.
    pub loss: f64,
    /// Over how many terms.
    pub terms: f64,
    /// Every metric of the network by name; a mean is `None` when nothing was measured.
    pub metrics: Vec<(String, Option<f64>)>,
}

/// Trains a network through a pipeline of nodes.
///
/// Every process calls the same methods with the same arguments. Dropping the trainer ends its
/// nodes.
pub struct Trainer {
    network: Arc<Network>,
    plan: Arc<Plan>,
    optimizer: Arc<dyn Optimizer>,
    nodes: Nodes,
    walks: Vec<Arc<Walk>>,
    passes: u64,
    steps: u64,
}

impl Trainer {
    /// Plans, starts the nodes, and has every node build its own layers.
    ///
    /// # Errors
    /// When the plan does not work out, or a node cannot build its layers.
    pub fn start(
        network: &Network,
        config: &Config,
        optimizer: impl Optimizer,
    ) -> Result<Self, Error> {
        Self::start_with(network, config, Arc::new(optimizer), None)
    }

    /// As [`Trainer::start`], with a link that fails: for tests of what the other nodes make of it.
    ///
    /// # Errors
    /// As [`Trainer::start`].
    #[doc(hidden)]
    pub fn start_faulty(
        network: &Network,
        config: &Config,
        optimizer: impl Optimizer,
        fault: Fault,
    ) -> Result<Self, Error> {
        Self::start_with(network, config, Arc::new(optimizer), Some(fault))
    }

    fn start_with(
        network: &Network,
        config: &Config,
        optimizer: Arc<dyn Optimizer>,
        fault: Option<Fault>,
    ) -> Result<Self, Error> {
        let network = Arc::new(network.clone());
        let plan = Arc::new(Plan::new(&network, config, optimizer.as_ref())?);
        let nodes = Nodes::start(&network, config, &plan, &optimizer, fault)?;
        let walks = vec![Arc::new(plan.training.clone())];
        Ok(Self {
            network,
            plan,
            optimizer,
            nodes,
            walks,
            passes: 0,
            steps: 0,
        })
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Steps done.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// One training step on a mini-batch: forward, backward, shared sums, clipping, update.
    ///
    /// # Errors
    /// The cause of the first failure of any node. The trainer is of no use afterwards; start
    /// another.
    pub fn step<D: Data + Clone>(&mut self, data: &D) -> Result<StepReport, Error> {
        let started = Instant::now();
        let step = StepId::new(self.steps);
        let outcome = self
            .pass(
                PassKind::Train,
                data.rows(step),
                step,
                Arc::new(data.clone()),
            )?
            .0;
        self.steps += 1;
        Ok(StepReport {
            step,
            loss: outcome.verdict.loss,
            gradient_norm: outcome.verdict.gradient_norm,
            learning_rate: self.optimizer.learning_rate(step),
            duration: started.elapsed(),
        })
    }

    /// Loss and metrics over all rows of the data, forward only, as trained (nothing is dropped).
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn evaluate<D: Data + Clone>(&mut self, data: &D) -> Result<Evaluation, Error> {
        // The loss, then the metrics, folded in the order of the micro-batches.
        let mut sums = vec![Measure::default(); 1 + self.network.metrics().len()];
        self.forward_all(PassKind::Evaluate, data, |outcome, _| {
            for (at, measure) in outcome.verdict.measures.into_iter().enumerate() {
                let sum = at % sums.len();
                sums[sum] += measure;
            }
            Ok(())
        })?;
        let (loss, metrics) = (sums[0], &sums[1..]);
        let names = self
            .network
            .metrics()
            .iter()
            .map(|metric| metric.name().to_owned());
        let metrics = names.zip(metrics.iter().map(Measure::mean)).collect();
        Ok(Evaluation {
            loss: loss.mean().unwrap_or(f64::NAN),
            terms: loss.count,
            metrics,
        })
    }

    /// The network's output for all rows of the data: what the loss would be given. Targets are
    /// asked for only if a layer other than the loss reads them.
    ///
    /// # Shapes
    /// [rows, ...] with the rest as the network puts it out.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn predict<D: Data + Clone>(&mut self, data: &D) -> Result<Tensor, Error> {
        let (mut shape, mut rows, mut values) = (None, 0, Vec::new());
        self.forward_all(PassKind::Predict, data, |_, predictions| {
            for prediction in predictions {
                rows += prediction.shape().rows();
                values.extend_from_slice(prediction.f32()?);
                shape = Some(prediction.shape());
            }
            Ok(())
        })?;
        let shape = shape
            .ok_or(LayerError::Missing { index: 0 })?
            .with_rows(rows);
        Ok(Tensor::from_vec(shape, values)?)
    }

    /// All weights, in layer order.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn weights(&mut self) -> Result<Weights, Error> {
        let mut params: Vec<ParamReport> = Vec::new();
        for reply in self.nodes.ask(&Command::Weights)? {
            if let Reply::Weights(own) = reply {
                params.extend(own);
            }
        }
        params.sort_by_key(|param| param.layer);
        let named = |p: ParamReport| NamedTensor::new(p.key, p.shape.axes().to_vec(), p.values);
        Ok(Weights::new(params.into_iter().map(named).collect()))
    }

    /// Starts from these weights instead of the initial ones. They are looked up by key; the
    /// optimizer's state stays as it is.
    ///
    /// # Errors
    /// When a parameter is missing, unknown, or has another shape. Nothing has changed then.
    pub fn load_weights(&mut self, weights: &Weights) -> Result<(), Error> {
        let mut known: BTreeMap<_, _> = self.network.params().into_iter().collect();
        let refuse = |problem: String| Err(Error::from(LayerError::spec("weights", problem)));
        for param in &weights.params {
            match known.remove(&param.key) {
                None => return refuse(format!("the network has no parameter {}", param.key)),
                Some(spec) if spec.shape.axes() != param.shape => {
                    let (key, found) = (&param.key, &param.shape);
                    let wanted = spec.shape;
                    return refuse(format!(
                        "{key} has shape {found:?}, the network's has {wanted}"
                    ));
                }
                Some(spec) if spec.shape.elements() != param.values.len() => {
                    let (key, found) = (&param.key, param.values.len());
                    return refuse(format!("{key} has {found} values for shape {}", spec.shape));
                }
                Some(_) => {}
            }
        }
        if let Some(missing) = known.keys().next() {
            return refuse(format!("{missing} is missing"));
        }
        let values = weights
            .params
            .iter()
            .map(|param| (param.key.clone(), param.values.clone()));
        self.nodes.ask(&Command::Load(Arc::new(values.collect())))?;
        Ok(())
    }

    /// SHA-256, in hexadecimal, over the digests of all parameters in layer order: see
    /// [`Weights::sha256`]. No weight leaves its node.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn weights_sha256(&mut self) -> Result<String, Error> {
        let mut digests: Vec<(LayerIndex, [u8; 32])> = Vec::new();
        for reply in self.nodes.ask(&Command::Digests)? {
            if let Reply::Digests(own) = reply {
                digests.extend(own);
            }
        }
        digests.sort_by_key(|(layer, _)| *layer);
        Ok(weights_sha256(
            digests.into_iter().map(|(_, digest)| digest),
        ))
    }

    /// What every node holds and has done.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn report(&mut self) -> Result<Vec<NodeReport>, Error> {
        let replies = self.nodes.ask(&Command::Report)?;
        let report = |reply| {
            if let Reply::Report(report) = reply {
                Some(*report)
            } else {
                None
            }
        };
        Ok(replies.into_iter().filter_map(report).collect())
    }

    /// Every node's own error after a failure: the cause on one, its consequences on the others.
    pub fn errors(&self) -> &[RunError] {
        self.nodes.errors()
    }

    fn forward_all<D: Data + Clone>(
        &mut self,
        kind: PassKind,
        data: &D,
        mut on: impl FnMut(Outcome, Vec<Tensor>) -> Result<(), Error>,
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
            let (outcome, predictions) = self.pass(kind, rows, StepId::new(0), slice)?;
            on(outcome, predictions)?;
        }
        Ok(())
    }

    /// One walk of all nodes. The outcome is the same on all; predictions are where the loss is.
    fn pass(
        &mut self,
        kind: PassKind,
        rows: usize,
        step: StepId,
        data: Arc<dyn Data>,
    ) -> Result<(Outcome, Vec<Tensor>), Error> {
        let walk = self.walk(kind, rows)?;
        let pass = PassId::new(self.passes);
        self.passes += 1;
        let replies = self.nodes.ask(&Command::Pass(Request {
            pass,
            step,
            walk,
            data,
        }))?;
        let (mut first, mut predictions) = (None, Vec::new());
        for reply in replies {
            if let Reply::Pass(mut outcome) = reply {
                predictions.append(&mut outcome.predictions);
                first.get_or_insert(outcome);
            }
        }
        let outcome = first.ok_or_else(|| LayerError::Value("no node answered".into()))?;
        Ok((outcome, predictions))
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
