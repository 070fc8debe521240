//! Handing a tensor from node to node. Prediction: moved, it takes the same time whatever its size;
//! encoded, it is copied out and in again, at a few gigabytes a second.
#![allow(missing_docs)]

use brigade::layer::*;
use brigade::{Config, Cuts, Trainer, Transport, nn};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::time::{Duration, Instant};

/// Hands its input on, or as a loss does not even look at it.
#[derive(Clone, Copy, Debug)]
struct Pass {
    is_loss: bool,
}

impl LayerSpec for Pass {
    type Layer = Pass;
    fn outputs(&self, inputs: &[TensorSpec]) -> Result<Vec<TensorSpec>, LayerError> {
        Ok(vec![if self.is_loss {
            TensorSpec::f32([1])
        } else {
            inputs[0]
        }])
    }
    fn cost(&self, _: &[TensorSpec]) -> Cost {
        Cost {
            forward_flops: 1,
            ..Cost::default()
        }
    }
    fn build(&self, _: &BuildCtx<'_>) -> Result<Pass, LayerError> {
        Ok(*self)
    }
    fn loss_terms(&self, _: &Tensors) -> Result<f64, LayerError> {
        Ok(1.0)
    }
}

impl Layer for Pass {
    type Stash = ();
    type Kept = ();
    fn forward(
        &mut self,
        mut inputs: Tensors,
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensors, ()), LayerError> {
        if self.is_loss {
            return Ok((cx.pool().zeros([1])?.freeze().into(), ()));
        }
        Ok(([inputs.remove(0)].into(), ()))
    }
    fn backward_input(
        &mut self,
        gradients: Tensors,
        (): (),
        _: &mut Ctx<'_>,
    ) -> Result<(Tensors, ()), LayerError> {
        Ok((gradients, ()))
    }
    fn backward_weight(&mut self, (): (), _: &mut Ctx<'_>) -> Result<(), LayerError> {
        Ok(())
    }
}

/// What a copy out of memory and into it reaches.
const COPY_BYTES_PER_US: f64 = 10_000.0;
/// As many as two nodes evaluate at once.
const MICRO_BATCHES: usize = 8;

fn pipeline(elements: usize, transport: Transport) -> (Trainer, Batch) {
    let layer = Pass { is_loss: false };
    let network = Network::builder()
        .input(TensorSpec::f32([elements]))
        .target(TensorSpec::f32([1]))
        .layer("a", layer)
        .layer("b", layer)
        .layer("c", layer)
        .loss("loss", Pass { is_loss: true })
        .build()
        .expect("a chain");
    let config = Config {
        nodes: 2,
        cuts: Cuts::Uniform,
        transport,
        batch_size: MICRO_BATCHES,
        micro_batch_size: 1,
        ..Config::default()
    };
    let inputs = Tensor::from_vec(
        [MICRO_BATCHES, elements],
        vec![1.0f32; MICRO_BATCHES * elements],
    );
    let targets = Tensor::from_vec([MICRO_BATCHES, 1], vec![0.0f32; MICRO_BATCHES]);
    let data = Batch::new(inputs.expect("fits"), targets.expect("fits")).expect("as many rows");
    let trainer = Trainer::start(&network, &config, nn::Sgd::default()).expect("it starts");
    (trainer, data)
}

fn walk_time(trainer: &mut Trainer, data: &Batch) -> Duration {
    let started = Instant::now();
    trainer.evaluate(data).expect("it passes");
    started.elapsed()
}

fn wire(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wire");
    group.sample_size(20);
    for transport in [Transport::Local, Transport::Encoded] {
        let mut smallest_us = None;
        for kib in [4usize, 64, 1024, 16 * 1024] {
            let elements = kib * 1024 / 4;
            let (mut trainer, data) = pipeline(elements, transport);
            let mut times: Vec<_> = (0..400).map(|_| walk_time(&mut trainer, &data)).collect();
            times.sort();
            // The whole walk, waking the nodes and the exchange included: a bound for a hop.
            let walk_us = times[times.len() / 2].as_secs_f64() * 1e6;
            let measured = walk_us / MICRO_BATCHES as f64;
            let smallest = *smallest_us.get_or_insert(measured);
            let copied = if transport == Transport::Encoded {
                2.0 * 1024.0 * kib as f64
            } else {
                0.0
            };
            let predicted = smallest + copied / COPY_BYTES_PER_US;
            println!(
                "{transport:?} {kib:>6} KiB: {measured:>8.1} us a hop at most (predicted {predicted:.1} us)"
            );
            group.throughput(Throughput::Bytes((MICRO_BATCHES * kib * 1024) as u64));
            let id = BenchmarkId::new(format!("{transport:?}"), format!("{kib} KiB"));
            group.bench_function(id, |bencher| {
                bencher.iter(|| walk_time(&mut trainer, &data))
            });
        }
    }
    group.finish();
}

criterion_group!(benches, wire);
criterion_main!(benches);
