//! What is to be ordered, in numbers, and when an order of it is a good one.

use super::Work;

/// Of every stage, which parts of its work follow each other. Each part comes in ascending order of
/// micro-batches, so the letters say it all.
pub(super) type Order = Vec<Vec<Work>>;

/// Stages in a row, one on each node.
pub(super) struct Pipeline {
    pub(super) micro_batches: usize,
    /// Of F, I and W.
    pub(super) times: Vec<[f64; 3]>,
    /// From the end of F or I to where the next stage can take it.
    pub(super) link: f64,
    /// From F to I, and from I to W.
    pub(super) kept: Vec<[f64; 2]>,
    pub(super) limits: Vec<f64>,
}

/// What an order takes. The less the better.
#[derive(Clone, Copy, Debug)]
pub(super) struct Score {
    /// From the first start to the last end: how long a step takes.
    pub(super) makespan: f64,
    /// The longest that a node is at work, from its own start to its own end.
    pub(super) span: f64,
}

/// What counts first. The other one decides among equals.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Goal {
    Makespan,
    Span,
}

impl Score {
    /// Sums of the same times in another order differ by a rounding, hence the tolerance.
    pub(super) fn better_than(self, other: Self, goal: Goal) -> bool {
        let of = |score: Self| match goal {
            Goal::Makespan => [score.makespan, score.span],
            Goal::Span => [score.span, score.makespan],
        };
        let ([first, second], [other_first, other_second]) = (of(self), of(other));
        let close = 1e-9 * other.makespan;
        if (first - other_first).abs() > close {
            return first < other_first;
        }
        second < other_second - close
    }
}

/// Of one stage, what has been ordered so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Done {
    pub(super) forward: usize,
    pub(super) input: usize,
    pub(super) weight: usize,
}

impl Done {
    pub(super) fn count(&mut self, work: Work) {
        match work {
            Work::F => self.forward += 1,
            Work::I => self.input += 1,
            Work::W | Work::B => self.weight += 1,
        }
    }

    /// Parts in all.
    pub(super) fn all(self) -> usize {
        self.forward + self.input + self.weight
    }

    /// Micro-batches between F and I.
    pub(super) fn in_flight(self) -> usize {
        self.forward - self.input
    }

    /// Micro-batches between I and W.
    pub(super) fn pending(self) -> usize {
        self.input - self.weight
    }
}

impl Pipeline {
    pub(super) fn stages(&self) -> usize {
        self.times.len()
    }

    pub(super) fn time(&self, stage: usize, work: Work) -> f64 {
        let [forward, input, weight] = self.times[stage];
        match work {
            Work::F => forward,
            Work::I => input,
            Work::W | Work::B => weight,
        }
    }

    /// All the work of one micro-batch.
    pub(super) fn whole(&self, stage: usize) -> f64 {
        self.times[stage].iter().sum()
    }

    /// When a stage starts, whatever the order: the first F reaches it without a wait.
    pub(super) fn start(&self, stage: usize) -> f64 {
        let before = &self.times[..stage];
        before.iter().map(|[forward, ..]| forward + self.link).sum()
    }

    /// Whether the node may do this next: F comes before I before W, and what it keeps fits.
    pub(super) fn allows(&self, stage: usize, mut done: Done, next: Work) -> bool {
        done.count(next);
        let Done {
            forward,
            input,
            weight,
        } = done;
        let in_order = forward <= self.micro_batches && input <= forward && weight <= input;
        // The Is of what is in flight must fit too, once all the Ws are done.
        let fits = |in_flight: usize, pending: usize| {
            let [before, after] = self.kept[stage];
            in_flight as f64 * before + pending as f64 * after <= self.limits[stage]
        };
        in_order
            && (next == Work::W
                || fits(done.in_flight(), done.pending())
                    && (done.in_flight() == 0 || fits(done.in_flight() - 1, 1)))
    }

    /// Between F and I, at least one.
    pub(super) fn most_in_flight(&self, stage: usize) -> usize {
        let mut done = Done::default();
        while self.allows(stage, done, Work::F) {
            done.forward += 1;
        }
        done.forward
    }

    /// No order is better than this.
    pub(super) fn bound(&self) -> Score {
        let stages = 0..self.stages();
        let work = |stage| self.micro_batches as f64 * self.whole(stage);
        Score {
            makespan: stages
                .clone()
                .map(|s| self.start(s) + work(s))
                .fold(0.0, f64::max),
            span: stages.map(work).fold(0.0, f64::max),
        }
    }
}
