//! Promise: the same numbers bit for bit, whatever the partition, schedule, number of nodes and
//! threads, and transport.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use brigade::ids::NodeCount;
use brigade::layer::Precision;
use brigade::nn::Gpt;
use brigade::schedule::Schedule;
use brigade::{Config, Cuts, ScheduleKind, Trainer, Transport};
use common::precisions::from_any_pipeline;
use common::*;

const STEPS: usize = 20;

fn reference() -> Outcome {
    let (network, data) = small_gpt();
    train(
        &network,
        &with(1, ScheduleKind::GPipe, Cuts::Balanced, 1),
        STEPS,
        &data,
    )
}

fn equals_one_node(config: Config) {
    let (network, data) = small_gpt();
    let found = train(&network, &config, STEPS, &data);
    let one = reference();
    assert_eq!(found.losses, one.losses, "losses of {config:?}");
    assert_eq!(found.norms, one.norms, "norms of {config:?}");
    assert_eq!(found, one, "{config:?}");
}

#[test]
fn weights_losses_and_norms_do_not_depend_on_nodes_schedule_or_threads() {
    let (network, _) = small_gpt();
    for schedule in ScheduleKind::ALL {
        let mut tried = 0;
        for nodes in [1, 2, 3, 4, 8] {
            for threads in [1, 2] {
                let config = with(nodes, schedule, Cuts::Balanced, threads);
                if is_legal(&network, &config) {
                    equals_one_node(config);
                    tried += 1;
                }
            }
        }
        assert!(tried >= 4, "{schedule}: {tried}");
    }
}

/// Every schedule and placement, up to four stages a node, with as many micro-batches as any of
/// them needs. Twelve divide into rounds for two, three and four nodes.
#[test]
fn they_do_not_depend_on_chunks_or_placement() {
    let (network, data) = small_gpt();
    let data = Tokens { rows: 12, ..data };
    let many = |config: Config| Config {
        batch_size: 12,
        micro_batch_size: 1,
        ..config
    };
    let one = many(with(1, ScheduleKind::GPipe, Cuts::Balanced, 1));
    let one = train(&network, &one, 4, &data);
    for schedule in ScheduleKind::ALL {
        // On several nodes, with one to four stages on each. The network has eight layers.
        let mut tried = [0; 4];
        for (chunks, tried) in (1..).zip(&mut tried) {
            for nodes in 1..=4 {
                let config = Config {
                    chunks: Some(chunks),
                    ..many(with(nodes, schedule, Cuts::Balanced, 1))
                };
                if is_legal(&network, &config) {
                    let found = train(&network, &config, 4, &data);
                    assert_eq!(found, one, "{schedule}, {nodes} nodes, {chunks} chunks");
                    *tried += usize::from(nodes > 1);
                }
            }
        }
        let wanted = match schedule {
            kind if kind.takes_any_chunks() => [3, 3, 1, 1],
            kind if kind.place(NodeCount::new(2), Some(1)).is_ok() => [3, 0, 0, 0],
            _ => [0, 3, 0, 0],
        };
        assert_eq!(tried, wanted, "{schedule}");
    }
}

#[test]
fn they_do_not_depend_on_the_cuts() {
    let (network, _) = small_gpt();
    let layers = network.layers().len();
    assert_eq!(layers, 8);
    for cut in 1..layers {
        equals_one_node(with(2, ScheduleKind::OneFOneB, Cuts::Before(vec![cut]), 1));
    }
    for cuts in [vec![1, 2], vec![1, 7], vec![6, 7], vec![3, 5]] {
        equals_one_node(with(3, ScheduleKind::OneFOneB, Cuts::Before(cuts), 1));
    }
    equals_one_node(with(5, ScheduleKind::GPipe, Cuts::Uniform, 1));
}

/// A network whose products are large enough for every way of computing them, in every precision,
/// with tensors that travel as they are or rounded.
#[test]
fn neither_precision_nor_rounded_messages_let_the_cut_show() {
    let gpt = Gpt {
        vocab: 96,
        context: 64,
        width: 128,
        heads: 2,
        blocks: 2,
        dropout: 0.1,
        ..Gpt::default()
    };
    let (network, (_, data)) = (gpt.network().unwrap(), small_gpt());
    let data = Tokens {
        context: 64,
        vocab: 96,
        ..data
    };
    let mut all = Vec::new();
    for (precision, wire) in [
        (Precision::F32, Precision::F32),
        (Precision::Bf16, Precision::F32),
        (Precision::F32, Precision::Bf16),
        (Precision::Bf16, Precision::Bf16),
    ] {
        let one = from_any_pipeline(&network, (precision, wire), &data);
        assert!(
            !all.contains(&one),
            "{precision:?} {wire:?} changes nothing"
        );
        all.push(one);
    }
}

#[test]
fn they_do_not_depend_on_the_transport() {
    for nodes in [2, 4, 8] {
        let config = with(nodes, ScheduleKind::OneFOneB, Cuts::Balanced, 1);
        equals_one_node(Config {
            transport: Transport::Encoded,
            ..config
        });
    }
}

#[test]
fn a_second_run_gives_the_same_and_another_seed_gives_another() {
    let (network, data) = small_gpt();
    let config = with(4, ScheduleKind::OneFOneB, Cuts::Balanced, 1);
    let first = train(&network, &config, STEPS, &data);
    assert_eq!(first, train(&network, &config, STEPS, &data));
    let other = train(&network, &Config { seed: 2, ..config }, STEPS, &data);
    assert_ne!(first.sha256, other.sha256);
    assert_ne!(first.losses, other.losses);
}

/// The last micro-batch is smaller, or the only one, or there are fewer than nodes.
#[test]
fn any_number_of_micro_batches_works_on_any_number_of_nodes() {
    let (network, data) = small_gpt();
    for (rows, micro) in [(1, 1), (2, 1), (5, 4), (7, 7), (8, 2), (9, 2)] {
        let data = Tokens {
            rows,
            ..data.clone()
        };
        let config = |nodes, schedule| Config {
            batch_size: rows,
            micro_batch_size: micro,
            ..with(nodes, schedule, Cuts::Balanced, 1)
        };
        let one = train(&network, &config(1, ScheduleKind::GPipe), 3, &data);
        for nodes in [2, 4, 8] {
            for schedule in ScheduleKind::ALL {
                let config = config(nodes, schedule);
                if !is_legal(&network, &config) {
                    continue;
                }
                assert_eq!(
                    train(&network, &config, 3, &data),
                    one,
                    "{rows} rows by {micro} on {nodes} nodes, {schedule}"
                );
            }
        }
    }
}

/// A mini-batch smaller than planned is planned anew.
#[test]
fn a_smaller_last_batch_gives_the_same_on_any_number_of_nodes() {
    let (network, data) = small_gpt();
    let run = |nodes| {
        let config = with(nodes, ScheduleKind::OneFOneB, Cuts::Balanced, 1);
        let mut trainer = Trainer::start(&network, &config, adamw()).unwrap();
        for rows in [13, 4, 13, 1] {
            trainer
                .step(&Tokens {
                    rows,
                    ..data.clone()
                })
                .unwrap();
        }
        let prediction = trainer
            .predict(&Tokens {
                rows: 30,
                ..data.clone()
            })
            .unwrap();
        assert_eq!(prediction.shape().axes(), [30, 8, 29]);
        let bits: Vec<_> = prediction
            .f32()
            .unwrap()
            .iter()
            .map(|value| value.to_bits())
            .collect();
        (trainer.weights_sha256().unwrap(), bits)
    };
    let one = run(1);
    assert_eq!(run(3), one);
    assert_eq!(run(8), one);
}

#[test]
fn the_string_can_be_recomputed_from_the_file() {
    use sha2::{Digest, Sha256};
    let (network, data) = small_gpt();
    let config = with(2, ScheduleKind::OneFOneB, Cuts::Balanced, 1);
    let mut trainer = Trainer::start(&network, &config, adamw()).unwrap();
    trainer.step(&data).unwrap();
    let weights = trainer.weights().unwrap();
    let file = weights.to_safetensors().unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&file).unwrap();
    assert_eq!(tensors.len(), weights.params.len());
    let mut all = Sha256::new();
    for param in &weights.params {
        let tensor = tensors.tensor(&param.key).unwrap();
        assert_eq!(tensor.shape(), param.shape);
        all.update(Sha256::digest(tensor.data()));
    }
    let string: String = all
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(string, trainer.weights_sha256().unwrap());
    // A tied head is the token table: it is there once, under its first holder's key.
    assert!(weights.get("wte.weight").is_some() && weights.get("lm_head.weight").is_none());
    assert_eq!(weights.params[0].key, "wte.weight");
}

/// What nodes will compare before they start: equal for equal plans, different when anything is.
#[test]
fn a_plans_fingerprint_is_that_of_its_content() {
    let (network, _) = small_gpt();
    let print = |network: &brigade::layer::Network, config: &Config| {
        brigade::Plan::new(network, config, &adamw())
            .unwrap()
            .fingerprint()
    };
    let config = with(3, ScheduleKind::OneFOneB, Cuts::Balanced, 1);
    let one = print(&network, &config);
    assert_eq!(one.len(), 64);
    assert_eq!(one, print(&network, &config));
    let others = [
        Config {
            nodes: 4,
            ..config.clone()
        },
        Config {
            cuts: Cuts::Before(vec![1, 2]),
            ..config.clone()
        },
        Config {
            schedule: ScheduleKind::GPipe,
            ..config.clone()
        },
        Config {
            micro_batch_size: 4,
            ..config.clone()
        },
    ];
    for other in others {
        assert_ne!(print(&network, &other), one, "{other:?}");
    }
    assert_ne!(print(&chain_with(toy()), &config), one);
}
