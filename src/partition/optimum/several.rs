//! Several stages a node: a good partition first, then searches for better ones.

use super::search::{Search, Until};
use super::work::Work;
use super::{NoPartition, StageCosts, bottleneck, excess, local, single, stage_id};
use crate::ids::{NodeCount, NodeId, StageId};
use crate::placement::Placement;
use std::ops::Range;

/// Places for a cut that a whole search may try.
const BUDGET: u64 = 1_000_000;
/// Of these, how many may be spent on one bound between the lower one and the best found.
const PROBE: u64 = BUDGET / 8;
/// Bounds are tried between them until they are this near.
const NEAR: f64 = 1.0 / 1024.0;

/// Where every stage starts, and the number of layers; whether nothing better exists.
pub(super) fn solve<C: StageCosts>(costs: &C) -> Result<(Vec<usize>, bool), NoPartition> {
    let mut best = start(costs);
    let work = Work::new(costs);
    let mut search = Search::new(costs, &work, BUDGET);
    if excess(costs, &best) > 0.0 {
        let found = search.below(f64::INFINITY, &best, Until::Any, BUDGET);
        let proven = found.complete;
        best = found.best.ok_or(NoPartition { proven })?;
        local::improve(costs, &mut best);
    }
    let mut value = bottleneck(costs, &best);
    // Halving the distance to what is known or feared to be impossible.
    let mut low = work.lower;
    while value - low > value * NEAR {
        let middle = low + (value - low) / 2.0;
        let Some(found) = search.below(middle, &best, Until::Any, PROBE).best else {
            low = middle;
            continue;
        };
        best = found;
        local::improve(costs, &mut best);
        value = bottleneck(costs, &best);
    }
    // Then better and better ones, until there is none.
    if value <= work.lower {
        return Ok((best, true));
    }
    let found = search.below(value.next_down(), &best, Until::Best, BUDGET);
    if let Some(mut better) = found.best {
        local::improve(costs, &mut better);
        best = better;
    }
    Ok((best, found.complete))
}

/// The best of what there is without searching.
fn start<C: StageCosts>(costs: &C) -> Vec<usize> {
    let (layers, stages) = (costs.layers(), costs.placement().stages().index());
    let even = (0..=stages).map(|cut| cut * layers / stages).collect();
    let alone = [true, false].map(|divided| Alone::new(costs, divided));
    let solved = alone.iter().filter_map(single::solve);
    let mut all: Vec<Vec<usize>> = solved.chain([even]).collect();
    for cuts in &mut all {
        local::improve(costs, cuts);
    }
    let value = |cuts: &Vec<usize>| (excess(costs, cuts), bottleneck(costs, cuts));
    let less = |a: &Vec<usize>, b: &Vec<usize>| {
        let (a, b) = (value(a), value(b));
        a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1))
    };
    all.into_iter().min_by(less).unwrap_or_default()
}

/// The same stages, each on a node of its own.
struct Alone<'a, C> {
    costs: &'a C,
    placement: Placement,
    /// Whether each gets only its share of the bytes that the node may hold.
    divided: bool,
}

impl<'a, C: StageCosts> Alone<'a, C> {
    fn new(costs: &'a C, divided: bool) -> Self {
        let stages = costs.placement().stages().get();
        Self {
            costs,
            placement: Placement::straight(NodeCount::new(stages)),
            divided,
        }
    }
}

impl<C: StageCosts> StageCosts for Alone<'_, C> {
    fn layers(&self) -> usize {
        self.costs.layers()
    }

    fn placement(&self) -> &Placement {
        &self.placement
    }

    fn load(&self, stage: StageId, layers: Range<usize>) -> f64 {
        self.costs.load(stage, layers)
    }

    fn least_load(&self, stage: StageId, layers: Range<usize>) -> f64 {
        self.costs.least_load(stage, layers)
    }

    fn bytes(&self, stage: StageId, layers: Range<usize>) -> f64 {
        self.costs.bytes(stage, layers)
    }

    fn least_bytes(&self, stage: StageId, layers: Range<usize>) -> f64 {
        self.costs.least_bytes(stage, layers)
    }

    fn limit(&self, node: NodeId) -> f64 {
        let node = self.costs.placement().node_of(stage_id(node.index()));
        let stages = match self.divided {
            true => self.costs.placement().stages_on(node).len(),
            false => 1,
        };
        self.costs.limit(node) / stages as f64
    }

    fn link(&self, stage: StageId, cut: usize) -> f64 {
        self.costs.link(stage, cut)
    }
}
