//! Lowering, checking and simulating 1F1B. Prediction: time and memory are linear in the number of
//! actions, from a thousand to over eight million.
//!
//! `SCHEDULE_BENCH=curve` prints the curve alone, with the bytes that an action takes.
#![allow(missing_docs)]

use brigade::ScheduleKind;
use brigade::ids::{MicroBatchCount, NodeCount};
use brigade::placement::Placement;
use brigade::schedule::{Layout, Schedule, Task, Times, check, lower, simulate_totals};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::time::{Duration, Instant};

#[global_allocator]
static GLOBAL: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What each part took, and how many compute actions there were.
struct Took {
    parts: [Duration; 4],
    computes: usize,
    kept_bytes: usize,
}

fn everything(nodes: u32, micro_batches: u32) -> Took {
    let (nodes, count) = (NodeCount::new(nodes), MicroBatchCount::new(micro_batches));
    let layout = Layout::chain(Placement::straight(nodes));
    let task = Task::new(layout.placement.clone(), count);
    let region = Region::new(GLOBAL);
    let mut last = Instant::now();
    let mut lap = || std::mem::replace(&mut last, Instant::now()).elapsed();

    let definition = ScheduleKind::OneFOneB
        .define(&task)
        .expect("1f1b takes any");
    let defined = lap();
    let lowered = lower(&definition, &layout, count).expect("1f1b lowers");
    let lowering = lap();
    check(&lowered, &layout, count, None, &|lane| {
        lowered.slots.of(lane)
    })
    .expect("1f1b is sound");
    let checking = lap();
    let times = Times::equal(nodes.index(), 1.0, 1.0, 1.0);
    let totals = simulate_totals(&lowered, &layout, count, &times).expect("1f1b ends");
    let simulating = lap();
    let rounds = f64::from(micro_batches + nodes.get() - 1);
    assert!((totals.makespan - 3.0 * rounds).abs() < 1e-6);
    let stats = region.change();
    Took {
        parts: [defined, lowering, checking, simulating],
        computes: definition.nodes.iter().map(Vec::len).sum(),
        kept_bytes: stats.bytes_allocated - stats.bytes_deallocated,
    }
}

fn curve() {
    let sizes = [(4, 64), (16, 256), (64, 1024), (256, 2048), (1024, 4096)];
    println!(
        "   P      M   compute actions   define   lower   check  simulate   ns each   bytes kept each"
    );
    for (nodes, micro_batches) in sizes {
        let Took {
            parts,
            computes,
            kept_bytes,
        } = everything(nodes, micro_batches);
        let [define, lower, check, simulate] = parts.map(|part| part.as_secs_f64());
        let each_ns = 1e9 * (define + lower + check + simulate) / computes as f64;
        let bytes = kept_bytes as f64 / computes as f64;
        println!(
            "{nodes:4} {micro_batches:6} {computes:17} {define:7.3}s {lower:6.3}s {check:6.3}s \
             {simulate:8.3}s {each_ns:9.0} {bytes:17.0}"
        );
    }
}

fn schedule(criterion: &mut Criterion) {
    curve();
    if std::env::var("SCHEDULE_BENCH").is_ok_and(|wanted| wanted == "curve") {
        return;
    }
    let mut group = criterion.benchmark_group("schedule");
    group.sample_size(10);
    for (nodes, micro_batches) in [(4, 16), (4, 64), (8, 256), (16, 1024)] {
        let computes = everything(nodes, micro_batches).computes;
        group.throughput(Throughput::Elements(computes as u64));
        let id = BenchmarkId::from_parameter(format!("{nodes}x{micro_batches}"));
        group.bench_function(id, |bencher| {
            bencher.iter(|| everything(nodes, micro_batches))
        });
    }
    group.finish();
}

criterion_group!(benches, schedule);
criterion_main!(benches);
