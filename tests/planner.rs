//! Promise: the planner finds the best there is, and says what does not fit. Held against every
//! way to cut small networks, each planned by itself.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use brigade::layer::{Network, Random};
use brigade::nn::Sgd;
use brigade::partition::CutCost;
use brigade::planner::{LayersFile, NodeSpec, Planned, Planner, Space};
use brigade::profile::Profile;
use brigade::{Config, Cuts, Plan, Recompute, ScheduleKind};
use common::planning::described;

const LAYERS: usize = 7;
const NODES: usize = 3;

struct Case {
    layers: LayersFile,
    network: Network,
    profile: Profile,
    config: Config,
    nodes: Vec<NodeSpec>,
    cut_cost: CutCost,
}

/// What varies from case to case.
#[derive(Clone, Copy)]
struct Kind {
    limits: bool,
    transfers: Option<CutCost>,
    unequal: bool,
}

fn case(number: u64, kind: Kind) -> Case {
    let random = Random::named(7, "planner");
    let draw = |place: u32, most: u64| random.below(number, place, most);
    let mut layers = described(LAYERS, |layer| {
        let at = 8 * layer as u32;
        [
            draw(at, 20) as f64,
            draw(at + 1, 20) as f64,
            draw(at + 2, 20) as f64,
        ]
    });
    for (at, layer) in layers.layers.iter_mut().enumerate() {
        let at = 8 * at as u32;
        layer.parameter_bytes = 4 * draw(at + 3, 1000);
        layer.stash_bytes = 4 * draw(at + 4, 1000);
        layer.kept_bytes = layer.stash_bytes / 2;
        layer.output_bytes = 4 * (1 + draw(at + 5, 100));
        layer.working_bytes = 4 * draw(at + 6, 200);
    }
    let mut nodes = NodeSpec::equal(NODES);
    for (at, node) in nodes.iter_mut().enumerate() {
        let at = 100 + 4 * at as u32;
        if kind.unequal {
            node.speed = 1.0 + draw(at, 3) as f64;
        }
        if kind.transfers.is_some() {
            node.bandwidth = Some(5.0 + draw(at + 1, 40) as f64);
            node.latency = draw(at + 2, 5) as f64;
        }
        if kind.limits {
            node.memory_bytes = Some(8_000 + draw(at + 3, 40_000));
        }
    }
    let config = Config {
        nodes: NODES,
        schedule: [
            ScheduleKind::OneFOneB,
            ScheduleKind::GPipe,
            ScheduleKind::ZbH1,
        ][number as usize % 3],
        batch_size: 4,
        micro_batch_size: 1,
        ..Config::default()
    };
    Case {
        network: layers.network().unwrap(),
        profile: layers.profile(&config).unwrap(),
        cut_cost: kind.transfers.unwrap_or_default(),
        layers,
        config,
        nodes,
    }
}

impl Case {
    fn planned(&self) -> Planned {
        let optimizer = Sgd::default();
        let planner = Planner::new(&self.network, &self.config, &optimizer, &self.profile).unwrap();
        let planner = planner.nodes(self.nodes.clone()).cut_cost(self.cut_cost);
        planner.space(Space::only(&self.config)).plan().unwrap()
    }

    /// The smallest bottleneck of all cuts that fit, by the definitions.
    fn exhaustive(&self) -> Option<f64> {
        let mut best = None::<f64>;
        for first in 1..LAYERS - 1 {
            for second in first + 1..LAYERS {
                let cuts = vec![first, second];
                if self.fits(&cuts) {
                    let found = self.bottleneck(&[0, first, second, LAYERS]);
                    best = Some(best.map_or(found, |best| best.min(found)));
                }
            }
        }
        best
    }

    fn fits(&self, cuts: &[usize]) -> bool {
        let config = Config {
            cuts: Cuts::Before(cuts.to_vec()),
            ..self.config.clone()
        };
        let (optimizer, schedule) = (Sgd::default(), self.config.schedule);
        let plan = Plan::proposed(&self.network, &config, &optimizer, &schedule).unwrap();
        let limits = self
            .nodes
            .iter()
            .map(|node| node.memory_bytes.unwrap_or(u64::MAX));
        let mut both = plan.memory.iter().zip(limits);
        both.all(|(memory, limit)| memory.peak_bytes() <= limit)
    }

    fn transfer(&self, from: usize, cut: usize) -> f64 {
        let link = self.nodes[from].link(&self.nodes[from + 1]);
        link.latency + self.layers.layers[cut - 1].output_bytes as f64 * link.per_byte
    }

    fn bottleneck(&self, ends: &[usize]) -> f64 {
        let mut worst = 0.0f64;
        for node in 0..NODES {
            let layers = &self.layers.layers[ends[node]..ends[node + 1]];
            let times = layers.iter();
            let times = times.map(|l| l.forward + l.backward_input + l.backward_weight);
            let mut load = times.sum::<f64>() / self.nodes[node].speed;
            for (from, cut) in [(node.wrapping_sub(1), ends[node]), (node, ends[node + 1])] {
                if cut == 0 || cut == LAYERS {
                    continue;
                }
                match self.cut_cost {
                    CutCost::Both => load += self.transfer(from, cut),
                    CutCost::Link => worst = worst.max(self.transfer(from, cut)),
                }
            }
            worst = worst.max(load);
        }
        worst
    }
}

fn always_the_best(kind: Kind) -> (usize, usize) {
    let (mut fit, mut unfit) = (0, 0);
    for number in 0..150 {
        let case = case(number, kind);
        let (planned, best) = (case.planned(), case.exhaustive());
        assert_eq!(planned.feasible(), best.is_some(), "case {number}");
        match best {
            Some(best) => {
                let found = &planned.candidates[0];
                let off = (found.bottleneck - best).abs();
                assert!(
                    off <= 1e-9 * best,
                    "case {number}: {} {best}",
                    found.bottleneck
                );
                assert!(found.proven, "case {number}");
                fit += 1;
            }
            None => {
                assert!(
                    !planned.advice.is_empty(),
                    "case {number}: nothing is advised"
                );
                unfit += 1;
            }
        }
    }
    (fit, unfit)
}

const PLAIN: Kind = Kind {
    limits: false,
    transfers: None,
    unequal: false,
};

#[test]
fn cuts_are_the_best_of_all() {
    always_the_best(PLAIN);
}

#[test]
fn cuts_are_the_best_of_those_that_fit() {
    let limits = true;
    let (fit, unfit) = always_the_best(Kind { limits, ..PLAIN });
    assert!(fit > 30 && unfit > 10, "{fit} {unfit}");
}

#[test]
fn transfers_count_on_both_sides() {
    let transfers = Some(CutCost::Both);
    always_the_best(Kind { transfers, ..PLAIN });
}

#[test]
fn transfers_count_as_links_of_their_own() {
    let transfers = Some(CutCost::Link);
    always_the_best(Kind { transfers, ..PLAIN });
}

#[test]
fn nodes_and_links_may_be_unequal() {
    let (transfers, unequal) = (Some(CutCost::Link), true);
    always_the_best(Kind {
        transfers,
        unequal,
        limits: false,
    });
    always_the_best(Kind {
        transfers: Some(CutCost::Both),
        unequal,
        limits: true,
    });
}

/// The best of a whole space is the best of its parts.
#[test]
fn the_best_of_all_schedules_is_the_best_of_each() {
    for number in 0..6 {
        let case = case(number, PLAIN);
        let optimizer = Sgd::default();
        let plan = |space: Space| {
            let Case {
                network,
                config,
                profile,
                ..
            } = &case;
            let planner = Planner::new(network, config, &optimizer, profile).unwrap();
            planner.space(space).plan()
        };
        let all = Space::only(&case.config).any_schedule(&case.config);
        let best = plan(all.clone()).unwrap();
        let mut least = f64::INFINITY;
        for schedule in ScheduleKind::ALL {
            for chunks in [2, 4] {
                let one = Space {
                    schedules: vec![schedule],
                    chunks: vec![chunks],
                    ..all.clone()
                };
                if let Ok(one) = plan(one) {
                    least = least.min(one.candidates[0].step_time);
                }
            }
        }
        let found = best.candidates[0].step_time;
        assert!(
            found <= least * (1.0 + 1e-9),
            "case {number}: {found} {least}"
        );
    }
}

/// Where everything is kept it does not fit; where what does not fit is recomputed it does.
#[test]
fn what_does_not_fit_is_recomputed_where_needed() {
    let mut layers = described(8, |_| [1.0, 1.0, 1.0]);
    for layer in &mut layers.layers[..7] {
        (layer.stash_bytes, layer.kept_bytes, layer.output_bytes) = (4000, 4000, 400);
    }
    let config = Config {
        nodes: 2,
        schedule: ScheduleKind::GPipe,
        batch_size: 8,
        micro_batch_size: 1,
        node_memory_bytes: Some(40_000),
        ..Config::default()
    };
    let (network, optimizer) = (layers.network().unwrap(), Sgd::default());
    let profile = layers.profile(&config).unwrap();
    let plan = |space: Space| {
        let planner = Planner::new(&network, &config, &optimizer, &profile).unwrap();
        planner.space(space).plan().unwrap()
    };
    let never = plan(Space::only(&config));
    assert!(!never.feasible());
    let advice = never.advice.join("\n");
    for word in ["recompute", "nodes", "bytes more"] {
        assert!(advice.contains(word), "{word}: {advice}");
    }
    let auto = plan(Space::only(&config).any_recompute());
    assert!(auto.feasible());
    assert_ne!(auto.candidates[0].recompute, Recompute::Never);
    assert!(
        auto.plan
            .memory
            .iter()
            .all(|memory| memory.peak_bytes() <= 40_000)
    );
}

/// Where stages are recomputed, more layers may need less: whatever cut fits is found.
#[test]
fn recomputed_cuts_that_fit_are_found() {
    let kind = Kind {
        limits: true,
        ..PLAIN
    };
    let mut fit = 0;
    for number in 0..150 {
        let mut case = case(number, kind);
        case.config.recompute = Recompute::Always;
        for node in &mut case.nodes {
            node.memory_bytes = node.memory_bytes.map(|bytes| 2 * bytes / 3);
        }
        let fits = case.exhaustive().is_some();
        assert_eq!(case.planned().feasible(), fits, "case {number}");
        fit += usize::from(fits);
    }
    assert!((20..130).contains(&fit), "{fit}");
}

/// The bottleneck counts what is recomputed, where it is.
#[test]
fn what_is_recomputed_counts() {
    let layers = described(4, |_| [1.0, 1.0, 1.0]);
    let bottleneck = |recompute: Recompute, schedule: ScheduleKind| {
        let config = Config {
            nodes: 2,
            recompute,
            schedule,
            cuts: Cuts::Before(vec![2]),
            batch_size: 8,
            micro_batch_size: 1,
            ..Config::default()
        };
        let (network, optimizer) = (layers.network().unwrap(), Sgd::default());
        let profile = layers.profile(&config).unwrap();
        let planner = Planner::new(&network, &config, &optimizer, &profile).unwrap();
        let planned = planner.plan().unwrap();
        planned.candidates[0].bottleneck
    };
    assert_eq!(bottleneck(Recompute::Never, ScheduleKind::OneFOneB), 6.0);
    assert_eq!(bottleneck(Recompute::Always, ScheduleKind::OneFOneB), 8.0);
    let second = Recompute::Stages(vec![false, true]);
    assert_eq!(bottleneck(second, ScheduleKind::OneFOneB), 8.0);
    assert_eq!(
        bottleneck(
            Recompute::Layers(std::iter::once(1..2).collect()),
            ScheduleKind::OneFOneB
        ),
        7.0
    );
    // The cut that is best where the last stage is not recomputed.
    let config = Config {
        nodes: 2,
        recompute: Recompute::ExceptLast,
        batch_size: 8,
        micro_batch_size: 1,
        ..Config::default()
    };
    let layers = described(7, |_| [1.0, 1.0, 1.0]);
    let (network, optimizer) = (layers.network().unwrap(), Sgd::default());
    let profile = layers.profile(&config).unwrap();
    let planner = Planner::new(&network, &config, &optimizer, &profile).unwrap();
    let planned = planner.plan().unwrap();
    let best = &planned.candidates[0];
    assert_eq!((&best.cuts[..], best.bottleneck), (&[3][..], 12.0));
}
