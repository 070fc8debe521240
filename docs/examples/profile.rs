//! A network of one's own in criterion: each distinct layer's F, I and W, then whole training steps
//! with all schedules; and what the layers' times predict for the steps.
//!
//! `cargo bench --bench profile`, or with a part of a name: `cargo bench --bench profile -- attn`
#![allow(missing_docs, clippy::unwrap_used)]

use brigade::bench::{Layers, steps};
use brigade::layer::Network;
use brigade::nn::{AdamW, Gpt, TokenWindows};
use brigade::profile::{Effort, Profile};
use brigade::{Config, Plan, ScheduleKind, Trainer};
use criterion::{Criterion, criterion_group, criterion_main};

const ROWS: usize = 2;

/// The network to look at, and data for it.
fn network() -> (Network, TokenWindows) {
    let gpt = Gpt {
        width: 128,
        blocks: 4,
        ..Gpt::default()
    };
    let tokens: Vec<i32> = (0..4096).map(|n| n * 31 % 256).collect();
    let data = TokenWindows::random(tokens, gpt.context, 8 * ROWS, 1).unwrap();
    (gpt.network().unwrap(), data)
}

fn layers(criterion: &mut Criterion) {
    let (network, data) = network();
    for layer in Layers::new(&network, &data, ROWS).unwrap() {
        let mut layer = layer.unwrap();
        let mut group = criterion.benchmark_group(layer.key());
        group.bench_function("F", |b| b.iter_custom(|n| layer.forward(n).unwrap()));
        group.bench_function("I", |b| b.iter_custom(|n| layer.backward_input(n).unwrap()));
        group.bench_function("W", |b| {
            b.iter_custom(|n| layer.backward_weight(n).unwrap())
        });
    }
}

fn training(criterion: &mut Criterion) {
    let ((network, data), optimizer) = (network(), AdamW::new(1e-3));
    let mut group = criterion.benchmark_group("step");
    group.sample_size(20);
    for nodes in [1, 2] {
        let config = Config {
            nodes,
            batch_size: 8 * ROWS,
            micro_batch_size: ROWS,
            ..Config::default()
        };
        let effort = Effort::Thorough;
        let profile = Profile::measure(&network, &data, &config, &optimizer, effort).unwrap();
        for schedule in ScheduleKind::ALL {
            let config = Config {
                schedule,
                ..config.clone()
            };
            let plan = Plan::new(&network, &config, &optimizer).unwrap();
            let predicted = profile.simulate(&plan).unwrap().makespan;
            let name = format!("{schedule}, {nodes} nodes");
            println!("step/{name}: predicted {:.2} ms", 1e3 * predicted);
            let mut trainer = Trainer::start(&network, &config, optimizer.clone()).unwrap();
            group.bench_function(&name, |b| {
                b.iter_custom(|n| steps(&mut trainer, &data, n).unwrap())
            });
        }
    }
}

criterion_group!(benches, layers, training);
criterion_main!(benches);
