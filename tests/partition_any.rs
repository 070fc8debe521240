//! The best partition where costs are of any shape, against all partitions, one after the other.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "common/placements.rs"]
mod placements;

use brigade::ids::{NodeId, StageId};
use brigade::layer::Random;
use brigade::partition::{StageCosts, optimum};
use brigade::placement::Placement;
use placements::{Numbers, PLACEMENTS};
use std::ops::Range;

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
            let mut numbers = Numbers::new(2, name, seed);
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
