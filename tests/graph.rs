//! Promise: the same numbers also where the network is no chain, and only what must travels.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use brigade::layer::{From, Network, Random, SharedId, TensorSpec};
use brigade::{Config, Cuts, ScheduleKind, Trainer, Transport, nn};
use common::*;

/// `a` feeds `b` and, over two stages, `d` and `e`: one producer, three consumers.
fn with_skips() -> Network {
    let linear = || nn::Linear::new(6, 6);
    Network::builder()
        .input(TensorSpec::f32([6]))
        .target(TensorSpec::f32([6]))
        .layer("a", linear())
        .layer("b", linear())
        .layer("b2", nn::Activation::GeluTanh)
        .layer("c", linear())
        .layer_from("d", toy(), &[From::Previous, From::Layer("a")])
        .layer("d2", linear())
        .layer_from(
            "e",
            toy(),
            &[From::Previous, From::Layer("a"), From::Layer("b")],
        )
        .loss("loss", nn::MeanSquaredError)
        .build()
        .unwrap()
}

/// Three layers hold one weight; two of them end up on one node.
fn with_three_holders() -> Network {
    let shared = || {
        nn::Linear::new(6, 6)
            .without_bias()
            .shared(SharedId::new(5))
    };
    Network::builder()
        .input(TensorSpec::f32([6]))
        .target(TensorSpec::f32([6]))
        .layer("first", shared())
        .layer("act", nn::Activation::Relu)
        .layer("own", nn::Linear::new(6, 6))
        .layer("second", shared())
        .layer("act2", nn::Activation::Silu)
        .layer("third", shared())
        .loss("loss", nn::MeanSquaredError)
        .build()
        .unwrap()
}

fn same_for_all_cuts(network: &Network) {
    let data = numbers(13);
    let one = train(
        network,
        &with(1, ScheduleKind::GPipe, Cuts::Balanced, 1),
        5,
        &data,
    );
    let layers = network.layers().len();
    let mut tried = 0;
    for first in 1..layers {
        for second in first..layers {
            let cuts = if second == first {
                vec![first]
            } else {
                vec![first, second]
            };
            for (schedule, nodes) in on_stages(cuts.len() + 1) {
                let config = with(nodes, schedule, Cuts::Before(cuts.clone()), 1);
                if !is_legal(network, &config) {
                    continue;
                }
                assert_eq!(
                    train(network, &config, 5, &data),
                    one,
                    "{cuts:?} {schedule}"
                );
                tried += 1;
            }
        }
    }
    // Two stages: all schedules, straight, looped or V on one node; three: the straight ones.
    assert!(tried >= 3 * layers * (layers - 1) / 2, "{tried}");
    let config = Config {
        transport: Transport::Encoded,
        ..with(layers, ScheduleKind::OneFOneB, Cuts::Uniform, 1)
    };
    assert_eq!(
        train(network, &config, 5, &data),
        one,
        "one layer a node, encoded"
    );
}

#[test]
fn skip_edges_over_stages_train_with_the_same_bits() {
    same_for_all_cuts(&with_skips());
}

#[test]
fn a_parameter_of_three_layers_trains_with_the_same_bits() {
    same_for_all_cuts(&with_three_holders());
}

/// The skip from `a` crosses two stages and goes straight to its reader: the stage between sees
/// nothing of it.
#[test]
fn a_skip_edge_is_sent_straight_to_its_consumer() {
    let config = with(4, ScheduleKind::OneFOneB, Cuts::Before(vec![1, 3, 5]), 1);
    let trainer = Trainer::start(&with_skips(), &config, adamw()).unwrap();
    let routes: Vec<String> = (trainer.plan().layout.routes.iter())
        .map(|route| format!("{}>{} {:?}", route.from, route.to, route.lane.direction))
        .collect();
    let straight = |text: &str| routes.iter().filter(|route| *route == text).count();
    // a to d (stage 2) and a to e (stage 3); e's other edges come from d2 and b.
    assert_eq!(
        (straight("0>2 Forward"), straight("0>3 Forward")),
        (1, 1),
        "{routes:?}"
    );
    assert_eq!(
        (straight("2>0 Backward"), straight("3>0 Backward")),
        (1, 1),
        "{routes:?}"
    );
}

/// Per step only boundary tensors, gradients of shared parameters and a few scalars travel.
#[test]
fn the_bytes_that_travel_are_those_of_the_plan() {
    let (gpt, tokens) = small_gpt();
    for transport in [Transport::Local, Transport::Encoded] {
        for nodes in [1, 2, 3, 6] {
            let config = Config {
                transport,
                ..with(nodes, ScheduleKind::OneFOneB, Cuts::Balanced, 1)
            };
            let nets = [
                (&with_skips(), None),
                (&with_three_holders(), None),
                (&gpt, Some(&tokens)),
            ];
            for (network, tokens) in nets {
                let mut trainer = Trainer::start(network, &config, adamw()).unwrap();
                let planned = trainer.plan().sent_bytes.clone();
                let mut before = vec![0; nodes];
                for _ in 0..3 {
                    match tokens {
                        Some(tokens) => trainer.step(tokens).unwrap(),
                        None => trainer.step(&numbers(13)).unwrap(),
                    };
                    let after: Vec<u64> = trainer
                        .report()
                        .unwrap()
                        .iter()
                        .map(|node| node.sent_bytes)
                        .collect();
                    let sent: Vec<u64> = after
                        .iter()
                        .zip(&before)
                        .map(|(after, before)| after - before)
                        .collect();
                    assert_eq!(sent, planned, "{nodes} nodes, {transport:?}");
                    before = after;
                }
                assert_eq!(planned.iter().any(|bytes| *bytes > 0), nodes > 1);
            }
        }
    }
}

/// A tied table of 29 x 16 in a boundary of 8 x 16 values a row: what must travel, by hand.
#[test]
fn the_plans_figure_is_what_one_counts_by_hand() {
    let (gpt, _) = small_gpt();
    let config = with(2, ScheduleKind::GPipe, Cuts::Before(vec![3]), 1);
    let trainer = Trainer::start(&gpt, &config, adamw()).unwrap();
    let (rows, boundary, table) = (13, 8 * 16 * 4, 29 * 16 * 4);
    let (layers_of_node_1, verdict, loss, flags) = (5, 3, 2, 2);
    let node_0 = rows * boundary + table + 8 * (flags + verdict);
    let node_1 = rows * boundary + table + 8 * (flags + layers_of_node_1 + loss);
    assert_eq!(trainer.plan().sent_bytes, [node_0, node_1]);
}

#[test]
fn a_node_holds_only_what_it_owns() {
    let (gpt, tokens) = small_gpt();
    for nodes in [1, 2, 4, 8] {
        let config = with(nodes, ScheduleKind::OneFOneB, Cuts::Balanced, 1);
        let mut trainer = Trainer::start(&gpt, &config, adamw()).unwrap();
        let built = trainer.report().unwrap();
        trainer.step(&tokens).unwrap();
        let plan = trainer.plan().clone();
        let reports = trainer.report().unwrap();
        let mut owned = 0;
        for ((report, built), memory) in reports.iter().zip(&built).zip(&plan.memory) {
            let stages = plan.layout.placement.stages_on(report.node);
            let layers: Vec<usize> = stages
                .flat_map(|stage| plan.partition.layers_of(stage))
                .collect();
            let bytes: u64 = (layers.iter())
                .flat_map(|layer| gpt.layers()[*layer].spec.param_specs())
                .map(|param| param.bytes())
                .sum();
            assert_eq!(
                report
                    .layers
                    .iter()
                    .map(|layer| layer.index())
                    .collect::<Vec<_>>(),
                layers
            );
            let held = (
                report.params.value,
                report.params.gradient,
                report.params.state,
            );
            assert_eq!(
                held,
                (bytes, bytes, 2 * bytes),
                "parameters, gradients, two moments"
            );
            assert_eq!(memory.parameter_bytes, bytes);
            assert_eq!(
                built.memory.held_bytes, bytes,
                "before the first step: parameters and nothing else"
            );
            assert_eq!(built.memory.peak_bytes, bytes, "not even while starting");
            assert_eq!(
                report.memory.held_bytes,
                4 * bytes,
                "after a step every activation is gone"
            );
            owned += layers.len();
        }
        assert_eq!(owned, gpt.layers().len(), "every layer is owned once");
    }
}

/// After the first steps no tensor is allocated any more: buffers go home and are used again.
#[test]
fn a_steady_state_step_allocates_no_tensor() {
    let (gpt, tokens) = small_gpt();
    for (nodes, schedule) in [
        (1, ScheduleKind::OneFOneB),
        (3, ScheduleKind::OneFOneB),
        (4, ScheduleKind::GPipe),
    ] {
        let mut trainer =
            Trainer::start(&gpt, &with(nodes, schedule, Cuts::Balanced, 1), adamw()).unwrap();
        let born = |trainer: &mut Trainer| -> u64 {
            trainer
                .report()
                .unwrap()
                .iter()
                .map(|node| node.memory.born)
                .sum()
        };
        for _ in 0..20 {
            trainer.step(&tokens).unwrap();
        }
        let before = born(&mut trainer);
        for _ in 0..5 {
            trainer.step(&tokens).unwrap();
        }
        // Which buffers are at home at the same moment depends on timing between nodes; their
        // number has a bound.
        let more = born(&mut trainer) - before;
        assert!(
            more <= 2 * (nodes as u64 - 1),
            "{more} buffers born in steady state on {nodes} nodes"
        );
    }
}

/// A layer whose parameter is not trained: it takes part in everything but gradients and updates.
#[test]
fn an_untrained_parameter_stays_as_it_is_and_costs_no_gradient() {
    let network = chain_with(Toy {
        untrained: true,
        params: 2,
        ..toy()
    });
    let data = numbers(13);
    for nodes in [1, 3, 6] {
        let config = with(nodes, ScheduleKind::OneFOneB, Cuts::Balanced, 1);
        let mut trainer = Trainer::start(&network, &config, adamw()).unwrap();
        let trained: u64 = network
            .params()
            .iter()
            .filter(|(_, param)| param.trains)
            .map(|(_, param)| param.bytes())
            .sum();
        for _ in 0..3 {
            trainer.step(&data).unwrap();
        }
        let weights = trainer.weights().unwrap();
        assert_eq!(weights.get("toy.p0").unwrap().values, [1.0; 3]);
        assert_ne!(weights.get("a.weight"), None);
        let held = trainer.report().unwrap();
        assert_eq!(
            held.iter().map(|node| node.params.state).sum::<u64>(),
            2 * trained
        );
        let planned: u64 = trainer
            .plan()
            .memory
            .iter()
            .map(|node| node.optimizer_bytes)
            .sum();
        assert_eq!(planned, 2 * trained);
    }
}

/// Graphs that nobody would draw: any layer reads any of those before it, some twice, some a feed.
#[test]
fn random_graphs_train_with_the_same_bits_on_any_cut() {
    for graph in 0..24u64 {
        let random = Random::named(graph, "graph");
        let draw = |at: u64, what: u32, bound: u64| random.below(at, what, bound);
        let keys: Vec<String> = (0..5 + draw(0, 0, 4))
            .map(|layer| format!("l{layer}"))
            .collect();
        let mut builder = Network::builder()
            .input(TensorSpec::f32([6]))
            .target(TensorSpec::f32([6]));
        for (at, key) in keys.iter().enumerate() {
            // Everything reads the layer before, so that all are used, and up to two others.
            let mut inputs = vec![if at == 0 {
                From::Input(0)
            } else {
                From::Previous
            }];
            for more in 0..draw(at as u64, 1, 3) {
                let from = draw(at as u64, 2 + more as u32, at as u64 + 1) as usize;
                inputs.push(if from == at {
                    From::Input(0)
                } else {
                    From::Layer(&keys[from])
                });
            }
            builder = match (inputs.len(), draw(at as u64, 9, 3)) {
                (1, 0) => builder.layer_from(key, nn::Activation::GeluTanh, &inputs),
                (1, 1) => builder.layer_from(key, shared_linear(), &inputs),
                (1, _) => builder.layer_from(key, nn::Linear::new(6, 6), &inputs),
                _ => builder.layer_from(key, toy(), &inputs),
            };
        }
        let network = builder
            .layer("out", nn::Linear::new(6, 6))
            .loss("loss", nn::MeanSquaredError)
            .build()
            .unwrap();
        let layers = network.layers().len();
        let data = numbers(7);
        let small = |config: Config| Config {
            batch_size: 7,
            micro_batch_size: 2,
            ..config
        };
        let one = train(
            &network,
            &small(with(1, ScheduleKind::GPipe, Cuts::Balanced, 1)),
            2,
            &data,
        );
        for nodes in 2..=layers {
            // Each number of nodes with another schedule.
            let kinds = ScheduleKind::ALL.into_iter().cycle();
            for kind in kinds.skip(graph as usize + 3 * nodes).take(3) {
                let config = small(with(nodes, kind, Cuts::Uniform, 1));
                if is_legal(&network, &config) {
                    let found = train(&network, &config, 2, &data);
                    assert_eq!(found, one, "graph {graph} on {nodes} nodes, {kind}");
                }
            }
        }
    }
}

fn shared_linear() -> nn::Linear {
    nn::Linear::new(6, 6)
        .without_bias()
        .shared(SharedId::new(1))
}
