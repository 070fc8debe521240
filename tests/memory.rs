//! Promise: it fits, or it says so first. What is predicted before training bounds what is held.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use brigade::layer::*;
use brigade::{Config, Cuts, Plan, PlanError, Recompute, ScheduleKind, Trainer, nn};
use common::fitting::{stays_within_any_plan, stays_within_its_plan};
use common::*;

#[test]
fn gpts_hold_no_more_than_planned_on_any_number_of_nodes() {
    let mut least = f64::MAX;
    let shapes = [
        (16, 8, 29, true, 0.1),
        (32, 80, 11, false, 0.0),
        (8, 4, 600, true, 0.0),
        (48, 16, 50, false, 0.2),
    ];
    for (width, context, vocab, tied, dropout) in shapes {
        let gpt = nn::Gpt {
            vocab,
            context,
            width,
            heads: 2,
            blocks: 2,
            tied,
            biases: true,
            dropout,
            ..nn::Gpt::default()
        };
        let (network, data) = (
            gpt.network().unwrap(),
            Tokens {
                rows: 13,
                context,
                vocab: vocab as u64,
            },
        );
        for nodes in [1, 2, 4, 8] {
            for schedule in ScheduleKind::ALL {
                for (micro_batch_size, threads, precision) in [
                    (1, 1, Precision::F32),
                    (3, 2, Precision::F32),
                    (13, 1, Precision::F32),
                    (1, 1, Precision::Bf16),
                    (3, 2, Precision::Bf16),
                ] {
                    // What is rounded takes half of the room on its way.
                    let wire = precision;
                    let config = Config {
                        micro_batch_size,
                        precision,
                        wire,
                        ..with(nodes, schedule, Cuts::Balanced, threads)
                    };
                    // With costs the order depends on the limit: see below.
                    if is_legal(&network, &config) && !schedule.uses_costs() {
                        least = least.min(stays_within_its_plan(&network, &config, &data));
                    }
                }
            }
        }
    }
    println!("the least that a node held of what was predicted: {least:.2}");
}

/// What is recomputed is predicted as well as what is kept.
#[test]
fn gpts_that_recompute_hold_no_more_than_planned() {
    let gpt = nn::Gpt {
        vocab: 50,
        context: 32,
        width: 32,
        heads: 2,
        blocks: 4,
        tied: false,
        biases: true,
        dropout: 0.1,
        ..nn::Gpt::default()
    };
    let (network, context) = (gpt.network().unwrap(), gpt.context);
    let data = Tokens {
        rows: 13,
        context,
        vocab: 50,
    };
    let blocks = (0..gpt.blocks).map(|block| 2 + 2 * block..4 + 2 * block);
    let ways = [
        Recompute::Never,
        Recompute::ExceptLast,
        Recompute::Always,
        Recompute::Layers(blocks.collect()),
        Recompute::Layers((0..network.layers().len()).map(|l| l..l + 1).collect()),
    ];
    for recompute in ways {
        let mut least = (f64::MAX, None);
        for nodes in [1, 2, 4] {
            for schedule in ScheduleKind::ALL {
                for (micro_batch_size, precision) in [
                    (1, Precision::F32),
                    (3, Precision::F32),
                    (1, Precision::Bf16),
                ] {
                    let config = Config {
                        micro_batch_size,
                        precision,
                        wire: precision,
                        recompute: recompute.clone(),
                        ..with(nodes, schedule, Cuts::Balanced, 1)
                    };
                    if is_legal(&network, &config) && !schedule.uses_costs() {
                        let held = stays_within_its_plan(&network, &config, &data);
                        if held < least.0 {
                            least = (held, Some((nodes, schedule, micro_batch_size, precision)));
                        }
                    }
                }
            }
        }
        println!("{recompute:?}: the least held of what was predicted: {least:?}");
    }
}

/// Where no slot stays empty at the worst moment, on one node: within a twentieth.
#[test]
fn what_is_recomputed_is_predicted_closely() {
    let gpt = nn::Gpt {
        vocab: 64,
        context: 64,
        width: 64,
        heads: 4,
        blocks: 6,
        ..nn::Gpt::default()
    };
    let (network, context) = (gpt.network().unwrap(), gpt.context);
    let data = Tokens {
        rows: 16,
        context,
        vocab: 64,
    };
    let blocks = (0..gpt.blocks).map(|block| 1 + 2 * block..3 + 2 * block);
    let ways = [
        Recompute::Never,
        Recompute::ExceptLast,
        Recompute::Always,
        Recompute::Layers(blocks.collect()),
    ];
    let kinds = [
        ScheduleKind::GPipe,
        ScheduleKind::OneFOneB,
        ScheduleKind::ZbH1,
        ScheduleKind::ZbV,
    ];
    for recompute in ways {
        let mut least = f64::MAX;
        for schedule in kinds {
            let config = Config {
                batch_size: 16,
                micro_batch_size: 2,
                recompute: recompute.clone(),
                ..with(1, schedule, Cuts::Balanced, 1)
            };
            least = least.min(stays_within_its_plan(&network, &config, &data));
        }
        println!("{recompute:?}: {least:.3} of what was predicted");
        assert!(least > 0.95, "{recompute:?}: {least}");
    }
}

/// Copies for checkpoints that are written next to training, and while training waits.
#[test]
fn copies_for_checkpoints_are_counted() {
    let (network, data) = small_gpt();
    let mut least = f64::MAX;
    for saving_bytes in [1, 5000, 1 << 30] {
        for schedule in [
            ScheduleKind::GPipe,
            ScheduleKind::OneFOneB,
            ScheduleKind::ZbV,
        ] {
            for nodes in [1, 2, 4] {
                let config = Config {
                    saving_bytes,
                    ..with(nodes, schedule, Cuts::Balanced, 1)
                };
                least = least.min(stays_within_its_plan(&network, &config, &data));
            }
        }
    }
    assert!(least > 0.5, "far from what was held: {least}");
    let config = with(2, ScheduleKind::OneFOneB, Cuts::Balanced, 1);
    let plan = Plan::new(&network, &config, &adamw()).unwrap();
    let most = plan.memory.iter().map(|memory| memory.peak_bytes()).max();
    let limited = Config {
        node_memory_bytes: most,
        ..config
    };
    let folder = tempfile::tempdir().unwrap();
    let mut trainer = Trainer::start(&network, &limited, adamw()).unwrap();
    trainer.step(&data).unwrap();
    trainer.save(folder.path()).unwrap();
    trainer.step(&data).unwrap();
}

#[test]
fn skips_and_shared_parameters_are_counted() {
    let shared = || {
        nn::Linear::new(6, 6)
            .without_bias()
            .shared(SharedId::new(0))
    };
    let network = Network::builder()
        .input(TensorSpec::f32([6]))
        .target(TensorSpec::f32([6]))
        .layer("a", shared())
        .layer("b", shared())
        .layer_from("c", toy(), &[From::Previous, From::Layer("a")])
        .layer("d", shared())
        .layer("e", shared())
        .layer_from(
            "f",
            toy(),
            &[From::Previous, From::Layer("b"), From::Layer("a")],
        )
        .loss("loss", nn::MeanSquaredError)
        .build()
        .unwrap();
    stays_within_any_plan(&network, &[1, 2, 3, 6], &[1..3, 3..6]);
}

/// A schedule that is built for a limit takes what there is, and makes do with less.
#[test]
fn zb_auto_fits_into_the_memory_that_a_node_has() {
    let (network, data) = small_gpt();
    let config = Config {
        micro_batch_size: 1,
        ..with(3, ScheduleKind::ZbAuto, Cuts::Balanced, 1)
    };
    let needs = |config: &Config| {
        let plan = Plan::new(&network, config, &adamw());
        plan.map(|plan| plan.memory.iter().map(|m| m.peak_bytes()).max().unwrap())
    };
    let free = needs(&config).unwrap();
    let tightest = needs(&Config {
        schedule: ScheduleKind::OneFOneB,
        batch_size: 1,
        ..config.clone()
    });
    let (mut fitted, mut last) = (0, u64::MAX);
    for share in [1.0, 0.9, 0.8, 0.7, 0.6, 0.5] {
        let most = (free as f64 * share) as u64;
        let limited = Config {
            node_memory_bytes: Some(most),
            ..config.clone()
        };
        match needs(&limited) {
            Ok(needed) => {
                assert!(needed <= most && most < last);
                let mut trainer = Trainer::start(&network, &limited, adamw()).unwrap();
                trainer.step(&data).unwrap();
                for report in trainer.report().unwrap() {
                    assert!(report.memory.peak_bytes <= most);
                }
                (fitted, last) = (fitted + 1, most);
            }
            Err(error) => {
                assert!(matches!(error, PlanError::DoesNotFit { .. }), "{error}");
                assert!(most < free);
            }
        }
    }
    println!("{fitted} limits fit; freely {free} bytes, one micro-batch {tightest:?}");
    assert!(fitted >= 3, "{fitted}");
}

/// Evaluating much more than a mini-batch does not pile up in front of a slow node.
#[test]
fn a_long_evaluation_stays_within_the_plan() {
    let slow = Toy {
        sleep: [
            std::time::Duration::from_millis(1),
            Default::default(),
            Default::default(),
        ],
        ..toy()
    };
    let config = Config {
        batch_size: 64,
        micro_batch_size: 1,
        ..with(2, ScheduleKind::OneFOneB, Cuts::Before(vec![2]), 1)
    };
    stays_within_its_plan(&chain_with(slow), &config, &numbers(64));
}

/// Sizes that change do not leave their buffers behind.
#[test]
fn many_sizes_of_mini_batch_do_not_fill_the_pool() {
    let config = Config {
        batch_size: 64,
        micro_batch_size: 64,
        ..with(2, ScheduleKind::GPipe, Cuts::Balanced, 1)
    };
    let mut trainer = Trainer::start(&chain_with(toy()), &config, adamw()).unwrap();
    for rows in 1..=64 {
        trainer.step(&numbers(rows)).unwrap();
    }
    for report in trainer.report().unwrap() {
        let (free, peak) = (report.memory.free_bytes, report.memory.peak_bytes);
        assert!(
            free <= peak,
            "{free} bytes lie free where {peak} were held at most"
        );
    }
}
