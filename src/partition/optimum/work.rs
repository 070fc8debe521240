//! How much work there is, and how much of it each node can do: what bounds a search from below.

use super::StageCosts;
use crate::ids::StageId;

/// Computing in one unit for all stages, though their nodes are of different speeds: a stage with
/// layers of this much work takes at least the work over the speed of its node.
pub(super) struct Work {
    /// The work of the first layers.
    sums: Vec<f64>,
    /// How fast a node is at most.
    pub(super) speeds: Vec<f64>,
    /// No bottleneck is below.
    pub(super) lower: f64,
}

impl Work {
    pub(super) fn new(costs: &impl StageCosts) -> Self {
        let (layers, placement) = (costs.layers(), costs.placement());
        let stages = placement.stages();
        let all: Vec<f64> = { stages.iter() }
            .map(|stage| costs.least_load(stage, 0..layers))
            .collect();
        let known = all.iter().all(|load| *load > 0.0 && load.is_finite());
        let mut speeds = vec![if known { 0.0 } else { 1.0 }; placement.nodes().index()];
        let mut sums = vec![0.0; layers + 1];
        let mut largest = 0.0f64;
        if known {
            let speed = |stage: usize| all[0] / all[stage];
            for stage in stages.iter() {
                let of_node = &mut speeds[placement.node_of(stage).index()];
                *of_node = speed(stage.index()).max(*of_node);
            }
            let single = |stage: StageId, layer: usize| costs.least_load(stage, layer..layer + 1);
            // What a node with several stages takes beside any layer.
            let mut beside = vec![f64::INFINITY; speeds.len()];
            for stage in stages.iter() {
                let of_node = &mut beside[placement.node_of(stage).index()];
                let singles = (0..layers).map(|layer| single(stage, layer));
                *of_node = singles.fold(*of_node, f64::min);
            }
            for (node, beside) in placement.nodes().iter().zip(&mut beside) {
                *beside *= (placement.stages_on(node).len() - 1) as f64;
            }
            for layer in 0..layers {
                let (mut work, mut quickest) = (f64::INFINITY, f64::INFINITY);
                for stage in stages.iter() {
                    let load = single(stage, layer);
                    work = work.min(load * speed(stage.index()));
                    quickest = quickest.min(load + beside[placement.node_of(stage).index()]);
                }
                sums[layer + 1] = sums[layer] + work;
                largest = largest.max(quickest);
            }
        }
        let even = sums[layers] / speeds.iter().sum::<f64>();
        Self {
            sums,
            speeds,
            lower: largest.max(even * (1.0 - 1e-9)),
        }
    }

    /// The work of the layers between two cuts.
    pub(super) fn between(&self, from: usize, to: usize) -> f64 {
        self.sums[to] - self.sums[from]
    }

    pub(super) fn total(&self) -> f64 {
        self.sums[self.sums.len() - 1]
    }
}
