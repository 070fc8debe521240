//! One way to train, and what it would be like.

use crate::config::{Config, Recompute};
use crate::partition::Cuts;
use crate::plan::{NodeMemory, Plan};
use crate::schedule::{ScheduleKind, Totals};
use serde::Serialize;

/// So many stages are named one by one.
const FEW: usize = 16;

/// One way to train, with what it is predicted to take.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Candidate {
    /// In which order the nodes work.
    pub schedule: ScheduleKind,
    /// Stages a node.
    pub chunks: usize,
    /// Rows of a micro-batch.
    pub micro_batch_size: usize,
    /// What is computed again in the backward pass.
    pub recompute: Recompute,
    /// The first layers of all stages but the first.
    pub cuts: Vec<usize>,
    /// What the busiest node (or link) takes for one micro-batch, in seconds.
    pub bottleneck: f64,
    /// Whether no other cuts have a smaller bottleneck in these limits.
    pub proven: bool,
    /// A step, in seconds.
    pub step_time: f64,
    /// The share of a step in which the mean node computes nothing.
    pub bubble: f64,
    /// What the mean node computes in a step, in seconds.
    pub work: f64,
    /// What every node holds at most.
    pub peak_bytes: Vec<u64>,
    /// By how much the node that lacks most goes beyond its limit; 0 where all fit.
    pub lacking_bytes: u64,
}

impl Candidate {
    pub(super) fn of(
        (config, schedule): (&Config, ScheduleKind),
        plan: &Plan,
        totals: &Totals,
        (bottleneck, proven): (f64, bool),
    ) -> Self {
        let nodes = plan.layout.nodes().iter();
        let peaks: Vec<_> = plan.memory.iter().map(NodeMemory::peak_bytes).collect();
        let over = nodes.zip(&peaks).map(|(node, peak)| {
            let limit = config.limit_of(node).unwrap_or(u64::MAX);
            peak.saturating_sub(limit)
        });
        Self {
            schedule,
            chunks: plan.layout.placement.chunks().unwrap_or(1),
            micro_batch_size: config.micro_batch_size,
            recompute: config.recompute.clone(),
            cuts: plan.partition.cuts(),
            bottleneck,
            proven,
            step_time: totals.makespan,
            bubble: totals.bubble_makespan(),
            work: totals.busy.iter().sum::<f64>() / totals.busy.len().max(1) as f64,
            lacking_bytes: over.max().unwrap_or(0),
            peak_bytes: peaks,
        }
    }

    /// Whether every node may hold what it needs.
    pub fn fits(&self) -> bool {
        self.lacking_bytes == 0
    }

    /// Those that fit come first, the fastest first; then those that lack least.
    pub(super) fn order(&self) -> f64 {
        match self.lacking_bytes {
            0 => self.step_time,
            lacking => 1e30 * lacking as f64,
        }
    }

    pub(super) fn is_better_than(&self, other: &Self) -> bool {
        self.order() < other.order()
    }

    /// The settings that train this way.
    pub fn config(&self, base: &Config) -> Config {
        Config {
            schedule: self.schedule,
            chunks: Some(self.chunks),
            micro_batch_size: self.micro_batch_size,
            recompute: self.recompute.clone(),
            cuts: Cuts::Before(self.cuts.clone()),
            ..base.clone()
        }
    }

    /// Schedule, stages a node, micro-batch and recomputation in a few words.
    pub fn words(&self) -> String {
        let mut words = self.schedule.to_string();
        if self.chunks > 1 && self.schedule.takes_any_chunks() {
            words += &format!(" x{}", self.chunks);
        }
        words += &format!(", micro-batches of {}", self.micro_batch_size);
        match &self.recompute {
            Recompute::Never => words,
            other => format!("{words}, recompute {}", in_words(other)),
        }
    }

    /// Why it takes longer than `best`.
    pub fn loses_by(&self, best: &Self) -> String {
        let percent = |more: f64| format!("{:.1}%", 100.0 * more);
        let slower = self.step_time / best.step_time - 1.0;
        if slower < 5e-4 || slower.is_nan() {
            return "as fast".into();
        }
        let mut reasons = Vec::new();
        if self.work > best.work * 1.002 {
            let more = percent(self.work / best.work - 1.0);
            let why = match self.recompute {
                Recompute::Never => "",
                _ => " for recomputing",
            };
            reasons.push(format!("{more} more work{why}"));
        }
        if self.bubble > best.bubble + 0.002 {
            let (own, other) = (percent(self.bubble), percent(best.bubble));
            reasons.push(format!("idle for {own} instead of {other}"));
        }
        let slower = format!("{} longer", percent(slower));
        match reasons.is_empty() {
            true => slower,
            false => format!("{slower}: {}", reasons.join(", ")),
        }
    }
}

fn in_words(recompute: &Recompute) -> String {
    match recompute {
        Recompute::Never => "never".into(),
        Recompute::ExceptLast => "except-last".into(),
        Recompute::Always => "always".into(),
        Recompute::Stages(which) if which.iter().all(|chosen| *chosen) => "always".into(),
        Recompute::Stages(which) if which.len() > FEW => {
            let chosen = which.iter().filter(|chosen| **chosen).count();
            format!("{chosen} of {} stages", which.len())
        }
        Recompute::Stages(which) => {
            let chosen = which.iter().enumerate().filter(|(_, chosen)| **chosen);
            let chosen: Vec<_> = chosen.map(|(stage, _)| stage.to_string()).collect();
            format!("stages {}", chosen.join(" "))
        }
        Recompute::Layers(ranges) => {
            let ranges = ranges
                .iter()
                .map(|range| format!("{}-{}", range.start, range.end - 1));
            format!("layers {}", ranges.collect::<Vec<_>>().join(" "))
        }
    }
}
