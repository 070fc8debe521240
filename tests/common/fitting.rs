//! Whether nodes hold what was predicted.

use super::{adamw, is_legal, numbers, with};
use brigade::layer::{Data, Network, Precision};
use brigade::{Config, Cuts, Error, PlanError, Recompute, ScheduleKind, Trainer};
use std::ops::Range;

/// Trains, evaluates and predicts with a limit of exactly what was predicted.
pub fn stays_within_its_plan<D: Data + Clone>(network: &Network, config: &Config, data: &D) -> f64 {
    let needed: Vec<u64> = {
        let trainer = Trainer::start(network, config, adamw()).unwrap();
        trainer
            .plan()
            .memory
            .iter()
            .map(|memory| memory.peak_bytes())
            .collect()
    };
    let most = *needed.iter().max().unwrap();
    let limited = Config {
        node_memory_bytes: Some(most),
        ..config.clone()
    };
    let mut trainer = Trainer::start(network, &limited, adamw()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..3 {
        trainer.step(data).unwrap();
        if config.saving_bytes > 0 {
            trainer.save_beside(folder.path()).unwrap();
        }
    }
    trainer.evaluate(data).unwrap();
    trainer.predict(data).unwrap();
    trainer.step(data).unwrap();
    let held = trainer.report().unwrap();
    let mut least = f64::MAX;
    for (report, needed) in held.iter().zip(needed) {
        let peak = report.memory.peak_bytes;
        assert!(
            peak <= needed,
            "node {}: {peak} held, {needed} predicted, {config:?}",
            report.node
        );
        least = least.min(peak as f64 / needed as f64);
    }

    let less = Config {
        node_memory_bytes: Some(most - 1),
        ..config.clone()
    };
    let refused = Trainer::start(network, &less, adamw())
        .err()
        .expect("one byte less is refused");
    let Error::Plan(PlanError::DoesNotFit { needed_bytes, .. }) = refused else {
        panic!("{refused}")
    };
    assert_eq!(needed_bytes, most);
    least
}

/// The same of a network of `numbers` by every schedule, with and without recomputation: of all,
/// and of these segments. With costs the order depends on the limit, so those schedules are left
/// out.
pub fn stays_within_any_plan(network: &Network, nodes: &[usize], segments: &[Range<usize>]) {
    for nodes in nodes {
        for schedule in ScheduleKind::ALL {
            for recompute in [
                Recompute::Never,
                Recompute::Always,
                Recompute::Layers(segments.to_vec()),
            ] {
                let config = Config {
                    recompute,
                    ..with(*nodes, schedule, Cuts::Uniform, 1)
                };
                if is_legal(network, &config) && !schedule.uses_costs() {
                    stays_within_its_plan(network, &config, &numbers(13));
                }
            }
        }
    }
}

/// The same on several numbers of nodes, by four schedules, with micro-batches, threads, precision
/// and recomputation of several kinds. Gives the least that a node held of what was predicted.
pub fn stays_within_many_plans<D: Data + Clone>(network: &Network, data: &D) -> f64 {
    let mut least = f64::MAX;
    for nodes in [1, 2, 4, 8] {
        for schedule in [
            ScheduleKind::GPipe,
            ScheduleKind::OneFOneB,
            ScheduleKind::ZbH1,
            ScheduleKind::ZbV,
        ] {
            for (micro_batch_size, threads, precision, recompute) in [
                (1, 1, Precision::F32, Recompute::Never),
                (3, 2, Precision::F32, Recompute::Always),
                (3, 1, Precision::Bf16, Recompute::Never),
                (13, 2, Precision::Bf16, Recompute::Never),
            ] {
                let config = Config {
                    micro_batch_size,
                    precision,
                    wire: precision,
                    recompute,
                    ..with(nodes, schedule, Cuts::Balanced, threads)
                };
                if is_legal(network, &config) {
                    least = least.min(stays_within_its_plan(network, &config, data));
                }
            }
        }
    }
    least
}
