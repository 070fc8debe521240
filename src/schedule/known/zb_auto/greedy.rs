//! One order by rules of thumb: every node does what the rules prefer of what it can do now.

use super::Work;
use super::pipeline::{Done, Order, Pipeline};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What a node prefers.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    /// The most micro-batches that a stage may have between F and I.
    pub(super) in_flight: Vec<usize>,
    /// The most Ws that a stage may put off while it has an F to do.
    pub(super) put_off: Vec<usize>,
    /// By which part of its time an F may delay the first I, an F any other, and a W anything.
    pub(super) delay: [f64; 3],
}

/// Orders by the rules. Never gets stuck, and keeps the limits: an F that a full node cannot keep
/// waits for a W or an I.
pub(super) fn greedy(pipeline: &Pipeline, rules: &Rules) -> Order {
    let mut nodes = Nodes::new(pipeline, rules);
    nodes.wake(0.0, 0);
    while let Some(Reverse((now, stage))) = nodes.events.pop() {
        let now = f64::from_bits(now);
        if now >= nodes.free[stage]
            && let Some(work) = nodes.choose(stage, now)
        {
            nodes.start(stage, now, work);
        }
    }
    nodes.order
}

struct Nodes<'a> {
    pipeline: &'a Pipeline,
    rules: &'a Rules,
    order: Order,
    done: Vec<Done>,
    /// When a node is done with what it does.
    free: Vec<f64>,
    /// When what F and I of a stage and micro-batch need is there.
    forward: Vec<f64>,
    input: Vec<f64>,
    /// Nodes that have waited for something that was not even on its way.
    waited: Vec<bool>,
    /// Times are not negative, so their bits sort as they do.
    events: BinaryHeap<Reverse<(u64, usize)>>,
}

impl<'a> Nodes<'a> {
    fn new(pipeline: &'a Pipeline, rules: &'a Rules) -> Self {
        let (stages, count) = (pipeline.stages(), pipeline.micro_batches);
        let mut forward = vec![f64::INFINITY; stages * count];
        forward[..count].fill(0.0);
        Self {
            pipeline,
            rules,
            order: vec![Vec::with_capacity(3 * count); stages],
            done: vec![Done::default(); stages],
            free: vec![0.0; stages],
            forward,
            input: vec![f64::INFINITY; stages * count],
            waited: vec![false; stages],
            events: BinaryHeap::new(),
        }
    }

    fn wake(&mut self, at: f64, stage: usize) {
        self.events.push(Reverse((at.to_bits(), stage)));
    }

    fn start(&mut self, stage: usize, now: f64, work: Work) {
        let (count, last) = (self.pipeline.micro_batches, self.done.len() - 1);
        let end = now + self.pipeline.time(stage, work);
        let (there, done) = (end + self.pipeline.link, self.done[stage]);
        match work {
            Work::F if stage == last => self.input[stage * count + done.forward] = end,
            Work::F => {
                self.forward[(stage + 1) * count + done.forward] = there;
                self.wake(there, stage + 1);
            }
            Work::I if stage > 0 => {
                self.input[(stage - 1) * count + done.input] = there;
                self.wake(there, stage - 1);
            }
            _ => {}
        }
        self.done[stage].count(work);
        self.order[stage].push(work);
        self.free[stage] = end;
        self.waited[stage] = false;
        self.wake(end, stage);
    }

    fn choose(&mut self, stage: usize, now: f64) -> Option<Work> {
        let done = self.done[stage];
        let (forward, input) = self.come(stage);
        if input <= now {
            let fits = self.pipeline.allows(stage, done, Work::I);
            return Some(if fits { Work::I } else { Work::W });
        }
        if forward <= now
            && let Some(work) = self.run_ahead(stage, now, input)
        {
            return Some(work);
        }
        let known = if forward <= now {
            input
        } else {
            input.min(forward)
        };
        (done.pending() > 0).then(|| self.fill(stage, now, known))?
    }

    /// When what the next F and I need is there, of those that there may be; never, if nobody has
    /// begun it.
    fn come(&self, stage: usize) -> (f64, f64) {
        let (done, count) = (self.done[stage], self.pipeline.micro_batches);
        let open = done.forward < count && done.in_flight() < self.rules.in_flight[stage];
        let at = |may, list: &[f64], micro_batch| match may {
            true => list[stage * count + micro_batch],
            false => f64::INFINITY,
        };
        (
            at(open, &self.forward, done.forward),
            at(done.in_flight() > 0, &self.input, done.input),
        )
    }

    /// With an F, or the W that it needs done before, unless an I comes soon.
    fn run_ahead(&self, stage: usize, now: f64, input: f64) -> Option<Work> {
        let done = self.done[stage];
        let fits = self.pipeline.allows(stage, done, Work::F);
        let put_off = done.pending() <= self.rules.put_off[stage];
        if done.pending() > 0 && !(fits && put_off) {
            return Some(Work::W);
        }
        let [first, later, _] = self.rules.delay;
        let delay = if done.input == 0 { first } else { later };
        let needs = now + self.pipeline.time(stage, Work::F) * (1.0 - delay);
        (fits && needs <= input).then_some(Work::F)
    }

    /// A wait until something comes that is on its way, or else could be soon: with a W or without.
    fn fill(&mut self, stage: usize, now: f64, known: f64) -> Option<Work> {
        let [.., delay] = self.rules.delay;
        let needs = now + self.pipeline.time(stage, Work::W) * (1.0 - delay);
        if known.is_finite() {
            return (needs <= known).then_some(Work::W);
        }
        let soon = self.soon(stage, now);
        if needs <= soon || self.waited[stage] || soon <= now {
            return Some(Work::W);
        }
        self.waited[stage] = true;
        self.wake(soon, stage);
        None
    }

    /// The earliest that an I could come that nobody has begun.
    fn soon(&self, stage: usize, now: f64) -> f64 {
        if stage + 1 == self.done.len() || self.done[stage].in_flight() == 0 {
            return f64::INFINITY;
        }
        let next = self.free[stage + 1].max(now);
        next + self.pipeline.time(stage + 1, Work::I) + self.pipeline.link
    }
}
