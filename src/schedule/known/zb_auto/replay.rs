//! What an order takes, in one pass.

use super::Work;
use super::pipeline::{Done, Order, Pipeline, Score};

/// Replays orders. Keeps its tables, for thousands of them.
pub(super) struct Replay<'a> {
    pipeline: &'a Pipeline,
    starts: Vec<f64>,
    /// When F and I of every stage and micro-batch are over.
    forward: Vec<f64>,
    input: Vec<f64>,
    clock: Vec<f64>,
    done: Vec<Done>,
}

impl<'a> Replay<'a> {
    pub(super) fn new(pipeline: &'a Pipeline) -> Self {
        let stages = pipeline.stages();
        let all = stages * pipeline.micro_batches;
        Self {
            pipeline,
            starts: (0..stages).map(|stage| pipeline.start(stage)).collect(),
            forward: vec![0.0; all],
            input: vec![0.0; all],
            clock: vec![0.0; stages],
            done: vec![Done::default(); stages],
        }
    }

    /// `None` when it gets stuck or something is missing.
    pub(super) fn score(&mut self, order: &Order) -> Option<Score> {
        self.clock.fill(0.0);
        self.done.fill(Done::default());
        // Down with the Fs and back up with the Is: each sweep takes a micro-batch further.
        let mut moved = true;
        while moved {
            moved = false;
            for stage in (0..order.len()).chain((0..order.len()).rev()) {
                while let Some(&work) = order[stage].get(self.done[stage].all())
                    && self.advance(stage, work)
                {
                    moved = true;
                }
            }
        }
        let over = (self.done.iter()).all(|done| done.weight == self.pipeline.micro_batches);
        let spans = (self.clock.iter().zip(&self.starts)).map(|(end, start)| end - start);
        over.then(|| Score {
            makespan: self.clock.iter().copied().fold(0.0, f64::max),
            span: spans.fold(0.0, f64::max),
        })
    }

    fn advance(&mut self, stage: usize, work: Work) -> bool {
        let count = self.pipeline.micro_batches;
        let (done, now, link) = (self.done[stage], self.clock[stage], self.pipeline.link);
        let start = match work {
            Work::F if stage == 0 => now,
            Work::F if self.done[stage - 1].forward <= done.forward => return false,
            Work::F => now.max(self.forward[(stage - 1) * count + done.forward] + link),
            Work::I if stage + 1 == self.done.len() => now,
            Work::I if self.done[stage + 1].input <= done.input => return false,
            Work::I => now.max(self.input[(stage + 1) * count + done.input] + link),
            Work::W | Work::B => now,
        };
        let end = start + self.pipeline.time(stage, work);
        match work {
            Work::F => self.forward[stage * count + done.forward] = end,
            Work::I => self.input[stage * count + done.input] = end,
            Work::W | Work::B => {}
        }
        self.clock[stage] = end;
        self.done[stage].count(work);
        true
    }
}
