//! The best partition is as good as the best of all partitions, one after the other.
#![allow(missing_docs, clippy::unwrap_used)]

use brigade::ids::{NodeCount, NodeId, StageId};
use brigade::layer::Random;
use brigade::partition::{ChainCosts, ChainMemory, CutCost, StageCosts, optimum};
use brigade::placement::Placement;
use std::ops::Range;

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

/// Numbers from a stream.
struct Numbers(Random, u64, u32);

impl Numbers {
    fn below(&mut self, bound: u64) -> f64 {
        self.2 += 1;
        self.0.below(self.1, self.2, bound) as f64
    }

    fn list(&mut self, count: usize, bound: u64) -> Vec<f64> {
        (0..count).map(|_| self.below(bound)).collect()
    }
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
        let mut numbers = Numbers(Random::named(1, name), seed, 0);
        let placement = placement(&mut numbers);
        counts[usize::from(!case(placement, with, &mut numbers).check())] += 1;
    }
    counts
}

fn nodes(numbers: &mut Numbers, most: u64) -> NodeCount {
    NodeCount::new(1 + numbers.below(most) as u32)
}

fn straight(numbers: &mut Numbers) -> Placement {
    Placement::straight(nodes(numbers, 7))
}

/// Nodes in any order, each with one stage.
fn permuted(numbers: &mut Numbers) -> Placement {
    let mut order: Vec<NodeId> = nodes(numbers, 7).iter().collect();
    for place in (1..order.len()).rev() {
        order.swap(place, numbers.below(place as u64 + 1) as usize);
    }
    Placement::of(order).unwrap()
}

fn looped_2(numbers: &mut Numbers) -> Placement {
    Placement::looped(nodes(numbers, 4), 2)
}

fn looped_3(numbers: &mut Numbers) -> Placement {
    Placement::looped(nodes(numbers, 3), 3)
}

fn v_shaped(numbers: &mut Numbers) -> Placement {
    Placement::v_shaped(nodes(numbers, 4))
}

/// Any stages on any nodes.
fn any(numbers: &mut Numbers) -> Placement {
    let nodes = 1 + numbers.below(4) as u64;
    let stages = nodes + numbers.below(9 - nodes) as u64;
    let mut order: Vec<u64> = (0..nodes).collect();
    order.extend((nodes as usize..stages as usize).map(|_| numbers.below(nodes) as u64));
    for place in (1..order.len()).rev() {
        order.swap(place, numbers.below(place as u64 + 1) as usize);
    }
    let order = order.into_iter().map(|node| NodeId::new(node as u32));
    Placement::of(order.collect()).unwrap()
}

const PLACEMENTS: [(&str, fn(&mut Numbers) -> Placement); 6] = [
    ("straight", straight),
    ("permuted", permuted),
    ("looped 2", looped_2),
    ("looped 3", looped_3),
    ("V", v_shaped),
    ("any", any),
];

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

/// Loads and bytes that have nothing to do with sums, above parts that grow.
struct AnyCosts {
    placement: Placement,
    layers: usize,
    random: Random,
    seed: u64,
}

impl AnyCosts {
    fn drawn(&self, what: u32, stage: StageId, layers: &Range<usize>, bound: u64) -> f64 {
        let place = (stage.get() * 32 + layers.start as u32) * 32 + layers.end as u32;
        self.random.below(self.seed, place * 4 + what, bound) as f64
    }
}

impl StageCosts for AnyCosts {
    fn layers(&self) -> usize {
        self.layers
    }

    fn placement(&self) -> &Placement {
        &self.placement
    }

    fn load(&self, stage: StageId, layers: Range<usize>) -> f64 {
        self.drawn(0, stage, &layers, 12) + self.least_load(stage, layers)
    }

    fn least_load(&self, stage: StageId, layers: Range<usize>) -> f64 {
        // Together more than apart.
        (layers.len() * layers.len()) as f64 / f64::from(1 + stage.get() % 3)
    }

    fn bytes(&self, stage: StageId, layers: Range<usize>) -> f64 {
        self.drawn(1, stage, &layers, 8) + self.least_bytes(stage, layers)
    }

    fn least_bytes(&self, _: StageId, layers: Range<usize>) -> f64 {
        (layers.len() as f64).sqrt()
    }

    fn limit(&self, node: NodeId) -> f64 {
        2.0 + self.placement.stages_on(node).len() as f64 * 4.0
    }

    fn link(&self, stage: StageId, cut: usize) -> f64 {
        self.drawn(2, stage, &(cut..cut), 20)
    }
}

fn best_of_any(costs: &AnyCosts, cuts: &mut Vec<usize>) -> f64 {
    let stages = costs.placement.stages();
    if cuts.len() == stages.index() {
        cuts.push(costs.layers);
        let layers = |stage: StageId| cuts[stage.index()]..cuts[stage.index() + 1];
        let mut bottleneck = 0.0f64;
        for node in costs.placement.nodes().iter() {
            let (mut load, mut bytes) = (0.0, 0.0);
            for stage in stages
                .iter()
                .filter(|stage| costs.placement.node_of(*stage) == node)
            {
                load += costs.load(stage, layers(stage));
                bytes += costs.bytes(stage, layers(stage));
            }
            let fits = bytes <= costs.limit(node);
            bottleneck = bottleneck.max(if fits { load } else { f64::INFINITY });
        }
        for stage in stages.iter().skip(1) {
            let before = StageId::new(stage.get() - 1);
            bottleneck = bottleneck.max(costs.link(before, cuts[stage.index()]));
        }
        cuts.pop();
        return bottleneck;
    }
    let mut best = f64::INFINITY;
    for cut in cuts[cuts.len() - 1] + 1..=costs.layers - (stages.index() - cuts.len()) {
        cuts.push(cut);
        best = best.min(best_of_any(costs, cuts));
        cuts.pop();
    }
    best
}

#[test]
fn costs_may_be_of_any_shape() {
    let mut counts = [0; 2];
    for (name, placement) in PLACEMENTS {
        for seed in 0..200 {
            let mut numbers = Numbers(Random::named(2, name), seed, 0);
            let placement = placement(&mut numbers);
            let costs = AnyCosts {
                layers: placement.stages().index() + numbers.below(5) as usize,
                random: Random::named(3, name),
                placement,
                seed,
            };
            let best = best_of_any(&costs, &mut vec![0]);
            counts[usize::from(best.is_infinite())] += 1;
            match optimum(&costs) {
                Ok(found) => {
                    let near = (found.bottleneck - best).abs() <= 1e-12 * best;
                    assert!(near && found.proven, "{name} {seed}: {found:?} {best}");
                }
                Err(none) => assert!(none.proven && best.is_infinite(), "{name} {seed}: {best}"),
            }
        }
    }
    assert!(counts.iter().all(|count| *count > 100), "{counts:?}");
}

#[test]
fn fewer_layers_than_stages_have_no_partition() {
    let placement = Placement::looped(NodeCount::new(2), 2);
    let none = optimum(&ChainCosts::new(&[1.0; 3], &placement)).unwrap_err();
    assert!(none.proven);
}
