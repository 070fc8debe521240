//! Which rules do best: a few to begin with, then one knob at a time.

use super::Work;
use super::greedy::{Rules, greedy};
use super::pipeline::{Done, Goal, Order, Pipeline, Score};
use super::replay::Replay;

/// Rules for all stages alike, in terms of where in the row a stage is.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Knobs {
    /// Micro-batches in flight, by how many the slowest stage can do while one goes from here to
    /// the last stage and back.
    depth: f64,
    /// Ws put off, by how many fill the time that the last I takes from here to the first stage.
    put_off: f64,
    /// See [`Rules::delay`].
    delay: [f64; 3],
}

const SEEDS: ([f64; 5], [f64; 2], [f64; 3]) = (
    [1.1, 1.5, 2.0, 2.5, 3.0],
    [0.5, f64::INFINITY],
    [0.5, 0.75, 0.75],
);
const DEPTH_STEPS: [f64; 8] = [-0.5, 0.5, -0.2, 0.2, -0.1, 0.1, -0.05, 0.05];
const PUT_OFF: [f64; 5] = [0.0, 0.5, 1.0, 2.0, f64::INFINITY];
const DELAYS: [f64; 5] = [0.0, 0.25, 0.5, 0.75, 1.0];

/// The best order of those that are known beforehand and those that the rules give, in about so
/// many tries.
///
/// Half of them look for the shortest span: a short span brings a short makespan with it, as nodes
/// start when they start, but not the other way round.
pub(super) fn tune(pipeline: &Pipeline, tries: usize) -> (Order, Score) {
    let mut tuner = Tuner::new(pipeline, tries);
    tuner.offer(one_f_one_b(pipeline, |stage| stage));
    let (depths, put_offs, delay) = SEEDS;
    let mut seeds = Vec::new();
    for put_off in put_offs {
        for depth in depths {
            let knobs = Knobs {
                depth,
                put_off,
                delay,
            };
            seeds.extend(tuner.attempt(knobs).map(|score| (knobs, score)));
        }
    }
    for goal in [Goal::Span, Goal::Makespan].into_iter().cycle() {
        let best = |best: usize, at: usize| match seeds[at].1.better_than(seeds[best].1, goal) {
            true => at,
            false => best,
        };
        let Some(best) = (0..seeds.len()).reduce(best) else {
            break;
        };
        tuner.descend(seeds.swap_remove(best), goal);
    }
    tuner.best
}

struct Tuner<'a> {
    pipeline: &'a Pipeline,
    replay: Replay<'a>,
    bound: Score,
    left: usize,
    best: (Order, Score),
}

impl<'a> Tuner<'a> {
    /// With 1F1B, which never gets stuck.
    fn new(pipeline: &'a Pipeline, left: usize) -> Self {
        let mut replay = Replay::new(pipeline);
        let order = one_f_one_b(pipeline, |_| 0);
        let none = Score {
            makespan: f64::INFINITY,
            span: f64::INFINITY,
        };
        let score = replay.score(&order).unwrap_or(none);
        Self {
            pipeline,
            replay,
            bound: pipeline.bound(),
            left,
            best: (order, score),
        }
    }

    fn offer(&mut self, order: Order) -> Option<Score> {
        self.left = self.left.saturating_sub(1);
        let score = self.replay.score(&order)?;
        if score.better_than(self.best.1, Goal::Makespan) {
            self.best = (order, score);
        }
        if !self.bound.better_than(self.best.1, Goal::Makespan) {
            self.left = 0;
        }
        Some(score)
    }

    /// `None` when there are no tries left.
    fn attempt(&mut self, knobs: Knobs) -> Option<Score> {
        if self.left == 0 {
            return None;
        }
        self.offer(greedy(self.pipeline, &rules(self.pipeline, knobs)))
    }

    /// Turns one knob after the other, as long as that helps.
    fn descend(&mut self, (mut knobs, mut score): (Knobs, Score), goal: Goal) {
        let mut before = None;
        while before != Some(knobs) {
            before = Some(knobs);
            for knob in 0..5 {
                for turned in turns(knobs, knob) {
                    let found = self.attempt(turned);
                    if let Some(found) = found.filter(|found| found.better_than(score, goal)) {
                        (knobs, score) = (turned, found);
                    }
                }
            }
        }
    }
}

/// Everything that one of five knobs could be turned to.
fn turns(knobs: Knobs, knob: usize) -> Vec<Knobs> {
    let delay = |at: usize| {
        DELAYS.map(|value| {
            let mut turned = knobs;
            turned.delay[at] = value;
            turned
        })
    };
    let mut turns = match knob {
        0 => DEPTH_STEPS
            .map(|step| Knobs {
                depth: knobs.depth + step,
                ..knobs
            })
            .to_vec(),
        1 => PUT_OFF.map(|put_off| Knobs { put_off, ..knobs }).to_vec(),
        _ => delay(knob - 2).to_vec(),
    };
    turns.retain(|turned| *turned != knobs);
    turns
}

fn rules(pipeline: &Pipeline, knobs: Knobs) -> Rules {
    let stages = pipeline.stages();
    let slowest = (0..stages)
        .map(|stage| pipeline.whole(stage))
        .fold(0.0, f64::max);
    let mut in_flight = vec![1; stages];
    let mut there_and_back = 0.0;
    for stage in (0..stages).rev() {
        let [forward, input, _] = pipeline.times[stage];
        there_and_back += forward + input;
        // Less a rounding: 2.0000000001 micro-batches are 2.
        let ahead = (knobs.depth * there_and_back / slowest - 1e-9).ceil();
        in_flight[stage] = (ahead as usize).max(1);
        there_and_back += 2.0 * pipeline.link;
    }
    let mut put_off = Vec::with_capacity(stages);
    let mut to_first = 0.0;
    for [_, input, weight] in &pipeline.times {
        put_off.push(match knobs.put_off {
            f64::INFINITY => usize::MAX,
            share => (share * to_first / weight + 1e-9) as usize,
        });
        to_first += input + pipeline.link;
    }
    Rules {
        in_flight,
        put_off,
        delay: knobs.delay,
    }
}

/// 1F1B with as many Ws put off as this and the limits allow. ZB-H1 where a stage puts off as many
/// as there are stages before it.
fn one_f_one_b(pipeline: &Pipeline, put_off: impl Fn(usize) -> usize) -> Order {
    let (stages, count) = (pipeline.stages(), pipeline.micro_batches);
    let mut in_flight = stages;
    let row = |stage| {
        // A stage that wants more in flight than the one before it has would wait for ever.
        in_flight = in_flight
            .min(stages - stage)
            .min(pipeline.most_in_flight(stage));
        let mut row = Row::new(pipeline, stage);
        for input in 0..count {
            while row.done.forward < count.min(input + in_flight) {
                row.push(Work::F);
            }
            row.push(Work::I);
            while row.done.pending() > put_off(stage) {
                row.push(Work::W);
            }
        }
        while row.done.pending() > 0 {
            row.push(Work::W);
        }
        row.order
    };
    (0..stages).map(row).collect()
}

struct Row<'a> {
    pipeline: &'a Pipeline,
    stage: usize,
    done: Done,
    order: Vec<Work>,
}

impl<'a> Row<'a> {
    fn new(pipeline: &'a Pipeline, stage: usize) -> Self {
        let (done, order) = Default::default();
        Self {
            pipeline,
            stage,
            done,
            order,
        }
    }

    /// After as many Ws as it takes to make room.
    fn push(&mut self, work: Work) {
        while self.done.pending() > 0 && !self.pipeline.allows(self.stage, self.done, work) {
            self.done.count(Work::W);
            self.order.push(Work::W);
        }
        self.done.count(work);
        self.order.push(work);
    }
}
