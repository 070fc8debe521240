//! Lowering, checking and simulating 1F1B. Prediction: linear in the number of actions.
#![allow(missing_docs)]

use brigade::ids::{MicroBatchCount, NodeCount};
use brigade::placement::Placement;
use brigade::schedule::{Layout, Schedule, ScheduleKind, Task, Times, check, lower, simulate};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use std::time::Instant;

fn everything(nodes: u32, micro_batches: u32) -> usize {
    let (nodes, count) = (NodeCount::new(nodes), MicroBatchCount::new(micro_batches));
    let layout = Layout::chain(Placement::straight(nodes));
    let task = Task::new(layout.placement.clone(), count);
    let definition = ScheduleKind::OneFOneB
        .define(&task)
        .expect("1f1b takes any");
    let lowered = lower(&definition, &layout, count).expect("1f1b lowers");
    check(&lowered, &layout, count, None, &|lane| {
        lowered.slots.of(lane)
    })
    .expect("1f1b is sound");
    let times = Times::equal(nodes.index(), 1.0, 1.0, 1.0);
    let simulation = simulate(&lowered, &layout, count, &times).expect("1f1b ends");
    assert!(simulation.makespan > 0.0);
    lowered.nodes.iter().map(Vec::len).sum()
}

fn schedule(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("schedule");
    group.sample_size(10);
    let mut first = None;
    for (nodes, micro_batches) in [(4, 16), (4, 64), (8, 256), (16, 1024)] {
        let started = Instant::now();
        let actions = everything(nodes, micro_batches);
        let each_ns = started.elapsed().as_nanos() as f64 / actions as f64;
        let predicted = *first.get_or_insert(each_ns);
        println!(
            "{nodes} nodes, {micro_batches} micro-batches: {actions} actions, {each_ns:.0} ns each \
             (predicted from the smallest: {predicted:.0} ns)"
        );
        group.throughput(Throughput::Elements(actions as u64));
        let id = BenchmarkId::from_parameter(format!("{nodes}x{micro_batches}"));
        group.bench_function(id, |bencher| {
            bencher.iter(|| everything(nodes, micro_batches))
        });
    }
    group.finish();
}

criterion_group!(benches, schedule);
criterion_main!(benches);
