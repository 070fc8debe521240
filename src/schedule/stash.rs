//! What a schedule keeps for its backward passes.

use super::{Action, Layout, Lowered, Work};

/// The most that a node may keep, in micro-batches of its whole share: a node with two stages keeps
/// half a micro-batch for each F.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StashLimit {
    /// The most.
    pub most: f64,
    /// The part of what an F keeps that its I frees; W frees the rest. 0: I frees nothing.
    pub freed_at_input: f64,
}

impl StashLimit {
    /// At most so many micro-batches, of which I frees nothing.
    pub fn micro_batches(most: f64) -> Self {
        let freed_at_input = 0.0;
        Self {
            most,
            freed_at_input,
        }
    }

    /// Whether so much is more, roundings aside.
    pub(crate) fn exceeded_by(&self, kept: f64) -> bool {
        kept > self.most + 1e-9
    }
}

/// What one node keeps, counted in whole numbers so that nothing drifts.
pub(super) struct Kept {
    stages: f64,
    freed_at_input: f64,
    whole: i64,
    without_inputs: i64,
}

impl Kept {
    pub(super) fn new(stages: usize, freed_at_input: f64) -> Self {
        Self {
            stages: stages.max(1) as f64,
            freed_at_input,
            whole: 0,
            without_inputs: 0,
        }
    }

    /// What is kept once this is done.
    pub(super) fn after(&mut self, work: Work) -> f64 {
        match work {
            Work::F => self.whole += 1,
            Work::I => {
                self.whole -= 1;
                self.without_inputs += 1;
            }
            Work::W => self.without_inputs -= 1,
            Work::B => self.whole -= 1,
        }
        let rest = 1.0 - self.freed_at_input;
        (self.whole as f64 + rest * self.without_inputs as f64) / self.stages
    }
}

/// The most micro-batches that each stage keeps at once: from its F to the end of its W.
pub fn stash_peaks(lowered: &Lowered, layout: &Layout) -> Vec<usize> {
    let mut peaks = vec![0usize; layout.placement.stages().index()];
    let mut kept = peaks.clone();
    for action in lowered.nodes.iter().flatten() {
        let Action::Compute(compute) = action else {
            continue;
        };
        let kept = &mut kept[compute.stage.index()];
        match compute.work {
            Work::F => *kept += 1,
            Work::W | Work::B => *kept = kept.saturating_sub(1),
            Work::I => {}
        }
        peaks[compute.stage.index()] = peaks[compute.stage.index()].max(*kept);
    }
    peaks
}

/// The most that each node keeps at once, in micro-batches of its whole share, where I frees this
/// part of what its F kept.
pub fn node_stash_peaks(lowered: &Lowered, layout: &Layout, freed_at_input: f64) -> Vec<f64> {
    let of = |(node, row): (_, &Vec<Action>)| {
        row_peak(row, layout.placement.stages_on(node).len(), freed_at_input)
    };
    let nodes = layout.nodes().iter();
    nodes.zip(&lowered.nodes).map(of).collect()
}

/// The most that a node of so many stages keeps.
pub(super) fn row_peak(row: &[Action], stages: usize, freed_at_input: f64) -> f64 {
    let mut kept = Kept::new(stages, freed_at_input);
    let after = |action: &Action| match action {
        Action::Compute(compute) => kept.after(compute.work),
        _ => 0.0,
    };
    row.iter().map(after).fold(0.0, f64::max)
}
