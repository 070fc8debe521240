//! The trainer: plans once, starts the nodes, and asks them for steps.

use crate::config::Config;
use crate::error::{Cause, Error, PlanError, RunError};
use crate::ids::StepId;
use crate::plan::{PassKind, Plan, Walk};
use crate::process::Processes;
use crate::schedule::Schedule;
use crate::stage::{Command, NodeReport, Reply};
use crate::sync::{Saving, Verdict};
use crate::trace::{NodeTrace, StepTrace};
use crate::wire::{Fault, Patience};
use brigade_layer::{Data, LayerError, Measure, Network, Optimizer, Tensor};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

mod agreement;
mod generating;
mod inference;
mod nodes;
mod passes;
mod reports;
mod resuming;
mod saving;
mod weights;

pub use generating::{Generated, Generation, Sequence, WhenFull};
use nodes::Nodes;
pub use reports::{Evaluation, StepReport};
pub use resuming::Resumed;
use saving::Saves;

/// Trains a network through a pipeline of nodes.
///
/// Every process calls the same methods with the same arguments. Dropping the trainer ends its
/// nodes.
pub struct Trainer {
    network: Arc<Network>,
    plan: Arc<Plan>,
    config: Config,
    optimizer: Arc<dyn Optimizer>,
    nodes: Nodes,
    saves: Saves,
    walks: Vec<Arc<Walk>>,
    stop: Arc<AtomicBool>,
    passes: u64,
    steps: u64,
    started: Instant,
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
        Self::start_with(network, config, Arc::new(optimizer), &config.schedule, None)
    }

    /// As [`Trainer::start`], in the order of this schedule instead of the configuration's: one's
    /// own, one from a file, or one that is told measured times.
    ///
    /// # Errors
    /// As [`Trainer::start`].
    pub fn start_with_schedule(
        network: &Network,
        config: &Config,
        optimizer: impl Optimizer,
        schedule: &dyn Schedule,
    ) -> Result<Self, Error> {
        Self::start_with(network, config, Arc::new(optimizer), schedule, None)
    }

    /// As [`Trainer::start`], with a plan that was made before, of this network and for this
    /// configuration. Its lists are proven again.
    ///
    /// # Errors
    /// As [`Trainer::start`], and when the plan is of another network, batch or number of nodes.
    pub fn start_with_plan(
        network: &Network,
        config: &Config,
        optimizer: impl Optimizer,
        plan: Plan,
    ) -> Result<Self, Error> {
        Self::start_drilled(network, config, optimizer, plan, None)
    }

    /// As [`Trainer::start_with_plan`], with a link that fails.
    pub(crate) fn start_drilled(
        network: &Network,
        config: &Config,
        optimizer: impl Optimizer,
        plan: Plan,
        fault: Option<Fault>,
    ) -> Result<Self, Error> {
        let suits = || optimizer.suits(&network.params());
        let settings =
            (config.validate()).and_then(|()| Ok(optimizer.validate().and_then(|()| suits())?));
        let plan = settings.and_then(|()| plan.proven(network, config));
        Self::start_planned(network, config, Arc::new(optimizer), plan, fault)
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
        let schedule = &config.schedule;
        Self::start_with(network, config, Arc::new(optimizer), schedule, Some(fault))
    }

    fn start_with(
        network: &Network,
        config: &Config,
        optimizer: Arc<dyn Optimizer>,
        schedule: &dyn Schedule,
        fault: Option<Fault>,
    ) -> Result<Self, Error> {
        let plan = Plan::with_schedule(network, config, optimizer.as_ref(), schedule);
        Self::start_planned(network, config, optimizer, plan, fault)
    }

    fn start_planned(
        network: &Network,
        config: &Config,
        optimizer: Arc<dyn Optimizer>,
        plan: Result<Plan, PlanError>,
        fault: Option<Fault>,
    ) -> Result<Self, Error> {
        let processes = Processes::meet(Patience::within(config.deadline()).busy)?;
        let plan = agreement::agree(processes, plan, config, optimizer.as_ref())?;
        let (network, plan) = (Arc::new(network.clone()), Arc::new(plan));
        let nodes = Nodes::start(&network, config, &plan, &optimizer, (processes, fault))?;
        let walks = vec![Arc::new(plan.training.clone())];
        let saves = Saves::new(config, &*optimizer, &network);
        Ok(Self {
            network,
            plan,
            config: config.clone(),
            optimizer,
            nodes,
            saves,
            walks,
            stop: Arc::default(),
            passes: 0,
            steps: 0,
            started: Instant::now(),
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

    /// Whoever wants to stop raises this flag: a signal handler, another thread, the program
    /// itself. Every node of this process reads it at the end of a training step, and
    /// [`StepReport::stop`] of that step is the same on all processes, so that all stop together.
    /// The trainer goes on until its caller does not; what was up stays up.
    pub fn stop_on(&mut self, asked: Arc<AtomicBool>) {
        self.stop = asked;
    }

    /// One training step on a mini-batch: forward, backward, shared sums, clipping, update.
    ///
    /// # Errors
    /// The cause of the first failure of any node. The trainer is of no use afterwards: start
    /// another, or, where there are several processes, end: what is left of the job is ended.
    pub fn step<D: Data + Clone>(&mut self, data: &D) -> Result<StepReport, Error> {
        Ok(self.train(data, None)?.0)
    }

    /// As [`Trainer::step`], with notes on every action and every call of a layer: the same
    /// numbers, a little slower.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn step_traced<D: Data + Clone>(
        &mut self,
        data: &D,
    ) -> Result<(StepReport, StepTrace), Error> {
        // Clocks of several machines agree on when all have met.
        self.nodes.share("step", ())?;
        let since = self.nodes.epoch(self.started)?;
        let (report, nodes) = self.train(data, Some(since))?;
        let step = report.step;
        Ok((report, StepTrace { step, nodes }))
    }

    fn train<D: Data + Clone>(
        &mut self,
        data: &D,
        traced: Option<Instant>,
    ) -> Result<(StepReport, Vec<NodeTrace>), Error> {
        let started = Instant::now();
        let step = StepId::new(self.steps);
        let rows = data.rows(step);
        let data = Arc::new(data.clone());
        let answer = self.pass(PassKind::Train, rows, (step, traced), data)?;
        let Verdict {
            flags,
            loss,
            gradient_norm,
            nonfinite,
            ..
        } = answer.verdict;
        self.steps += 1;
        if matches!(flags.saving, Saving::Done | Saving::Failed) {
            self.finish_in_report()?;
        }
        let report = StepReport {
            step,
            loss,
            gradient_norm,
            learning_rate: self.optimizer.learning_rate(step),
            skipped: nonfinite.map(Box::new),
            stop: flags.stop,
            saved: self.saves.finished.take().map(Box::new),
            duration: started.elapsed(),
        };
        Ok((report, answer.traces))
    }

    /// Loss and metrics over all rows of the data, forward only, as trained (nothing is dropped).
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn evaluate<D: Data + Clone>(&mut self, data: &D) -> Result<Evaluation, Error> {
        // The loss, then the metrics, folded in the order of the micro-batches.
        let mut sums = vec![Measure::default(); 1 + self.network.metrics().len()];
        self.forward_all(PassKind::Evaluate, data, |answer| {
            for (at, measure) in answer.verdict.measures.into_iter().enumerate() {
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
        self.forward_all(PassKind::Predict, data, |answer| {
            for prediction in answer.predictions {
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
        let own: Vec<_> = replies.into_iter().filter_map(report).collect();
        let mut all: Vec<NodeReport> = self
            .nodes
            .share("report", own)?
            .into_iter()
            .flatten()
            .collect();
        all.sort_by_key(|report| report.node);
        Ok(all)
    }

    /// Whether any of the processes says yes: for decisions that all have to take alike. To stop
    /// after a step, [`Trainer::stop_on`] needs no message.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn any(&mut self, yes: bool) -> Result<bool, Error> {
        Ok(self.nodes.share("answer", yes)?.contains(&true))
    }

    /// Ends the training for a reason outside of it: all other processes get this reason as the
    /// error of whatever they wait in. Does nothing after a failure, which they know of.
    pub fn give_up(&mut self, why: impl std::fmt::Display) {
        if self.nodes.errors().is_empty() {
            let cause = why.to_string();
            let consequence = false;
            let _ = self.nodes.lost(Cause::Told { cause, consequence });
        }
    }

    /// Every node's own error after a failure: the cause on one, its consequences on the others.
    pub fn errors(&self) -> &[RunError] {
        self.nodes.errors()
    }
}
