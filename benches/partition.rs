//! The best partition. Predictions: stages x log2(layers) where computing is all, since the lower
//! bound is the optimum; layers x layers where transfers load both sides: each stage may end at a
//! share of all layers, and starts within a stage's length before. With several stages a node the
//! budget of the search is what takes the time, unless it is done before.
#![allow(missing_docs)]

use brigade::ids::{NodeCount, StageCount};
use brigade::layer::Random;
use brigade::partition::{ChainCosts, CutCost, Cuts, Partition, optimum};
use brigade::placement::Placement;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::{Duration, Instant};

const STRAIGHT: [(usize, u32); 5] = [
    (100, 4),
    (1000, 16),
    (1000, 128),
    (10_000, 64),
    (10_000, 1024),
];

fn drawn(layers: usize, name: &str) -> Vec<u64> {
    let random = Random::named(1, name);
    (0..layers as u64)
        .map(|layer| 1 + random.below(layer, 0, 1000))
        .collect()
}

fn floats(numbers: &[u64]) -> Vec<f64> {
    numbers.iter().map(|number| *number as f64).collect()
}

/// Measures, beside what the first case predicts.
fn measure<T>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    work: f64,
    unit_ns: &mut Option<f64>,
    run: impl Fn() -> T,
) {
    run();
    let started = Instant::now();
    run();
    let took_ns = started.elapsed().as_nanos() as f64;
    let predicted_ns = *unit_ns.get_or_insert(took_ns / work) * work;
    println!(
        "{name}: {:.3} ms (predicted from the first: {:.3} ms)",
        took_ns / 1e6,
        predicted_ns / 1e6
    );
    group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
        bencher.iter(&run)
    });
}

fn partition(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("partition");
    group.sample_size(10);
    let mut unit_ns = None;
    for (layers, stages) in STRAIGHT {
        let costs = drawn(layers, "costs");
        let split = || Partition::new(black_box(&costs), StageCount::new(stages), &Cuts::Balanced);
        let work = f64::from(stages) * (layers as f64).log2();
        let name = format!("{layers}x{stages}");
        measure(&mut group, &name, work, &mut unit_ns, split);
    }
    let mut unit_ns = None;
    group.measurement_time(Duration::from_secs(2));
    for (layers, nodes) in [(1000, 128), (10_000, 1024)] {
        let (times, sent) = (floats(&drawn(layers, "costs")), drawn(layers, "sent"));
        let placement = Placement::straight(NodeCount::new(nodes));
        let costs = ChainCosts::new(&times, &placement)
            .transfers(CutCost::Both, |cut, _, _| sent[cut] as f64);
        let name = format!("{layers}x{nodes}, transfers on both sides");
        let work = (layers * layers) as f64;
        measure(&mut group, &name, work, &mut unit_ns, || {
            optimum(black_box(&costs))
        });
    }
    for (layers, nodes) in [(24, 4), (100, 8), (200, 16), (1000, 128)] {
        let times = floats(&drawn(layers, "costs"));
        for (shape, placement) in [
            ("V", Placement::v_shaped(NodeCount::new(nodes))),
            ("looped", Placement::looped(NodeCount::new(nodes), 2)),
        ] {
            let costs = ChainCosts::new(&times, &placement);
            let name = format!("{layers}x{nodes}, {shape}");
            let even = times.iter().sum::<f64>() / f64::from(nodes);
            if let Ok(best) = optimum(&costs) {
                let above = 100.0 * (best.bottleneck / even - 1.0);
                println!("{name}: {above:.2}% above even, proven: {}", best.proven);
            }
            group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
                bencher.iter(|| optimum(black_box(&costs)))
            });
        }
    }
    group.finish();
}

criterion_group!(benches, partition);
criterion_main!(benches);
