//! Promise: nothing hangs: whatever of one's own code panics, on whichever thread, is an error on
//! every node that says where, and the process is as good as before.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use brigade::layer::*;
use brigade::{Cause, Config, Cuts, Error, RunError, ScheduleKind, Trainer, nn};
use common::*;
use std::ops::Range;
use std::time::{Duration, Instant};

/// Far more than it takes, far less than any deadline.
const SOON: Duration = Duration::from_secs(5);

/// One layer a node, but for the last, which has two and the loss.
fn four_nodes() -> Config {
    with(4, ScheduleKind::OneFOneB, Cuts::Before(vec![1, 2, 3]), 2)
}

/// What every node says after this has failed.
fn fails<T: std::fmt::Debug>(
    network: &Network,
    optimizer: impl Optimizer,
    act: impl Fn(&mut Trainer) -> Result<T, Error>,
) -> RunError {
    let mut trainer = Trainer::start(network, &four_nodes(), optimizer).unwrap();
    let started = Instant::now();
    let error = (0..10).find_map(|_| act(&mut trainer).err());
    let Some(Error::Run(error)) = error else {
        panic!("{error:?}")
    };
    let all = trainer.errors();
    assert_eq!(all.len(), 4, "every node has an error: {all:?}");
    let root = |node: &RunError| node.root().cause == error.cause;
    assert!(all.iter().all(root), "{all:?}");
    assert_eq!(error.picture(), None, "nobody was stuck");
    drop(trainer);
    assert!(started.elapsed() < SOON, "took {:?}", started.elapsed());

    let mut next = Trainer::start(&chain_with(toy()), &four_nodes(), adamw()).unwrap();
    next.step(&numbers(13)).unwrap();
    *error
}

/// Node, step, action and text of an error.
fn place(error: &RunError) -> (u32, u64, String, String) {
    let action = error.action.map_or(String::new(), |a| a.to_string());
    if !action.is_empty() {
        assert!(error.row.contains(&format!("[{action}]")), "{error}");
    }
    let Cause::Panic(text) = &error.cause else {
        panic!("{error}")
    };
    (error.node.get(), error.step.get(), action, text.clone())
}

fn wanted(node: u32, step: u64, action: &str, text: &str) -> (u32, u64, String, String) {
    (node, step, action.to_owned(), text.to_owned())
}

fn one_step(data: impl Data + Clone) -> impl Fn(&mut Trainer) -> Result<(), Error> {
    move |trainer| trainer.step(&data).map(|_| ())
}

#[derive(Clone)]
struct BreakingData {
    numbers: Numbers,
    inputs_at: Option<u64>,
    targets_at: Option<u64>,
}

impl Data for BreakingData {
    fn rows(&self, step: StepId) -> usize {
        self.numbers.rows(step)
    }
    fn inputs(&self, step: StepId, rows: Range<usize>) -> Result<Tensors, LayerError> {
        let breaks = self.inputs_at == Some(step.get()) && rows.start == 3;
        assert!(!breaks, "inputs break");
        self.numbers.inputs(step, rows)
    }
    fn targets(&self, step: StepId, rows: Range<usize>) -> Result<Tensors, LayerError> {
        assert!(self.targets_at != Some(step.get()), "targets break");
        self.numbers.targets(step, rows)
    }
}

#[test]
fn data_that_panic_are_an_error_on_every_node() {
    let data = |inputs_at, targets_at| BreakingData {
        numbers: numbers(13),
        inputs_at,
        targets_at,
    };
    let network = chain_with(toy());
    let error = fails(&network, adamw(), one_step(data(Some(2), None)));
    assert_eq!(place(&error), wanted(0, 2, "0F1", "inputs break"));
    // The node of the loss asks for the targets ahead of its list: the mean is over all of them.
    let error = fails(&network, adamw(), one_step(data(None, Some(1))));
    assert_eq!(place(&error), wanted(3, 1, "", "targets break"));
}

#[derive(Debug)]
struct BreakingOptimizer(nn::AdamW);

impl Optimizer for BreakingOptimizer {
    fn state_names(&self) -> &[&'static str] {
        self.0.state_names()
    }
    fn learning_rate(&self, step: StepId) -> f64 {
        self.0.learning_rate(step)
    }
    fn update(&self, update: Update<'_>) {
        assert!(update.step.get() != 1, "the optimizer breaks");
        self.0.update(update);
    }
}

#[test]
fn an_optimizer_that_panics_is_an_error_on_every_node() {
    let optimizer = BreakingOptimizer(adamw());
    let error = fails(&chain_with(toy()), optimizer, one_step(numbers(13)));
    // All nodes with parameters break; the first of them is said.
    assert_eq!(place(&error), wanted(0, 1, "STEP", "the optimizer breaks"));
}

#[derive(Debug)]
struct BreakingMetric;

impl Metric for BreakingMetric {
    fn name(&self) -> &str {
        "breaking"
    }
    fn measure(&self, _: &Tensors) -> Result<Measure, LayerError> {
        panic!("the metric breaks")
    }
}

#[test]
fn a_metric_that_panics_is_an_error_on_every_node() {
    let network = chain_to(toy(), nn::MeanSquaredError).metric(BreakingMetric);
    let evaluate = |trainer: &mut Trainer| trainer.evaluate(&numbers(13));
    let error = fails(&network.build().unwrap(), adamw(), evaluate);
    assert_eq!(place(&error), wanted(3, 0, "3F0", "the metric breaks"));
}

/// A loss that panics where it is told to.
#[derive(Clone, Debug, Default)]
struct BreakingLoss {
    forward: bool,
    terms: bool,
}

impl LayerSpec for BreakingLoss {
    type Layer = Self;
    fn outputs(&self, inputs: &[TensorSpec]) -> Result<Vec<TensorSpec>, LayerError> {
        nn::MeanSquaredError.outputs(inputs)
    }
    fn cost(&self, inputs: &[TensorSpec]) -> Cost {
        nn::MeanSquaredError.cost(inputs)
    }
    fn build(&self, _: &BuildCtx<'_>) -> Result<Self, LayerError> {
        Ok(self.clone())
    }
    fn loss_terms(&self, targets: &Tensors) -> Result<f64, LayerError> {
        assert!(!self.terms, "the loss breaks while counting");
        nn::MeanSquaredError.loss_terms(targets)
    }
}

impl Layer for BreakingLoss {
    type Stash = Tensor;
    type Kept = ();
    fn forward(
        &mut self,
        inputs: Tensors,
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensors, Tensor), LayerError> {
        assert!(!self.forward, "the loss breaks");
        nn::MeanSquaredErrorLayer.forward(inputs, cx)
    }
    fn backward_input(
        &mut self,
        _: Tensors,
        _: Tensor,
        _: &mut Ctx<'_>,
    ) -> Result<(Tensors, ()), LayerError> {
        panic!("the loss breaks going back")
    }
    fn backward_weight(&mut self, (): (), _: &mut Ctx<'_>) -> Result<(), LayerError> {
        Ok(())
    }
}

#[test]
fn a_loss_that_panics_is_an_error_on_every_node() {
    let step = one_step(numbers(13));
    let says = |loss| {
        let network = chain_to(toy(), loss).build().unwrap();
        place(&fails(&network, adamw(), &step))
    };
    let none = BreakingLoss::default;
    let forward = BreakingLoss {
        forward: true,
        ..none()
    };
    assert_eq!(says(forward), wanted(3, 0, "3F0", "the loss breaks"));
    let backward = wanted(3, 0, "3B0", "the loss breaks going back");
    assert_eq!(says(none()), backward);
    let counting = wanted(3, 0, "", "the loss breaks while counting");
    let terms = BreakingLoss {
        terms: true,
        ..none()
    };
    assert_eq!(says(terms), counting);
}

#[test]
fn a_job_that_panics_on_a_thread_of_a_node_is_an_error_on_every_node() {
    for job in [Job::WaitedFor, Job::LeftAlone] {
        let network = chain_with(Toy {
            panics_in_a_job: Some(job),
            ..toy()
        });
        let (node, step, action, text) = place(&fails(&network, adamw(), one_step(numbers(13))));
        assert_eq!((node, &*text), (2, "a job breaks"), "{job:?}");
        match job {
            Job::WaitedFor => assert_eq!((step, &*action), (0, "2F0")),
            // When it runs is not said.
            Job::LeftAlone => assert!(!action.is_empty()),
        }
    }
}
