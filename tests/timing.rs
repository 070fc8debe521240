//! Promise: nodes work at the same time, as simulated.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use brigade::layer::{Network, TensorSpec};
use brigade::schedule::{Times, simulate};
use brigade::{Config, Cuts, ScheduleKind, Trainer, nn};
use common::*;
use std::time::Duration;

/// Four layers that sleep 10, 12 and 8 ms in F, I and W, on four nodes. Sleeping uses no core, so
/// this holds on any.
#[test]
fn a_network_of_sleeping_layers_takes_the_simulated_time_and_not_the_sum() {
    let ms = Duration::from_millis;
    let sleeping = || Toy {
        sleep: [ms(10), ms(12), ms(8)],
        params: 1,
        ..toy()
    };
    let network = Network::builder()
        .input(TensorSpec::f32([6]))
        .target(TensorSpec::f32([6]))
        .layer("a", sleeping())
        .layer("b", sleeping())
        .layer("c", sleeping())
        .layer("d", sleeping())
        .loss("loss", nn::MeanSquaredError)
        .build()
        .unwrap();
    for schedule in ScheduleKind::ALL {
        let config = Config {
            nodes: 4,
            schedule,
            cuts: Cuts::Before(vec![1, 2, 3]),
            batch_size: 8,
            micro_batch_size: 1,
            ..Config::default()
        };
        let mut trainer = Trainer::start(&network, &config, nn::Sgd::default()).unwrap();
        let plan = trainer.plan().clone();
        let micro_batches = plan.training.batch.micro_batches();
        let times = Times::equal(4, 0.010, 0.012, 0.008);
        let simulated = simulate(&plan.training.lowered, &plan.layout, micro_batches, &times)
            .unwrap()
            .makespan;
        let sum = 4.0 * 8.0 * 0.030;
        trainer.step(&numbers(8)).unwrap();
        let measured = (0..3)
            .map(|_| trainer.step(&numbers(8)).unwrap().duration.as_secs_f64())
            .fold(f64::MAX, f64::min);
        println!(
            "{schedule}: measured {measured:.4} s, simulated {simulated:.4} s, one after the other {sum:.4} s"
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
