//! What a schedule keeps for its backward passes.

use super::{Action, Layout, Lowered, Work};

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
