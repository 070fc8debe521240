//! What the engine costs beside the arithmetic, and what a steady-state step allocates.
//!
//! Predictions: under 1% of a step at width 256; at most 3 us a layer call and 10 us a hop on a
//! network of width 16, whose arithmetic takes next to nothing.
#![allow(missing_docs)]

use brigade::layer::*;
use brigade::{Config, Cuts, ScheduleKind, Trainer, nn};
use criterion::{Criterion, criterion_group, criterion_main};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use std::alloc::System;
use std::time::Instant;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const MICRO_BATCHES: usize = 8;

fn optimizer() -> nn::AdamW {
    nn::AdamW::new(1e-4)
}

fn mlp(width: usize, pairs: usize) -> Network {
    let mut widths = vec![width; pairs + 1];
    widths[0] = width;
    let mse = nn::MeanSquaredError;
    nn::Mlp::new(widths)
        .network(mse, TensorSpec::f32([width]))
        .expect("an MLP")
}

fn batch(rows: usize, width: usize) -> Batch {
    let numbers = |shift: f32| {
        let values = (0..rows * width)
            .map(|at| (at as f32 * 0.37 + shift).sin())
            .collect();
        Tensor::from_vec([rows, width], values).expect("fits")
    };
    Batch::new(numbers(0.0), numbers(1.0)).expect("as many rows")
}

fn config(nodes: usize, rows: usize, micro_rows: usize) -> Config {
    let (batch_size, micro_batch_size) = (rows, micro_rows);
    Config {
        nodes,
        cuts: Cuts::Uniform,
        schedule: ScheduleKind::GPipe,
        batch_size,
        micro_batch_size,
        ..Config::default()
    }
}

/// The same layers called in a loop, in the order of gpipe on one node, with the same update: no
/// engine.
struct Bare {
    layers: Vec<(Box<dyn AnyLayer>, LayerState)>,
    slots: Vec<Vec<Slot>>,
    pool: Pool,
    optimizer: nn::AdamW,
    step: u64,
}

impl Bare {
    fn new(network: &Network) -> Self {
        let pool = Pool::default();
        let layers: Vec<_> = (network.enumerate())
            .map(|(index, layer)| {
                let built = layer
                    .spec
                    .build_any(&network.build_ctx(index, &pool, 1))
                    .expect("it builds");
                (built, LayerState::default())
            })
            .collect();
        let slots = (0..MICRO_BATCHES)
            .map(|_| layers.iter().map(|(layer, _)| layer.slot()).collect())
            .collect();
        Self {
            layers,
            slots,
            pool,
            optimizer: optimizer(),
            step: 0,
        }
    }

    fn step(&mut self, data: &Batch) {
        let step = StepId::new(self.step);
        let rows = data.rows(step);
        let micro = rows / MICRO_BATCHES;
        let last = self.layers.len() - 1;
        for (m, slots) in self.slots.iter_mut().enumerate() {
            let range = m * micro..(m + 1) * micro;
            let mut value = data.inputs(step, range.clone()).expect("data");
            for (at, ((layer, state), slot)) in self.layers.iter_mut().zip(slots).enumerate() {
                if at == last {
                    let target = data.targets(step, range.clone()).expect("data").remove(0);
                    value.push(target).expect("two inputs");
                }
                let mut cx = Ctx::new(&self.pool, state).wanting([at > 0, false]);
                value = layer.f(value, slot, &mut cx).expect("F");
            }
        }
        let terms = (rows * 16) as f32;
        for slots in &mut self.slots {
            let mut seed = self.pool.f32([1]).expect("memory");
            seed.data()[0] = 1.0 / terms;
            let mut gradient = Tensors::from(seed.freeze());
            for (at, ((layer, state), slot)) in self.layers.iter_mut().zip(slots).enumerate().rev()
            {
                let mut cx = Ctx::new(&self.pool, state).wanting([at > 0, false]);
                let mut gradients = layer.i(gradient, slot, &mut cx).expect("I");
                layer.w(slot, &mut cx).expect("W");
                gradient = [gradients.remove(0)].into();
            }
        }
        let with = UpdateWith::new(step, &self.pool);
        for (layer, _) in &mut self.layers {
            let mut square = 0.0;
            layer.visit_params(&mut |param| square += param.sum_of_squares().expect("a norm"));
            assert!(square.is_finite());
            layer.visit_params(&mut |param| {
                param.update(&self.optimizer, &with).expect("an update")
            });
        }
        self.step += 1;
    }
}

/// Medians in microseconds of two things done in turn, so that both see the same machine; who goes
/// first alternates.
fn in_turn(rounds: usize, mut one: impl FnMut(), mut other: impl FnMut()) -> (f64, f64) {
    let mut times = (Vec::new(), Vec::new());
    let time = |act: &mut dyn FnMut()| {
        let started = Instant::now();
        act();
        started.elapsed().as_secs_f64() * 1e6
    };
    for round in 0..rounds + 4 {
        let (first, second) = if round % 2 == 0 {
            let first = time(&mut one);
            (first, time(&mut other))
        } else {
            let second = time(&mut other);
            (time(&mut one), second)
        };
        if round >= 4 {
            times.0.push(first);
            times.1.push(second);
        }
    }
    let median = |mut list: Vec<f64>| {
        list.sort_by(f64::total_cmp);
        list[list.len() / 2]
    };
    (median(times.0), median(times.1))
}

fn engine(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("engine");
    group.sample_size(20);
    for (width, rows, rounds) in [(256, 512 * MICRO_BATCHES, 60), (16, 4 * MICRO_BATCHES, 400)] {
        let (network, data) = (mlp(width, 8), batch(rows, width));
        let layers = network.layers().len();
        let mut bare = Bare::new(&network);
        let config = config(1, rows, rows / MICRO_BATCHES);
        let mut trainer = Trainer::start(&network, &config, optimizer()).expect("it starts");
        let (engine_us, bare_us) = in_turn(
            rounds,
            || assert!(trainer.step(&data).is_ok()),
            || bare.step(&data),
        );
        let calls = (3 * layers * MICRO_BATCHES) as f64;
        println!(
            "width {width}: step {engine_us:.0} us, bare layers {bare_us:.0} us: {:+.2}% (wanted under 1% at width 256), \
             {:.2} us a layer call with the engine, {:.2} us of it the engine's (wanted at most 3)",
            100.0 * (engine_us / bare_us - 1.0),
            engine_us / calls,
            (engine_us - bare_us) / calls,
        );
        group.bench_function(format!("step, width {width}"), |bencher| {
            bencher.iter(|| trainer.step(&data))
        });
        group.bench_function(format!("bare, width {width}"), |bencher| {
            bencher.iter(|| bare.step(&data))
        });
    }
    group.finish();
}

/// One micro-batch goes through all nodes and back: everything beyond one node's time is hops.
fn hops(_: &mut Criterion) {
    let (network, data) = (mlp(16, 8), batch(4, 16));
    let start =
        |nodes| Trainer::start(&network, &config(nodes, 4, 4), optimizer()).expect("it starts");
    let (mut one, mut two) = (start(1), start(2));
    let (one_us, two_us) = in_turn(
        500,
        || assert!(one.step(&data).is_ok()),
        || assert!(two.step(&data).is_ok()),
    );
    // There and back, then the scalars there and the verdict back.
    println!(
        "hop: 1 node {one_us:.1} us, 2 nodes {two_us:.1} us: {:.2} us a hop (wanted at most 10)",
        (two_us - one_us) / 4.0
    );
}

/// What a steady-state step allocates, counted over the whole process, for networks of two sizes.
fn allocations(_: &mut Criterion) {
    for (width, pairs, nodes) in [
        (64, 4, 1),
        (256, 4, 1),
        (64, 16, 1),
        (64, 16, 2),
        (256, 16, 4),
    ] {
        let (network, data) = (mlp(width, pairs), batch(4 * MICRO_BATCHES, width));
        let config = config(nodes, 4 * MICRO_BATCHES, 4);
        let mut trainer = Trainer::start(&network, &config, optimizer()).expect("it starts");
        for _ in 0..20 {
            trainer.step(&data).expect("a step");
        }
        let born = |trainer: &mut Trainer| -> u64 {
            trainer
                .report()
                .expect("a report")
                .iter()
                .map(|node| node.memory.born)
                .sum()
        };
        let (born_before, before) = (born(&mut trainer), ALLOCATOR.stats());
        const STEPS: usize = 50;
        for _ in 0..STEPS {
            trainer.step(&data).expect("a step");
        }
        let after = ALLOCATOR.stats();
        let tensors = born(&mut trainer) - born_before;
        let parameters: usize = pairs * (width * width + width);
        println!(
            "width {width}, {} layers ({parameters} parameters), {nodes} nodes: {} allocations of {} bytes a step, \
             {tensors} tensors in {STEPS} steps (predicted 0)",
            network.layers().len(),
            (after.allocations - before.allocations) / STEPS,
            (after.bytes_allocated - before.bytes_allocated) / STEPS,
        );
    }
}

criterion_group!(benches, engine, hops, allocations);
criterion_main!(benches);
