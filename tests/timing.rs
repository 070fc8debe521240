//! Promise: nodes work at the same time, as simulated.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use brigade::layer::{Network, TensorSpec};
use brigade::schedule::{Measured, Times};
use brigade::{Config, Cuts, Plan, ScheduleKind, Trainer, nn};
use common::*;
use std::time::Duration;

/// So many layers that sleep so many milliseconds in F, I and W. Sleeping uses no core, so what is
/// said here holds on any number of them.
fn sleeping(layers: usize, ms: [u64; 3]) -> Network {
    let mut builder = Network::builder()
        .input(TensorSpec::f32([6]))
        .target(TensorSpec::f32([6]));
    for layer in 0..layers {
        let toy = Toy {
            sleep: ms.map(Duration::from_millis),
            params: 1,
            ..toy()
        };
        builder = builder.layer(&format!("l{layer}"), toy);
    }
    builder.loss("loss", nn::MeanSquaredError).build().unwrap()
}

/// Every schedule on four nodes: what it takes is what is simulated with the layers' times.
/// How closely is measured by `cargo bench --bench predict`.
#[test]
fn a_network_of_sleeping_layers_takes_the_simulated_time_and_not_the_sum() {
    let (nodes, ms) = (4, [10, 12, 8]);
    for schedule in ScheduleKind::ALL {
        let (straight, micro_batches) = (sleeping(nodes, ms), 2 * nodes);
        let folded = sleeping(2 * nodes, ms.map(|ms| ms / 2));
        let config = |stages: usize| Config {
            nodes,
            schedule,
            cuts: Cuts::Before((1..stages).collect()),
            batch_size: micro_batches,
            micro_batch_size: 1,
            ..Config::default()
        };
        let (network, stages) = match Plan::new(&straight, &config(nodes), &adamw()) {
            Ok(_) => (straight, nodes),
            Err(_) => (folded, 2 * nodes),
        };
        let share = nodes as f64 / stages as f64;
        let [f, i, w] = ms.map(|ms| share * ms as f64 / 1e3);
        let times = Times::equal(stages, f, i, w);
        let told = Measured {
            schedule,
            times: times.clone(),
        };
        let (config, optimizer) = (config(stages), nn::Sgd::default());
        let trainer = Trainer::start_with_schedule(&network, &config, optimizer, &told);
        let mut trainer = trainer.unwrap();
        let simulated = trainer.plan().simulate(&times).unwrap().makespan;
        let sum = (nodes * micro_batches) as f64 * 0.030;
        let data = numbers(micro_batches);
        trainer.step(&data).unwrap();
        let measured = (0..2)
            .map(|_| trainer.step(&data).unwrap().duration.as_secs_f64())
            .fold(f64::MAX, f64::min);
        println!(
            "{schedule:16}: measured {measured:.4} s, simulated {simulated:.4} s, one after the \
             other {sum:.2} s"
        );
        assert!(
            measured >= simulated,
            "faster than possible: {measured} < {simulated}"
        );
        // Not a speed but a promise: side by side, not one after the other. Half way leaves room
        // for a busy machine.
        assert!(
            measured < (simulated + sum) / 2.0,
            "{measured} s, simulated {simulated} s, in turn {sum} s"
        );
    }
}
