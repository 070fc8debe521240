//! Promise: never stuck, and the same numbers. A damaged plan is refused before a thread starts; or
//! the damage does not matter, and training gives the same bits.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use brigade::ids::*;
use brigade::layer::{From, Network, Random, SharedId, TensorSpec};
use brigade::schedule::*;
use brigade::{Config, Cuts, Plan, ScheduleKind, Trainer, nn};
use common::*;
use std::collections::{BTreeMap, BTreeSet};

/// How many plans are damaged.
const DAMAGES: u64 = 110_000;

/// A skip over the whole length, a parameter of three layers: every kind of action is there.
fn network() -> Network {
    let shared = || {
        nn::Linear::new(6, 6)
            .without_bias()
            .shared(SharedId::new(3))
    };
    Network::builder()
        .input(TensorSpec::f32([6]))
        .target(TensorSpec::f32([6]))
        .layer("a", shared())
        .layer("b", nn::Linear::new(6, 6))
        .layer("c", shared())
        .layer_from("d", toy(), &[From::Previous, From::Layer("a")])
        .layer("e", nn::Linear::new(6, 6))
        .layer("f", shared())
        .loss("loss", nn::MeanSquaredError)
        .build()
        .unwrap()
}

fn config(kind: ScheduleKind, nodes: usize) -> Config {
    Config {
        batch_size: 6,
        micro_batch_size: 1,
        deadline_s: 20.0,
        ..with(nodes, kind, Cuts::Uniform, 1)
    }
}

/// A run's weights after one step, which the plan decides.
fn run(network: &Network, config: &Config, plan: Plan) -> String {
    let mut trainer = Trainer::start_with_plan(network, config, adamw(), plan).unwrap();
    trainer.step(&numbers(6)).unwrap();
    trainer.weights_sha256().unwrap()
}

fn one_node(network: &Network) -> String {
    let one = config(ScheduleKind::GPipe, 1);
    run(network, &one, Plan::new(network, &one, &adamw()).unwrap())
}

/// Of every schedule, on as many nodes as it and six layers allow, at most three.
fn plans(network: &Network) -> Vec<(Config, Plan)> {
    let plan = |kind| {
        let nodes = match kind {
            ScheduleKind::GPipe
            | ScheduleKind::LoopedBfs
            | ScheduleKind::InterleavedZb
            | ScheduleKind::VHalf => 2,
            _ => 3,
        };
        let config = config(kind, nodes);
        let plan = Plan::new(network, &config, &adamw()).unwrap();
        (config, plan)
    };
    ScheduleKind::ALL.into_iter().map(plan).collect()
}

/// One slot less on any lane is refused, one more is room to spare; a table of another plan is
/// refused, or trains with the same bits.
#[test]
fn a_damaged_table_of_slots_is_refused_or_trains_with_the_same_bits() {
    let network = network();
    let (one, plans) = (one_node(&network), plans(&network));
    let (mut refused, mut same) = (0, 0);
    for (config, plan) in &plans {
        let lowered = &plan.training.lowered;
        let count = plan.training.batch.micro_batches();
        let with = |lane, slots: u32| {
            let of = |other| {
                if other == lane {
                    slots
                } else {
                    lowered.slots.of(other)
                }
            };
            check(lowered, &plan.layout, count, None, &of)
        };
        for (lane, slots) in lowered.slots.iter() {
            with(lane, slots + 1).unwrap();
            // Without any, a sender waits for its receiver: that may do in the check alone.
            if slots > 1 {
                let problem = with(lane, slots - 1).unwrap_err().problem;
                let full = matches!(problem, Problem::NoFreeSlot(_) | Problem::LaneFull { .. });
                assert!(full, "{} {lane:?}: {problem}", plan.schedule);
            }
        }
        let others = plans.iter().map(|(_, other)| &other.training.lowered.slots);
        for other in others.chain([&Slots::default()]) {
            let mut plan = plan.clone();
            plan.training.lowered.slots = other.clone();
            let trainer = Trainer::start_with_plan(&network, config, adamw(), plan);
            let Ok(mut trainer) = trainer else {
                refused += 1;
                continue;
            };
            trainer.step(&numbers(6)).unwrap();
            assert_eq!(trainer.weights_sha256().unwrap(), one);
            same += 1;
        }
    }
    assert!(
        refused > 40 && same > 20,
        "{refused} refused, {same} trained"
    );
}

#[test]
fn a_damaged_plan_is_refused_or_trains_with_the_same_bits() {
    let network = network();
    let one = one_node(&network);
    let mut refusals = BTreeMap::<String, usize>::new();
    let (mut refused, mut same, mut ran) = (0, 0, BTreeSet::new());
    let plans = plans(&network);
    for (config, plan) in &plans {
        assert_eq!(
            run(&network, config, plan.clone()),
            one,
            "{}",
            plan.schedule
        );
    }
    for damage in 0..DAMAGES {
        let case = (damage % plans.len() as u64) as usize;
        let (config, plan) = &plans[case];
        let mut nodes = plan.training.lowered.nodes.clone();
        let mut draw = Draw::new(damage);
        // Mostly one damage; sometimes two, of which one may hide the other.
        for _ in 0..1 + draw.below(8) / 7 {
            harm(&mut nodes, plan, &mut draw);
        }
        let original = &plan.training.lowered;
        if nodes == original.nodes {
            same += 1;
            continue;
        }
        let damaged = Lowered {
            nodes,
            slots: original.slots.clone(),
        };
        let count = plan.training.batch.micro_batches();
        let slots = |lane| original.slots.of(lane);
        match check(&damaged, &plan.layout, count, None, &slots) {
            Err(error) => {
                assert!(!error.to_string().is_empty() && !error.timeline.is_empty());
                let problem = format!("{:?}", error.problem);
                let name = problem.split([' ', '(', '{']).next().unwrap().to_owned();
                *refusals.entry(name).or_default() += 1;
                refused += 1;
            }
            Ok(()) if ran.insert((case, damaged.nodes.clone())) => {
                let mut plan = plan.clone();
                plan.training.lowered = damaged;
                assert_eq!(run(&network, config, plan), one, "damage {damage}");
            }
            Ok(()) => {}
        }
    }
    println!(
        "{DAMAGES} damages: {refused} refused, {} sound plans run, {same} without effect; {refusals:?}",
        ran.len()
    );
    assert!(
        refused > 80_000 && ran.len() > 500,
        "{refused}, {}",
        ran.len()
    );
    assert!(refusals.len() >= 9, "many laws are at work: {refusals:?}");
}

/// Numbers from a seed.
struct Draw(Random, u64, u32);

impl Draw {
    fn new(seed: u64) -> Self {
        Self(Random::named(11, "damage"), seed, 0)
    }

    fn below(&mut self, most: usize) -> usize {
        self.2 += 1;
        self.0.below(self.1, self.2, most as u64) as usize
    }
}

/// Drops, swaps, doubles, moves or redirects an action.
fn harm(nodes: &mut [Vec<Action>], plan: &Plan, draw: &mut Draw) {
    let node = draw.below(nodes.len());
    let row = &mut nodes[node];
    if row.is_empty() {
        return;
    }
    let at = draw.below(row.len());
    match draw.below(7) {
        0 => {
            row.remove(at);
        }
        1 => {
            let next = (at + 1) % row.len();
            row.swap(at, next);
        }
        2 => {
            let other = draw.below(row.len());
            row.swap(at, other);
        }
        3 => {
            let (twice, place) = (row[at], draw.below(row.len()));
            row.insert(place, twice);
        }
        4 => {
            // A little earlier or later.
            let moved = row.remove(at);
            let near = (at + draw.below(9)).saturating_sub(4).min(row.len());
            row.insert(near, moved);
        }
        5 => {
            let moved = row.remove(at);
            let row = &mut nodes[draw.below(plan.layout.nodes().index())];
            let place = draw.below(row.len() + 1);
            row.insert(place, moved);
        }
        _ => row[at] = redirected(row[at], plan, draw),
    }
}

/// The same with another stage, peer, lane, micro-batch or work.
fn redirected(action: Action, plan: &Plan, draw: &mut Draw) -> Action {
    let stage = StageId::new(draw.below(plan.layout.placement.stages().index() + 1) as u32);
    let micro_batch = MicroBatchId::new(draw.below(7) as u32);
    let route = plan.layout.routes[draw.below(plan.layout.routes.len())];
    let what = draw.below(4);
    let transfer = |t: Transfer| match what {
        0 => Transfer { stage, ..t },
        1 => Transfer { peer: stage, ..t },
        2 => Transfer { micro_batch, ..t },
        _ => Transfer {
            lane: route.lane,
            ..t
        },
    };
    match action {
        Action::Compute(c) => Action::Compute(match what {
            0 => Compute { stage, ..c },
            1 | 2 => Compute { micro_batch, ..c },
            _ => {
                let work = [Work::F, Work::I, Work::W, Work::B][draw.below(4)];
                Compute { work, ..c }
            }
        }),
        Action::Send(t) if what == 3 => Action::Wait(t),
        Action::Send(t) => Action::Send(transfer(t)),
        Action::Post(t) => Action::Post(transfer(t)),
        Action::Wait(t) => Action::Wait(transfer(t)),
        Action::SumShared(_) => Action::SumShared(SharedId::new(draw.below(5) as u32)),
        Action::Exchange => Action::Step,
        Action::Step => Action::Exchange,
    }
}
