//! Better orders by small changes: one part of a stage's work a few places earlier or later.

use super::Work;
use super::pipeline::{Done, Goal, Order, Pipeline, Score};
use super::replay::Replay;

/// Late acceptance (Burke and Bykov 2017, "The Late Acceptance Hill-Climbing Heuristic"): a change
/// stays if it is no worse than what was current so many changes ago. Leaves hollows that plain
/// descent would stay in.
const MEMORY: usize = 64;
/// How many places a part may go.
const FAR: usize = 12;

/// The best order found in so many tries from this one.
pub(super) fn search(pipeline: &Pipeline, from: (Order, Score), tries: usize) -> Order {
    let bound = pipeline.bound().makespan;
    let (mut now, score) = from;
    let (mut best, mut best_score) = (now.clone(), score);
    let mut replay = Replay::new(pipeline);
    let mut numbers = Numbers(1);
    let mut before = [cost(score); MEMORY];
    let mut now_cost = cost(score);
    for attempt in 0..tries {
        if best_score.makespan <= bound * (1.0 + 1e-9) {
            break;
        }
        let stage = numbers.below(now.len());
        let from = numbers.below(now[stage].len());
        let to = (from + numbers.below(2 * FAR + 1)).saturating_sub(FAR);
        let to = to.min(now[stage].len() - 1);
        shift(&mut now[stage], from, to);

        let before = &mut before[attempt % MEMORY];
        let allowed = allows(pipeline, stage, &now[stage]);
        let score = allowed.then(|| replay.score(&now)).flatten();
        match score.filter(|score| cost(*score) <= now_cost.max(*before)) {
            Some(score) => {
                now_cost = cost(score);
                if score.better_than(best_score, Goal::Makespan) {
                    (best, best_score) = (now.clone(), score);
                }
            }
            None => shift(&mut now[stage], to, from),
        }
        *before = now_cost;
    }
    best
}

/// Mostly the makespan. What shortens only the span is a way to go on.
fn cost(score: Score) -> f64 {
    score.makespan + 1e-3 * score.span
}

fn shift(row: &mut [Work], from: usize, to: usize) {
    if from <= to {
        row[from..=to].rotate_left(1);
    } else {
        row[to..=from].rotate_right(1);
    }
}

fn allows(pipeline: &Pipeline, stage: usize, row: &[Work]) -> bool {
    let mut done = Done::default();
    row.iter().all(|work| {
        let allowed = pipeline.allows(stage, done, *work);
        done.count(*work);
        allowed
    })
}

/// Numbers like random ones, the same every time (Steele et al. 2014, SplitMix).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }
}
