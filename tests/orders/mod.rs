//! A task in plain numbers and what its orders take, by code of their own.
#![allow(missing_docs, unreachable_pub)]

use brigade::PlanError;
use brigade::ids::{MicroBatchCount, MicroBatchId, NodeCount, StageId};
use brigade::placement::Placement;
use brigade::schedule::{Compute, Costs, Schedule, ScheduleKind, Task, Times, Work};

/// A task in plain numbers.
#[derive(Clone, Debug)]
pub struct Given {
    pub stages: usize,
    pub micro_batches: usize,
    /// Of F, I and W.
    pub times: Vec<[f64; 3]>,
    pub link: f64,
    pub kept: Vec<[f64; 2]>,
    pub limits: Vec<f64>,
}

/// What an order takes: from the first start to the last end, and the longest that a node is at
/// work from its own start to its own end.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    pub makespan: f64,
    pub span: f64,
}

pub type Rows = Vec<Vec<Compute>>;

impl Given {
    pub fn equal(stages: usize, micro_batches: usize, times: [f64; 3], limit: f64) -> Self {
        Self {
            stages,
            micro_batches,
            times: vec![times; stages],
            link: 0.0,
            kept: vec![[1.0, 1.0]; stages],
            limits: vec![limit; stages],
        }
    }

    pub fn rows(&self, kind: ScheduleKind) -> Result<Rows, PlanError> {
        let part = |at: usize| self.times.iter().map(|times| times[at]).collect();
        let times = Times {
            forward: part(0),
            input: part(1),
            weight: part(2),
            ..Times::default()
        }
        .with_latency(self.link);
        let costs = Costs {
            times,
            kept: self.kept.clone(),
            limits: self.limits.clone(),
        };
        let placement = Placement::straight(NodeCount::new(self.stages as u32));
        let task = Task::new(placement, MicroBatchCount::new(self.micro_batches as u32));
        Ok(kind.define(&task.with_costs(costs))?.nodes)
    }

    /// `None` when it gets stuck. A full backward sends its gradient when all of it is over.
    pub fn play(&self, rows: &Rows) -> Option<Taken> {
        let nowhere = vec![vec![f64::NAN; self.micro_batches]; self.stages];
        let (mut forward, mut input, mut weight) = (nowhere.clone(), nowhere.clone(), nowhere);
        let (mut next, mut clock) = (vec![0; self.stages], vec![0.0f64; self.stages]);
        let mut start = vec![f64::NAN; self.stages];
        let mut left: usize = rows.iter().map(Vec::len).sum();
        while left > 0 {
            let before = left;
            for s in (0..self.stages).chain((0..self.stages).rev()) {
                while let Some(compute) = rows[s].get(next[s]) {
                    let (m, [f, i, w]) = (compute.micro_batch.index(), self.times[s]);
                    let ready = match compute.work {
                        Work::F if s == 0 => 0.0,
                        Work::F => forward[s - 1][m] + self.link,
                        Work::I | Work::B if s + 1 == self.stages => forward[s][m],
                        Work::I | Work::B => input[s + 1][m] + self.link,
                        Work::W => input[s][m],
                    };
                    let (times, over) = match compute.work {
                        Work::F => (f, &mut forward),
                        Work::I => (i, &mut input),
                        Work::B => (i + w, &mut input),
                        Work::W => (w, &mut weight),
                    };
                    if ready.is_nan() {
                        break;
                    }
                    let begin = clock[s].max(ready);
                    start[s] = start[s].min(begin);
                    clock[s] = begin + times;
                    over[s][m] = clock[s];
                    (next[s], left) = (next[s] + 1, left - 1);
                }
            }
            if left == before {
                return None;
            }
        }
        let spans = clock.iter().zip(&start).map(|(end, start)| end - start);
        Some(Taken {
            makespan: clock.iter().copied().fold(0.0, f64::max),
            span: spans.fold(0.0, f64::max),
        })
    }

    /// Nothing missing, nothing twice, every part in ascending order, no limit exceeded.
    pub fn assert_lawful(&self, rows: &Rows) {
        for (s, row) in rows.iter().enumerate() {
            let mut done = [0; 3];
            for compute in row {
                let at = [Work::F, Work::I, Work::W];
                let at = at.iter().position(|work| *work == compute.work).unwrap();
                assert_eq!(compute.stage, StageId::new(s as u32));
                assert_eq!(
                    compute.micro_batch.index(),
                    done[at],
                    "{self:?}: {compute:?}"
                );
                done[at] += 1;
                let [f, i, w] = done;
                assert!(f >= i && i >= w, "{self:?}: {compute:?} too early");
                let kept = (f - i) as f64 * self.kept[s][0] + (i - w) as f64 * self.kept[s][1];
                assert!(
                    kept <= self.limits[s] * (1.0 + 1e-12),
                    "{self:?}: {kept} on {s}"
                );
            }
            assert_eq!(done, [self.micro_batches; 3], "{self:?}");
        }
    }

    pub fn auto(&self) -> Taken {
        let rows = self.rows(ScheduleKind::ZbAuto).unwrap();
        self.assert_lawful(&rows);
        self.play(&rows).expect("never stuck")
    }

    /// What 1F1B takes, with as many micro-batches in flight as the limits allow.
    pub fn one_f_one_b(&self) -> Taken {
        let (mut in_flight, count) = (self.stages, self.micro_batches);
        let row = |s: usize| {
            let [before, after] = self.kept[s];
            let fits = |n: &usize| *n as f64 * before + (after - before).max(0.0) <= self.limits[s];
            in_flight = (1..=in_flight.min(self.stages - s))
                .rev()
                .find(fits)
                .unwrap();
            let (mut row, mut forward) = (Vec::new(), 0);
            for m in 0..count {
                let until = count.min(m + in_flight);
                row.extend((forward..until).map(|m| compute(s, Work::F, m)));
                row.push(compute(s, Work::B, m));
                forward = forward.max(until);
            }
            row
        };
        self.play(&(0..self.stages).map(row).collect()).unwrap()
    }

    /// All that can follow on a stage, by the order of its parts and its limit.
    fn all_rows(&self, s: usize, row: &mut Vec<Compute>, [f, i, w]: [usize; 3], all: &mut Rows) {
        let kept = (f - i) as f64 * self.kept[s][0] + (i - w) as f64 * self.kept[s][1];
        if kept > self.limits[s] {
            return;
        }
        if w == self.micro_batches {
            all.push(row.clone());
        }
        let nexts = [
            (f < self.micro_batches, Work::F, f, [f + 1, i, w]),
            (i < f, Work::I, i, [f, i + 1, w]),
            (w < i, Work::W, w, [f, i, w + 1]),
        ];
        for (can, work, m, done) in nexts {
            if can {
                row.push(compute(s, work, m));
                self.all_rows(s, row, done, all);
                row.pop();
            }
        }
    }

    /// The shortest makespan of all orders.
    pub fn best(&self) -> f64 {
        let all = (0..self.stages).map(|s| {
            let mut all = Vec::new();
            self.all_rows(s, &mut Vec::new(), [0; 3], &mut all);
            all
        });
        let all: Vec<Rows> = all.collect();
        let combinations: usize = all.iter().map(Vec::len).product();
        let play = |mut number: usize| {
            let pick = |rows: &Vec<Vec<Compute>>| {
                let row = rows[number % rows.len()].clone();
                number /= rows.len();
                row
            };
            self.play(&all.iter().map(pick).collect())
        };
        let taken = (0..combinations).filter_map(play);
        taken
            .map(|taken| taken.makespan)
            .fold(f64::INFINITY, f64::min)
    }
}

fn compute(s: usize, work: Work, m: usize) -> Compute {
    Compute::new(StageId::new(s as u32), work, MicroBatchId::new(m as u32))
}
