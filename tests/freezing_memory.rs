//! Promise: with frozen layers, too, what is predicted before training bounds what is held, and
//! freezing makes room.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use brigade::layer::*;
use brigade::nn::{Gpt, Linear, MeanSquaredError};
use brigade::planner::{Planned, Planner, Space};
use brigade::profile::{Effort, Profile};
use brigade::{Config, Cuts, Plan, Recompute, ScheduleKind, Trainer};
use common::fitting::{stays_within_any_plan, stays_within_its_plan};
use common::*;

/// Bottom, middle, all but the head, the head alone.
const FROZEN: [&[&str]; 4] = [
    &["embed", "h.0.*", "h.1.attn"],
    &["h.0.mlp", "h.1.*"],
    &["embed", "h.*"],
    &["lm_head"],
];

fn gpt() -> (Gpt, Tokens) {
    let gpt = Gpt {
        vocab: 50,
        context: 32,
        width: 32,
        heads: 2,
        blocks: 3,
        tied: false,
        biases: true,
        dropout: 0.1,
        ..Gpt::default()
    };
    let data = Tokens {
        rows: 13,
        context: 32,
        vocab: 50,
    };
    (gpt, data)
}

fn frozen(network: &Network, keys: &[&str]) -> Network {
    let keys: Vec<_> = keys.iter().copied().map(KeyPattern::from).collect();
    network.freeze_matching(&keys).unwrap()
}

#[test]
fn gpts_with_frozen_layers_hold_no_more_than_planned() {
    let (gpt, data) = gpt();
    let whole = gpt.network().unwrap();
    let layers = whole.layers().len();
    let ways = [
        Recompute::Never,
        Recompute::Always,
        Recompute::Layers(vec![0..3, 3..layers]),
    ];
    for keys in FROZEN {
        let network = frozen(&whole, keys);
        for recompute in ways.clone() {
            let mut least = f64::MAX;
            for nodes in [1, 2, 4] {
                for schedule in ScheduleKind::ALL {
                    for (micro_batch_size, precision) in [(3, Precision::F32), (1, Precision::Bf16)]
                    {
                        let config = Config {
                            micro_batch_size,
                            precision,
                            wire: precision,
                            recompute: recompute.clone(),
                            ..with(nodes, schedule, Cuts::Balanced, 1)
                        };
                        if is_legal(&network, &config) && !schedule.uses_costs() {
                            least = least.min(stays_within_its_plan(&network, &config, &data));
                        }
                    }
                }
            }
            println!("{keys:?}, {recompute:?}: the least held of what was predicted: {least:.2}");
        }
    }
}

/// On one node, where no slot stays empty: within a twentieth.
#[test]
fn what_frozen_layers_take_is_predicted_closely() {
    let (gpt, data) = gpt();
    let gpt = Gpt { width: 64, ..gpt };
    let whole = gpt.network().unwrap();
    for keys in FROZEN {
        for recompute in [Recompute::Never, Recompute::Always] {
            let network = frozen(&whole, keys);
            let config = Config {
                recompute,
                ..with(1, ScheduleKind::OneFOneB, Cuts::Balanced, 1)
            };
            let held = stays_within_its_plan(&network, &config, &data);
            println!("{keys:?}, {:?}: {held:.3}", config.recompute);
            assert!(held > 0.95, "{keys:?}, {config:?}: {held}");
        }
    }
}

/// A value of a frozen layer is read by a layer that trains, over stages that do not.
#[test]
fn skips_from_frozen_layers_are_counted() {
    let linear = || Linear::new(6, 6);
    let whole = Network::builder()
        .input(TensorSpec::f32([6]))
        .target(TensorSpec::f32([6]))
        .layer("a", linear())
        .layer("b", linear())
        .layer("c", linear())
        .layer_from("d", toy(), &[From::Previous, From::Layer("a")])
        .layer("e", linear())
        .layer_from("f", toy(), &[From::Previous, From::Layer("b")])
        .loss("loss", MeanSquaredError)
        .build()
        .unwrap();
    for keys in [
        &["a"][..],
        &["a", "b"],
        &["a", "b", "c"],
        &["b", "e"],
        &["a", "c"],
    ] {
        let network = frozen(&whole, keys);
        stays_within_any_plan(&network, &[1, 2, 3, 7], &[0..3, 3..7]);
    }
}

/// Frozen below, a network needs less than half; a plan for the rest is cut anew; and what does
/// not go backward is not computed again.
#[test]
fn freezing_makes_room_and_moves_the_cuts() {
    let (gpt, _) = gpt();
    let whole = gpt.network().unwrap();
    let network = frozen(&whole, &["embed", "h.0.*", "h.1.*"]);
    let plan = |network: &Network, recompute: Recompute, nodes| {
        let config = Config {
            recompute,
            ..with(nodes, ScheduleKind::GPipe, Cuts::Balanced, 1)
        };
        Plan::new(network, &config, &adamw()).unwrap()
    };
    let of = |network| plan(network, Recompute::Never, 1).memory[0].peak_bytes();
    assert!(
        2 * of(&network) < of(&whole),
        "{} of {}",
        of(&network),
        of(&whole)
    );
    let cuts = |network| plan(network, Recompute::Never, 2).partition.cuts().to_vec();
    assert!(cuts(&network)[0] > cuts(&whole)[0], "{:?}", cuts(&network));
    let layers = whole.layers().len();
    assert_eq!(
        plan(&whole, Recompute::Always, 1).recomputed,
        vec![0..layers]
    );
    assert_eq!(
        plan(&network, Recompute::Always, 1).recomputed,
        vec![5..layers]
    );
}

/// The planner predicts the step that its plan simulates, and keeps to the memory that nodes have.
#[test]
fn the_planner_knows_what_is_frozen() {
    let (gpt, data) = gpt();
    let whole = gpt.network().unwrap();
    let network = frozen(&whole, &["embed", "h.0.*", "h.1.*"]);
    let config = with(2, ScheduleKind::OneFOneB, Cuts::Balanced, 1);
    let planned = |network: &Network, config: &Config| {
        let adamw = adamw();
        let profile = Profile::measure(network, &data, config, &adamw, Effort::Quick).unwrap();
        let planner = Planner::new(network, config, &adamw, &profile).unwrap();
        let space = Space::only(config).any_schedule(config).any_recompute();
        planner.space(space).plan().unwrap()
    };
    let free = planned(&network, &config);
    let needed = free.plan.memory.iter().map(|memory| memory.peak_bytes());
    let limited = Config {
        node_memory_bytes: needed.max(),
        ..config.clone()
    };
    let fits = planned(&network, &limited);
    fits.plan.fits(&limited).unwrap();
    for Planned {
        plan,
        config,
        times,
        candidates,
        ..
    } in [free, fits]
    {
        let step = plan.simulate(&times).unwrap().makespan;
        let said = candidates[0].step_time;
        assert!((said - step).abs() <= 1e-9 * step, "{said} is {step}");
        let mut trainer = Trainer::start_with_plan(&network, &config, adamw(), plan).unwrap();
        trainer.step(&data).unwrap();
        for (held, memory) in trainer.report().unwrap().iter().zip(&trainer.plan().memory) {
            assert!(held.memory.peak_bytes <= memory.peak_bytes());
        }
    }
}
