//! Promise: where values skip layers and stages, what a node is predicted to hold is what it holds
//! in the worst case: never less, and at most a twentieth more.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use brigade::layer::*;
use brigade::{Config, Cuts, Recompute, ScheduleKind, Trainer, nn};
use common::*;
use std::time::Duration;

const WIDTH: usize = 32;
const ROWS: usize = 48;

/// A network whose layers take long in one of its parts; parts are numbered from 0.
type Slow<'a> = &'a dyn Fn(usize) -> Network;

fn linear() -> nn::Linear {
    nn::Linear::new(WIDTH, WIDTH)
}

/// A sum of its inputs that takes long, or not. It holds exactly what it says: its output, and a
/// gradient for each input, are tensors of their own.
#[derive(Clone, Debug)]
struct Sum(Duration);

struct SumLayer {
    takes: Duration,
    inputs: usize,
}

fn sum(slow: bool) -> Sum {
    Sum(Duration::from_millis(if slow { 5 } else { 0 }))
}

impl LayerSpec for Sum {
    type Layer = SumLayer;
    fn outputs(&self, inputs: &[TensorSpec]) -> Result<Vec<TensorSpec>, LayerError> {
        Ok(vec![inputs[0]])
    }
    fn cost(&self, inputs: &[TensorSpec]) -> Cost {
        let flops = inputs[0].shape.elements() as u64;
        Cost {
            forward_flops: flops,
            input_flops: flops,
            forward_working_bytes: inputs[0].bytes(),
            backward_working_bytes: inputs.iter().map(TensorSpec::bytes).sum(),
            ..Cost::default()
        }
    }
    fn build(&self, _: &BuildCtx<'_>) -> Result<SumLayer, LayerError> {
        let (takes, inputs) = (self.0, 0);
        Ok(SumLayer { takes, inputs })
    }
}

impl Layer for SumLayer {
    type Stash = ();
    type Kept = ();
    fn forward(&mut self, inputs: Tensors, cx: &mut Ctx<'_>) -> Result<(Tensors, ()), LayerError> {
        std::thread::sleep(self.takes);
        self.inputs = inputs.len();
        let first = inputs.get(0).ok_or(LayerError::Missing { index: 0 })?;
        let mut sum = cx.f32(first.shape())?;
        sum.data().fill(0.0);
        for input in inputs.iter().flatten() {
            let pairs = sum.data().iter_mut().zip(input.f32()?);
            pairs.for_each(|(sum, input)| *sum += input);
        }
        Ok((sum.freeze().into(), ()))
    }
    fn backward_input(
        &mut self,
        gradients: Tensors,
        (): (),
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensors, ()), LayerError> {
        std::thread::sleep(self.takes);
        let [dy] = gradients.take()?;
        let mut all = Tensors::none();
        for input in 0..self.inputs {
            let copy = || -> Result<Tensor, LayerError> {
                let mut dx = cx.f32(dy.shape())?;
                dx.data().copy_from_slice(dy.f32()?);
                Ok(dx.freeze())
            };
            let wanted = cx.wants_gradient(input);
            all.push(if wanted { Some(copy()?) } else { None })?;
        }
        Ok((all, ()))
    }
    fn backward_weight(&mut self, (): (), _: &mut Ctx<'_>) -> Result<(), LayerError> {
        Ok(())
    }
}

fn builder() -> NetworkBuilder {
    Network::builder()
        .input(TensorSpec::f32([WIDTH]))
        .target(TensorSpec::f32([WIDTH]))
}

/// Down and up again: what each level makes on its way down is read on the same level on the way
/// up. The levels' parts: down, bottom, up.
fn u_shaped(slow: usize) -> Network {
    let mut network = builder();
    let levels = ["1", "2", "3", "4"];
    let key = |name: &str, level: &str| format!("{name}{level}");
    for level in levels {
        network = network
            .layer(&key("into", level), linear())
            .layer(&key("down", level), sum(slow == 0));
    }
    network = network
        .layer("bottom", linear())
        .layer("deep", linear())
        .layer("middle", linear())
        .layer("top", linear())
        .layer("slow", sum(slow == 1));
    for level in levels.into_iter().rev() {
        let down = key("down", level);
        let inputs = [From::Previous, From::Layer(&down)];
        network = network
            .layer_from(&key("sum", level), sum(slow == 2), &inputs)
            .layer(&key("up", level), linear());
    }
    network.loss("loss", nn::MeanSquaredError).build().unwrap()
}

/// Blocks that add what they were given to what they make of it.
fn residual(slow: usize) -> Network {
    let mut network = builder().layer("stem", linear());
    let mut before = "stem".to_owned();
    for block in 0..6 {
        let key = |name: &str| format!("{name}{block}");
        let inputs = [From::Previous, From::Layer(&before)];
        network = network
            .layer(&key("a"), linear())
            .layer(&key("act"), nn::Activation::Relu)
            .layer(&key("b"), linear())
            .layer_from(&key("sum"), sum(slow == block / 2), &inputs);
        before = key("sum");
    }
    network.loss("loss", nn::MeanSquaredError).build().unwrap()
}

fn trained(network: &Network, config: &Config) -> (Vec<u64>, Vec<u64>) {
    let data = Numbers {
        rows: config.batch_size,
        inputs: WIDTH,
        targets: WIDTH,
    };
    let mut trainer = Trainer::start(network, config, adamw()).unwrap();
    let memory = &trainer.plan().memory;
    let needed = memory.iter().map(|memory| memory.peak_bytes()).collect();
    trainer.step(&data).unwrap();
    trainer.step(&data).unwrap();
    // Where nothing comes back, nothing holds the first node back.
    trainer.evaluate(&data).unwrap();
    let held = trainer.report().unwrap();
    (needed, held.iter().map(|it| it.memory.peak_bytes).collect())
}

/// What each node holds of what was predicted, where each has been the slowest once: then all that
/// can have come has come.
fn held_of_predicted(network: Slow<'_>, config: &Config) -> Vec<f64> {
    let mut most = vec![0; config.nodes];
    let mut predicted = Vec::new();
    for slow in 0..config.nodes {
        let (needed, held) = trained(&network(slow), config);
        for (most, held) in most.iter_mut().zip(held) {
            *most = held.max(*most);
        }
        predicted = needed;
    }
    let share = |(held, needed): (u64, u64)| held as f64 / needed as f64;
    most.into_iter().zip(predicted).map(share).collect()
}

fn is_close(network: Slow<'_>, cuts: &[usize], schedules: &[ScheduleKind]) {
    let mut failed = Vec::new();
    for schedule in schedules {
        for recompute in [Recompute::Never, Recompute::Always] {
            let config = Config {
                batch_size: 6 * ROWS,
                micro_batch_size: ROWS,
                recompute: recompute.clone(),
                ..with(cuts.len() + 1, *schedule, Cuts::Before(cuts.to_vec()), 1)
            };
            let held = held_of_predicted(network, &config);
            println!("{cuts:?} {schedule} {recompute:?}: {held:.3?}");
            if held.iter().any(|held| !(1.0 / 1.05..=1.0).contains(held)) {
                failed.push(format!("{schedule} {recompute:?}: {held:.3?}"));
            }
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

const STRAIGHT: [ScheduleKind; 3] = [
    ScheduleKind::GPipe,
    ScheduleKind::OneFOneB,
    ScheduleKind::ZbH1,
];

#[test]
fn skips_over_three_nodes_are_predicted_closely() {
    is_close(&u_shaped, &[8, 13], &STRAIGHT);
}

#[test]
fn skips_within_stages_are_predicted_closely() {
    is_close(&residual, &[9, 17], &STRAIGHT);
}

#[test]
fn skips_within_one_stage_are_predicted_closely() {
    is_close(&|_| u_shaped(3), &[], &STRAIGHT);
    is_close(&|_| residual(3), &[], &STRAIGHT);
}
