//! Looks for a partition below a bound, depth first, until there is one or there is none.
//!
//! Cuts are placed node by node. What is left to decide once a node is finished depends on the open
//! cuts alone, not on how they came about, so places from which nothing was found are remembered.

use super::steps::{Step, steps};
use super::work::Work;
use super::{StageCosts, bottleneck, node_bytes, node_load, stage_id};
use std::collections::HashSet;

/// How many dead ends are remembered.
const MOST_REMEMBERED: usize = 2_000_000;
/// Room for rounding where a bound is only an estimate.
const ROUNDING: f64 = 1e-9;

pub(super) struct Found {
    /// The best partition's cuts.
    pub(super) best: Option<Vec<usize>>,
    /// Whether there is no better one; otherwise the budget is spent, or any was good enough.
    pub(super) complete: bool,
}

/// When to stop looking.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Until {
    Any,
    Best,
}

pub(super) struct Search<'a, C> {
    costs: &'a C,
    work: &'a Work,
    steps: Vec<Step>,
    /// How many more places for a cut may be tried.
    pub(super) budget: u64,
}

/// Where the search stands at one step.
#[derive(Clone, Copy, Default)]
struct Level {
    low: usize,
    high: usize,
    /// Where to look first, and in which direction.
    first: usize,
    tried: usize,
    /// The work of the nodes that were finished before.
    done: f64,
}

impl Level {
    /// The next place to try: the nearest to the first one.
    fn next(&mut self) -> Option<usize> {
        let tried = self.tried;
        if self.low + tried > self.high {
            return None;
        }
        self.tried += 1;
        let (below, above) = (self.first - self.low, self.high - self.first);
        let both = below.min(above);
        Some(match tried {
            _ if tried > 2 * both && below > above => self.first - (tried - both),
            _ if tried > 2 * both => self.first + (tried - both),
            _ if tried % 2 == 1 => self.first + tried.div_ceil(2),
            _ => self.first - tried / 2,
        })
    }
}

impl<'a, C: StageCosts> Search<'a, C> {
    pub(super) fn new(costs: &'a C, work: &'a Work, budget: u64) -> Self {
        Self {
            costs,
            work,
            steps: steps(costs.placement(), work),
            budget,
        }
    }

    /// A partition that fits, with a bottleneck of at most `bound`. Looks first near `guide`, and
    /// tries no more than `budget` places.
    pub(super) fn below(
        &mut self,
        bound: f64,
        guide: &[usize],
        until: Until,
        budget: u64,
    ) -> Found {
        let mut left = budget.min(self.budget);
        self.budget -= left;
        let mut best = None;
        let complete = self.walk(bound, guide, &mut left, |cuts| {
            best = Some(cuts.to_vec());
            until == Until::Best
        });
        self.budget += left;
        Found { best, complete }
    }

    /// Tells of better and better partitions, as long as `found` wants more. Whether there is none
    /// that is better than the last.
    fn walk(
        &self,
        mut bound: f64,
        guide: &[usize],
        left: &mut u64,
        mut found: impl FnMut(&[usize]) -> bool,
    ) -> bool {
        let mut cuts = guide.to_vec();
        let mut dead: Vec<HashSet<u128>> = vec![HashSet::new(); self.steps.len()];
        let mut remembered = 0;
        let mut levels = vec![Level::default(); self.steps.len()];
        levels[0] = self.enter(0, &cuts, guide, bound, 0.0);
        let mut depth = 0;
        loop {
            let step = &self.steps[depth];
            let Some(place) = levels[depth].next() else {
                let Some(above) = depth.checked_sub(1) else {
                    return true;
                };
                depth = above;
                if remembered < MOST_REMEMBERED
                    && let Some(key) = self.key(depth, &cuts)
                {
                    remembered += usize::from(dead[depth].insert(key));
                }
                continue;
            };
            if *left == 0 {
                return false;
            }
            *left -= 1;
            cuts[step.cut] = place;
            let Some(done) = self.finish(step, &cuts, bound, levels[depth].done) else {
                continue;
            };
            let known = !dead[depth].is_empty();
            if known && { self.key(depth, &cuts) }.is_some_and(|key| dead[depth].contains(&key)) {
                continue;
            }
            if depth + 1 < self.steps.len() {
                depth += 1;
                levels[depth] = self.enter(depth, &cuts, guide, bound, done);
                continue;
            }
            if !found(&cuts) {
                return false;
            }
            // On from the first place that a better one cannot share.
            bound = bottleneck(self.costs, &cuts).next_down();
            let keeps = |depth: &usize| {
                let (step, done) = (&self.steps[*depth], levels[*depth].done);
                self.finish(step, &cuts, bound, done).is_some()
            };
            depth = (0..depth).find(|depth| !keeps(depth)).unwrap_or(depth);
        }
    }

    /// Where the cut of a step can be, with the cuts before it placed.
    fn enter(&self, depth: usize, cuts: &[usize], guide: &[usize], bound: f64, done: f64) -> Level {
        let step = &self.steps[depth];
        let (before, after) = step.between;
        let (start, end) = (cuts[before], cuts[after]);
        let fits = [0, 1].map(|side| self.room(step, side, cuts, bound));
        let (low, high) = (
            start + step.cut - before,
            (end + step.cut).checked_sub(after),
        );
        let nothing = Level {
            low: 1,
            ..Level::default()
        };
        let Some(high) = high.filter(|high| low <= *high) else {
            return nothing;
        };
        // Adding layers on one side never helps it to fit.
        let places = high + 1 - low;
        let fit = |side: usize, from: usize, to: usize| fits[side].holds(self, from, to);
        let high = low + partition_point(places, |more| fit(0, start, low + more));
        let low = high - partition_point(high - low, |more| fit(1, high - 1 - more, end));
        if low == high {
            return nothing;
        }
        let high = high - 1;
        let known = [0, 1].map(|side| step.sides[side].known_with.is_some());
        let first = match known {
            // The longest stage leaves the least for the other nodes.
            [true, false] if !step.finishes.is_empty() => high,
            [false, true] if !step.finishes.is_empty() => low,
            _ => guide[step.cut].clamp(low, high),
        };
        Level {
            low,
            high,
            first,
            tried: 0,
            done,
        }
    }

    /// What the layers on one side of a cut may take.
    fn room(&self, step: &Step, side: usize, cuts: &[usize], bound: f64) -> Room {
        let mut room = Room {
            work: bound * step.sides[side].speed * (1.0 + ROUNDING) + self.work.total() * ROUNDING,
            stage: None,
            load: bound * (1.0 + ROUNDING),
            bytes: f64::INFINITY,
        };
        if let Some(others) = &step.sides[side].known_with {
            let stage = stage_id(step.cut + side - 1);
            let limit = { self.costs }.limit(self.costs.placement().node_of(stage));
            (room.stage, room.bytes) = (Some(stage.index()), limit * (1.0 + ROUNDING));
            for other in others {
                let layers = super::layers_of(cuts, *other);
                room.load -= self.costs.load(stage_id(*other), layers.clone());
                room.bytes -= self.costs.bytes(stage_id(*other), layers);
            }
        }
        room
    }

    /// The work of all finished nodes if those that this step finishes are under the bound, and the
    /// other nodes can do the rest.
    fn finish(&self, step: &Step, cuts: &[usize], bound: f64, mut done: f64) -> Option<f64> {
        let costs = self.costs;
        if costs.link(stage_id(step.cut - 1), cuts[step.cut]) > bound {
            return None;
        }
        if step.finishes.is_empty() {
            return Some(done);
        }
        for node in &step.finishes {
            let stages = costs.placement().stages_on(*node);
            done += stages
                .map(|stage| super::layers_of(cuts, stage.index()))
                .map(|layers| self.work.between(layers.start, layers.end))
                .sum::<f64>();
        }
        let rest = self.work.total() * (1.0 - ROUNDING) - done;
        if rest > bound * step.speed_left && step.speed_left > 0.0 {
            return None;
        }
        let fits = |node| {
            let limit = costs.limit(node);
            node_load(costs, cuts, node) <= bound
                && (limit.is_infinite() || node_bytes(costs, cuts, node) <= limit)
        };
        { step.finishes.iter() }
            .all(|node| fits(*node))
            .then_some(done)
    }

    /// The open cuts after a step that finishes nodes, if they can be told apart in so many bits.
    fn key(&self, depth: usize, cuts: &[usize]) -> Option<u128> {
        let step = &self.steps[depth];
        let bits = usize::BITS - self.costs.layers().leading_zeros();
        if step.finishes.is_empty() || step.open.len() as u32 * bits > u128::BITS {
            return None;
        }
        let open = step.open.iter().map(|cut| cuts[*cut] as u128);
        Some(open.fold(0, |key, at| key << bits | at))
    }
}

/// What the layers on one side of a cut may take: work, and where they are one stage, load and
/// bytes.
struct Room {
    work: f64,
    stage: Option<usize>,
    load: f64,
    bytes: f64,
}

impl Room {
    fn holds<C: StageCosts>(&self, search: &Search<'_, C>, from: usize, to: usize) -> bool {
        search.work.between(from, to) <= self.work
            && self.stage.is_none_or(|stage| {
                let stage = stage_id(stage);
                search.costs.least_load(stage, from..to) <= self.load
                    && search.costs.least_bytes(stage, from..to) <= self.bytes
            })
    }
}

/// How many of the first `count` numbers hold, if all do that come before one that does.
fn partition_point(count: usize, holds: impl Fn(usize) -> bool) -> usize {
    let (mut good, mut bad) = (0, count);
    while good < bad {
        let middle = good.midpoint(bad);
        match holds(middle) {
            true => good = middle + 1,
            false => bad = middle,
        }
    }
    good
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_tried_from_the_first_outwards() {
        let order = |low, high, first| -> Vec<usize> {
            let mut level = Level {
                low,
                high,
                first,
                ..Level::default()
            };
            std::iter::from_fn(|| level.next()).collect()
        };
        assert_eq!(order(3, 7, 4), [4, 5, 3, 6, 7]);
        assert_eq!(order(3, 7, 7), [7, 6, 5, 4, 3]);
        assert_eq!(order(3, 7, 3), [3, 4, 5, 6, 7]);
        assert_eq!(order(0, 4, 2), [2, 3, 1, 4, 0]);
        assert_eq!(order(1, 0, 1), [0usize; 0]);
    }
}
