//! The best partition is as good as the best of all partitions, one after the other.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "common/placements.rs"]
mod placements;

use brigade::ids::{NodeCount, NodeId, StageId};
use brigade::partition::{ChainCosts, ChainMemory, CutCost, optimum};
use brigade::placement::Placement;
use placements::{Numbers, PLACEMENTS};

/// What a case has beside layers.
#[derive(Clone, Copy, Debug, Default)]
struct With {
    unequal_speeds: bool,
    cuts: Option<CutCost>,
    memory: bool,
}

#[derive(Debug)]
struct Case {
    placement: Placement,
    times: Vec<f64>,
    speeds: Vec<f64>,
    /// Of every cut, and of every pair of nodes.
    sent: Vec<f64>,
    slowness: Vec<Vec<f64>>,
    cuts: Option<CutCost>,
    memory: Option<ChainMemory>,
}

fn case(placement: Placement, with: With, numbers: &mut Numbers) -> Case {
    let (nodes, stages) = (placement.nodes().index(), placement.stages().index());
    let more = if stages < 7 { 8 } else { 5 };
    let layers = stages + numbers.below(more) as usize;
    let mut times = numbers.list(layers, 20);
    if numbers.below(4) == 0.0 {
        times = vec![3.0; layers];
    }
    let speed = |numbers: &mut Numbers| match with.unequal_speeds {
        true => [0.5, 1.0, 1.5, 3.0][numbers.below(4) as usize],
        false => 1.0,
    };
    let memory = with.memory.then(|| {
        let (once, each) = (numbers.list(layers, 30), numbers.list(layers, 4));
        let kept = stages as f64 / 2.0 * each.iter().sum::<f64>();
        let all = once.iter().sum::<f64>() + kept + 12.0 * stages as f64;
        let tight = 0.7 + numbers.below(10) / 10.0;
        let limit = |numbers: &mut Numbers| match numbers.below(8) {
            0.0 => f64::INFINITY,
            _ => all / nodes as f64 * tight + numbers.below(10),
        };
        ChainMemory {
            limits: (0..nodes).map(|_| limit(numbers)).collect(),
            kept: (0..stages).map(|stage| (stages - stage) as f64).collect(),
            working: numbers.list(layers, 15),
            slot: numbers.list(layers, 6),
            slots: numbers.list(stages, 3),
            once,
            each,
        }
    });
    Case {
        speeds: (0..nodes).map(|_| speed(numbers)).collect(),
        sent: numbers.list(layers, 8),
        slowness: (0..nodes).map(|_| numbers.list(nodes, 4)).collect(),
        cuts: with.cuts,
        placement,
        times,
        memory,
    }
}

impl Case {
    fn transfer(&self, cut: usize, from: NodeId, to: NodeId) -> f64 {
        self.sent[cut] * self.slowness[from.index()][to.index()]
    }

    /// The bottleneck of a partition by the definition, if it fits. `ends` has a place for every
    /// stage.
    fn bottleneck(&self, ends: &[usize]) -> Option<f64> {
        let node_of = |stage: usize| self.placement.node_of(StageId::new(stage as u32)).index();
        let nodes = self.placement.nodes().index();
        let (mut loads, mut bytes, mut links) = (vec![0.0; nodes], vec![0.0; nodes], 0.0f64);
        for stage in 0..ends.len() {
            let start = if stage == 0 { 0 } else { ends[stage - 1] };
            let node = node_of(stage);
            for layer in start..ends[stage] {
                loads[node] += self.times[layer] / self.speeds[node];
            }
            let crosses = stage > 0 && node_of(stage - 1) != node;
            if crosses {
                let time = self.sent[start] * self.slowness[node_of(stage - 1)][node];
                match self.cuts {
                    Some(CutCost::Both) => {
                        loads[node] += time;
                        loads[node_of(stage - 1)] += time;
                    }
                    Some(CutCost::Link) => links = links.max(time),
                    None => {}
                }
            }
            if let Some(memory) = &self.memory {
                let mut working = 0.0f64;
                for layer in start..ends[stage] {
                    bytes[node] += memory.once[layer] + memory.kept[stage] * memory.each[layer];
                    working = working.max(memory.working[layer]);
                }
                bytes[node] += working;
                if crosses {
                    bytes[node] += memory.slots[stage] * memory.slot[start];
                    let before = node_of(stage - 1);
                    bytes[before] += memory.slots[stage - 1] * memory.slot[start];
                }
            }
        }
        let limits = self.memory.as_ref().map(|memory| &memory.limits);
        let fits = limits.is_none_or(|limits| bytes.iter().zip(limits).all(|(b, most)| b <= most));
        fits.then(|| loads.iter().copied().fold(links, f64::max))
    }

    /// The best of all partitions.
    fn exhaustive(&self, ends: &mut Vec<usize>) -> Option<f64> {
        let (stages, layers) = (self.placement.stages().index(), self.times.len());
        if ends.len() + 1 == stages {
            ends.push(layers);
            let bottleneck = self.bottleneck(ends);
            ends.pop();
            return bottleneck;
        }
        let mut best: Option<f64> = None;
        let first = ends.last().map_or(1, |end| end + 1);
        for end in first..=layers - (stages - 1 - ends.len()) {
            ends.push(end);
            if let Some(found) = self.exhaustive(ends) {
                best = Some(best.map_or(found, |best| best.min(found)));
            }
            ends.pop();
        }
        best
    }

    /// Whether there is a partition. It is the best.
    fn check(&self) -> bool {
        let costs = ChainCosts::new(&self.times, &self.placement).speeds(&self.speeds);
        let cut_cost = self.cuts.unwrap_or_default();
        let costs = costs.transfers(cut_cost, |cut, from, to| match self.cuts {
            Some(_) => self.transfer(cut, from, to),
            None => 0.0,
        });
        let costs = match &self.memory {
            Some(memory) => costs.memory(memory.clone()),
            None => costs,
        };
        let (found, best) = (optimum(&costs), self.exhaustive(&mut Vec::new()));
        assert_eq!(found, optimum(&costs), "the same again");
        let Some(best) = best else {
            assert!(found.is_err_and(|none| none.proven), "{self:?}");
            return false;
        };
        let found = found.unwrap_or_else(|_| panic!("{best} is possible: {self:?}"));
        let mut ends = found.partition.cuts();
        ends.push(self.times.len());
        let own = self.bottleneck(&ends).expect("it fits");
        let near = |a: f64, b: f64| (a - b).abs() <= 1e-12 * b;
        assert!(near(found.bottleneck, own), "{found:?} {own} {self:?}");
        assert!(near(own, best), "{found:?} {best} {self:?}");
        assert!(found.proven, "{self:?}");
        true
    }
}

/// Many cases: how many have a partition, and how many have none.
fn many(name: &str, with: With, placement: impl Fn(&mut Numbers) -> Placement) -> [usize; 2] {
    let mut counts = [0; 2];
    for seed in 0..250 {
        let mut numbers = Numbers::new(1, name, seed);
        let placement = placement(&mut numbers);
        counts[usize::from(!case(placement, with, &mut numbers).check())] += 1;
    }
    counts
}

/// All placements: how many cases of each have a partition, and how many have none.
fn all(with: With) -> Vec<[usize; 2]> {
    let all = PLACEMENTS.iter();
    all.map(|(name, placement)| many(name, with, placement))
        .collect()
}

#[test]
fn computing_alone() {
    assert_eq!(all(With::default()), [[250, 0]; 6]);
}

#[test]
fn memory_has_limits() {
    let with = With {
        memory: true,
        ..With::default()
    };
    let counts = all(with);
    assert!(
        counts.iter().flatten().all(|count| *count > 30),
        "{counts:?}"
    );
}

#[test]
fn transfers_load_both_sides() {
    let with = With {
        cuts: Some(CutCost::Both),
        ..With::default()
    };
    assert_eq!(all(with), [[250, 0]; 6]);
}

#[test]
fn links_work_beside_the_nodes() {
    let with = With {
        cuts: Some(CutCost::Link),
        ..With::default()
    };
    assert_eq!(all(with), [[250, 0]; 6]);
}

#[test]
fn nodes_are_of_unequal_speed() {
    let with = With {
        unequal_speeds: true,
        ..With::default()
    };
    assert_eq!(all(with), [[250, 0]; 6]);
}

#[test]
fn everything_at_once() {
    for cuts in [CutCost::Both, CutCost::Link] {
        let with = With {
            unequal_speeds: true,
            cuts: Some(cuts),
            memory: true,
        };
        let counts = all(with);
        assert!(
            counts.iter().flatten().all(|count| *count > 30),
            "{counts:?}"
        );
    }
}

#[test]
fn fewer_layers_than_stages_have_no_partition() {
    let placement = Placement::looped(NodeCount::new(2), 2);
    let none = optimum(&ChainCosts::new(&[1.0; 3], &placement)).unwrap_err();
    assert!(none.proven);
}

#[test]
fn a_hundred_layers_on_eight_nodes_are_proven() {
    let mut numbers = Numbers::new(1, "hundred", 0);
    let times = numbers.list(100, 1000);
    let even = times.iter().sum::<f64>() / 8.0;
    let count = NodeCount::new(8);
    for placement in [Placement::v_shaped(count), Placement::looped(count, 2)] {
        let best = optimum(&ChainCosts::new(&times, &placement)).unwrap();
        assert!(
            best.proven && best.bottleneck < 1.01 * even,
            "{best:?} {even}"
        );
    }
}

#[test]
fn a_big_layer_leaves_the_others_even() {
    let mut times = vec![1.0; 40];
    times[20] = 30.0;
    let placement = Placement::straight(NodeCount::new(5));
    let best = optimum(&ChainCosts::new(&times, &placement)).unwrap();
    assert_eq!(best.bottleneck, 30.0);
    assert_eq!(best.partition.cuts(), [10, 20, 21, 31]);
}
