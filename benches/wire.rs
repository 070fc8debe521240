//! A tensor's way from node to node: between threads moved, encoded, and over MPI.
//!
//! A hop is everything between two layers that follow each other on different nodes: the action
//! lists, the link, waking the other node. It is the difference of two walks, one of which goes to
//! and fro more often, so that neither the exchange at the end nor the start of a walk counts.
//!
//! Prediction: moved, a hop takes the same time whatever its size; encoded, its bytes are copied
//! out and in again, at a few gigabytes a second; over MPI it takes what a bare ping-pong takes and
//! some 10 us for the two threads that it passes.
//!
//! `cargo bench --bench wire`; with `--features mpi` there are the columns of MPI too, on two ranks
//! (`BRIGADE_MPIEXEC` names another launcher than `mpirun`).
#![allow(missing_docs)]

use brigade::layer::*;
use brigade::{Config, Cuts, ScheduleKind, Trainer, Transport, nn, process};
use criterion::{BenchmarkId, Criterion, Throughput};
use std::time::{Duration, Instant};

#[cfg(feature = "mpi")]
#[path = "wire/mpi.rs"]
mod mpi;

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
/// Sizes of a tensor.
const KIB: [usize; 7] = [1, 4, 64, 1024, 4 * 1024, 16 * 1024, 64 * 1024];
/// Stages a node, of the short and of the long walk; one micro-batch goes from node to node once
/// less than there are stages.
const CHUNKS: [usize; 2] = [2, 6];

/// A pipeline of two nodes in which a tensor goes to and fro.
fn pipeline(kib: usize, transport: Transport, chunks: usize) -> (Trainer, Batch) {
    let (elements, stages) = (kib * 1024 / 4, 2 * chunks);
    let mut builder = Network::builder()
        .input(TensorSpec::f32([elements]))
        .target(TensorSpec::f32([1]));
    for stage in 0..stages {
        builder = builder.layer(&format!("pass {stage}"), Pass { is_loss: false });
    }
    let network = builder.loss("loss", Pass { is_loss: true }).build();
    let config = Config {
        nodes: 2,
        chunks: Some(chunks),
        cuts: Cuts::Before((1..stages).collect()),
        schedule: ScheduleKind::Interleaved1F1B,
        transport,
        batch_size: 1,
        micro_batch_size: 1,
        ..Config::default()
    };
    let inputs = Tensor::from_vec([1, elements], vec![1.0f32; elements]).expect("fits");
    let targets = Tensor::from_vec([1, 1], vec![0.0f32]).expect("fits");
    let data = Batch::new(inputs, targets).expect("as many rows");
    let network = network.expect("a chain");
    let trainer = Trainer::start(&network, &config, nn::Sgd::default()).expect("it starts");
    (trainer, data)
}

fn walk_time(trainer: &mut Trainer, data: &Batch) -> Duration {
    let started = Instant::now();
    trainer.evaluate(data).expect("it passes");
    started.elapsed()
}

/// Walks of one kind after each other: the first one finds cold caches.
const IN_A_ROW: usize = 8;

/// Microseconds of a hop, by the medians of many walks.
fn hop_us(kib: usize, transport: Transport) -> f64 {
    let mut pipelines = CHUNKS.map(|chunks| pipeline(kib, transport, chunks));
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..if kib > 1024 { 12 } else { 100 } {
        for ((trainer, data), times) in pipelines.iter_mut().zip(&mut times) {
            walk_time(trainer, data);
            times.extend((1..IN_A_ROW).map(|_| walk_time(trainer, data).as_secs_f64()));
        }
    }
    let [short, long] = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    });
    (long - short) * 1e6 / (2 * (CHUNKS[1] - CHUNKS[0])) as f64
}

fn column(transport: Transport) -> Vec<f64> {
    KIB.iter().map(|kib| hop_us(*kib, transport)).collect()
}

/// Less is noise.
const LEAST_US: f64 = 0.1;

/// Microseconds, and gigabytes a second.
fn shown(us: f64, kib: usize) -> String {
    match us < LEAST_US {
        true => format!("below {LEAST_US} us"),
        false => format!("{us:.1} us {:>7.2} GB/s", kib as f64 * 1.024 / us),
    }
}

fn table() {
    let moved = column(Transport::Local);
    let encoded = column(Transport::Encoded);
    let columns = vec![("moved", moved), ("encoded", encoded)];
    #[cfg(feature = "mpi")]
    let columns = [columns, mpi::columns().to_vec()].concat();
    print!("{:>12}", "");
    for (name, _) in &columns {
        print!("{name:>24}");
    }
    println!("{:>24}", "encoded, predicted");
    for (at, kib) in KIB.into_iter().enumerate() {
        print!("{kib:>8} KiB");
        for (_, hops) in &columns {
            print!("{:>24}", shown(hops[at], kib));
        }
        let copied = 2.0 * 1024.0 * kib as f64 / COPY_BYTES_PER_US;
        println!("{:>24}", shown(columns[1].1[0] + copied, kib));
    }
}

fn walks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wire");
    group.sample_size(20);
    for transport in [Transport::Local, Transport::Encoded] {
        for kib in [4, 1024, 16 * 1024] {
            let (mut trainer, data) = pipeline(kib, transport, CHUNKS[0]);
            let hops = 2 * CHUNKS[0] - 1;
            group.throughput(Throughput::Bytes((hops * kib * 1024) as u64));
            let id = BenchmarkId::new(format!("{transport:?}"), format!("{hops} x {kib} KiB"));
            group.bench_function(id, |bencher| {
                bencher.iter(|| walk_time(&mut trainer, &data))
            });
        }
    }
    group.finish();
}

fn main() {
    #[cfg(feature = "mpi")]
    if mpi::as_rank() {
        return;
    }
    assert_eq!(process::count(), 1, "over MPI it needs --features mpi");
    let mut criterion = Criterion::default().configure_from_args();
    table();
    walks(&mut criterion);
    criterion.final_summary();
}
