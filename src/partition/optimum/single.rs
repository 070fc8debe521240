//! One stage a node: dynamic programming.
//!
//! ```text
//! best[stage][end] = min over start of max(best[stage-1][start], link(start), load(start..end))
//! ```
//!
//! over the transitions that fit, so the loads may be of any shape. What keeps it fast is an upper
//! bound near the optimum: stages above it are not looked at, and it leaves each stage few places
//! to end. The bound is raised until something is found below it, which then is the optimum.

use super::{StageCosts, bottleneck, local, stage_id};
use std::ops::RangeInclusive;

/// How far above the lower bound to look, one after the other.
const GAPS: [f64; 6] = [0.0, 1.0 / 256.0, 1.0 / 64.0, 1.0 / 16.0, 1.0 / 4.0, 1.0];
/// How many transitions evening out the loads below the bottleneck may take.
const EVEN_BUDGET: u64 = 4_000_000;
/// How many starts are skipped at once where none can be better.
const BLOCK: usize = 64;

/// Where every stage starts, and the number of layers. `None` when nothing fits.
pub(super) fn solve(costs: &impl StageCosts) -> Option<Vec<usize>> {
    let lower = lower_bound(costs)?;
    let smallest = |bound| fill(costs, bound, Aim::Smallest(lower), u64::MAX).cuts();
    let gaps = GAPS.iter().filter(|gap| lower > 0.0 || **gap == 0.0);
    let mut bounds = gaps.map(|gap| lower * (1.0 + gap));
    if let Some(cuts) = bounds.find_map(smallest) {
        return Some(evened(costs, cuts));
    }
    // The optimum is far above the computing: up to what is found without a bound.
    let any = fill(costs, f64::INFINITY, Aim::Any, u64::MAX).cuts()?;
    let most = bottleneck(costs, &any);
    let mut bound = (most / 4096.0).max(lower * 4.0);
    while bound < most {
        if let Some(cuts) = smallest(bound) {
            return Some(evened(costs, cuts));
        }
        bound *= 2.0;
    }
    Some(evened(costs, smallest(most).unwrap_or(any)))
}

/// The same bottleneck, with the smallest sum of squares where that is quick to find.
fn evened(costs: &impl StageCosts, mut cuts: Vec<usize>) -> Vec<usize> {
    match fill(costs, bottleneck(costs, &cuts), Aim::Even, EVEN_BUDGET) {
        Filled::Found(even) => even,
        _ => {
            local::improve(costs, &mut cuts);
            cuts
        }
    }
}

/// Where each stage may end if stages take at most `bound` to compute; `None` when they cannot.
fn ends(costs: &impl StageCosts, bound: f64) -> Option<Vec<RangeInclusive<usize>>> {
    let (layers, stages) = (costs.layers(), costs.placement().stages().index());
    let fits = |stage: usize, start: usize, end: usize| {
        let (id, node) = (stage_id(stage), costs.placement().node_of(stage_id(stage)));
        costs.least_load(id, start..end) <= bound
            && costs.least_bytes(id, start..end) <= costs.limit(node)
    };
    let mut last = Vec::with_capacity(stages);
    let mut start = 0;
    for stage in 0..stages {
        let most = layers - (stages - 1 - stage) - start;
        start += longest(most, |length| fits(stage, start, start + length));
        last.push(start);
    }
    let mut ends = vec![layers..=layers; stages];
    let mut end = layers;
    for stage in (0..stages).rev() {
        if last[stage] < end {
            return None;
        }
        ends[stage] = end..=last[stage];
        end -= longest(end - stage, |length| fits(stage, end - length, end));
    }
    (end == 0).then_some(ends)
}

/// The longest up to `most` that fits, if all shorter ones do: doubling, then bisection.
fn longest(most: usize, fits: impl Fn(usize) -> bool) -> usize {
    let (mut good, mut step) = (0, 1);
    while good < most && fits((good + step).min(most)) {
        good = (good + step).min(most);
        step *= 2;
    }
    let mut bad = (good + step).min(most + 1);
    while good + 1 < bad {
        let middle = good.midpoint(bad);
        match fits(middle) {
            true => good = middle,
            false => bad = middle,
        }
    }
    good
}

/// The smallest bound under which computing fits, to the last bit.
fn lower_bound(costs: &impl StageCosts) -> Option<f64> {
    let (layers, stages) = (costs.layers(), costs.placement().stages());
    if ends(costs, 0.0).is_some() {
        return Some(0.0);
    }
    let all = stages
        .iter()
        .map(|stage| costs.least_load(stage, 0..layers));
    let (mut low, mut high) = (0.0, all.fold(0.0, f64::max));
    ends(costs, high)?;
    loop {
        let middle = low + (high - low) / 2.0;
        if !(low < middle && middle < high) {
            return Some(high);
        }
        match ends(costs, middle) {
            Some(_) => high = middle,
            None => low = middle,
        }
    }
}

/// What is best among the partitions under the bound.
#[derive(Clone, Copy)]
enum Aim {
    /// All are as good.
    Any,
    /// The smallest bottleneck; this one is as good as any below.
    Smallest(f64),
    /// The smallest sum of squares.
    Even,
}

impl Aim {
    /// The value of the stages before and one more with this load. It grows with both.
    fn join(self, before: f64, load: f64) -> f64 {
        match self {
            Aim::Any => 0.0,
            Aim::Smallest(_) => before.max(load),
            Aim::Even => before + load * load,
        }
    }

    fn with_link(self, value: f64, link: f64) -> f64 {
        match self {
            Aim::Smallest(_) => value.max(link),
            _ => value,
        }
    }

    /// Whether looking for a better value is over.
    fn is_met(self, value: f64) -> bool {
        match self {
            Aim::Any => true,
            Aim::Smallest(floor) => value <= floor,
            Aim::Even => false,
        }
    }
}

enum Filled {
    Found(Vec<usize>),
    Nothing,
    /// It would take more transitions than it may.
    TooMany,
}

impl Filled {
    fn cuts(self) -> Option<Vec<usize>> {
        match self {
            Filled::Found(cuts) => Some(cuts),
            _ => None,
        }
    }
}

/// The best partition of those whose loads and links are at most `bound`.
fn fill(costs: &impl StageCosts, bound: f64, aim: Aim, mut budget: u64) -> Filled {
    let Some(ends) = ends(costs, bound) else {
        return Filled::Nothing;
    };
    let mut chosen: Vec<Vec<u32>> = Vec::with_capacity(ends.len());
    let (mut first, mut before) = (0, vec![0.0]);
    for (stage, ends) in ends.iter().enumerate() {
        let id = stage_id(stage);
        let limit = costs.limit(costs.placement().node_of(id));
        let blocks = before.chunks(BLOCK);
        let smallest: Vec<f64> = blocks
            .map(|block| block.iter().copied().fold(f64::INFINITY, f64::min))
            .collect();
        let mut best = vec![f64::INFINITY; ends.end() + 1 - ends.start()];
        let mut from = vec![0; best.len()];
        for ((end, best), from) in ends.clone().zip(&mut best).zip(&mut from) {
            let mut looked = 0;
            let mut left = before.len().min(end - first);
            while left > 0 {
                looked += 1;
                let place = left - 1;
                let start = first + place;
                let least = costs.least_load(id, start..end);
                let out = least > bound || aim.join(0.0, least) >= *best;
                if out || costs.least_bytes(id, start..end) > limit {
                    break;
                }
                // A whole block of starts that are no better already.
                if left % BLOCK == 0 && smallest[place / BLOCK] >= *best {
                    left -= BLOCK;
                    continue;
                }
                left -= 1;
                if before[place] >= *best {
                    continue;
                }
                let load = costs.load(id, start..end);
                let value = aim.join(before[place], load);
                let better = load <= bound && value < *best;
                if better && costs.bytes(id, start..end) <= limit {
                    (*best, *from) = (value, start as u32);
                    if aim.is_met(value) {
                        break;
                    }
                }
            }
            budget = match budget.checked_sub(looked) {
                Some(left) => left,
                None => return Filled::TooMany,
            };
            if stage + 1 < costs.placement().stages().index() {
                let link = costs.link(id, end);
                *best = match link <= bound {
                    true => aim.with_link(*best, link),
                    false => f64::INFINITY,
                };
            }
        }
        chosen.push(from);
        (first, before) = (*ends.start(), best);
    }
    if before[0].is_infinite() {
        return Filled::Nothing;
    }
    let mut cuts = vec![costs.layers()];
    for (ends, from) in ends.iter().zip(&chosen).rev() {
        let end = cuts[cuts.len() - 1];
        cuts.push(from[end - ends.start()] as usize);
    }
    cuts.reverse();
    Filled::Found(cuts)
}
