//! The exact balanced split. Prediction: stages x layers x log2(layers).
#![allow(missing_docs)]

use brigade::Cuts;
use brigade::ids::StageCount;
use brigade::layer::Random;
use brigade::partition::Partition;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::Instant;

fn partition(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("partition");
    group.sample_size(10);
    let random = Random::named(1, "costs");
    let mut unit_ns = None;
    for (layers, stages) in [(100u64, 4u32), (1000, 16), (1000, 128), (10_000, 64)] {
        let costs: Vec<u64> = (0..layers)
            .map(|layer| 1 + random.below(layer, 0, 1000))
            .collect();
        let split = || Partition::new(black_box(&costs), StageCount::new(stages), &Cuts::Balanced);
        let started = Instant::now();
        split().expect("there are more layers than stages");
        let took_ns = started.elapsed().as_nanos() as f64;
        let work = f64::from(stages) * layers as f64 * (layers as f64).log2();
        let predicted_ns = *unit_ns.get_or_insert(took_ns / work) * work;
        println!(
            "{layers} layers, {stages} stages: {:.3} ms (predicted from the first: {:.3} ms)",
            took_ns / 1e6,
            predicted_ns / 1e6
        );
        let id = BenchmarkId::from_parameter(format!("{layers}x{stages}"));
        group.bench_function(id, |bencher| bencher.iter(split));
    }
    group.finish();
}

criterion_group!(benches, partition);
criterion_main!(benches);
