//! How long an action may take before its node counts as stuck: so many times what it is predicted
//! to take, by its arithmetic on a slow core, and by the longest of its kind so far.

use crate::ids::StageId;
use crate::schedule::{Action, Compute, Work};
use std::time::Duration;

/// So many times the prediction.
const PATIENCE: u32 = 20;
/// Floating-point operations a second that any core does.
const SLOW: f64 = 1e9;

/// What a node's actions are predicted to take.
#[derive(Debug, Default)]
pub(super) struct Allowance {
    kinds: Vec<(StageId, Work, Duration)>,
    /// Of everything that is not computed: sums, exchange, update.
    rest: Duration,
}

impl Allowance {
    /// The arithmetic of F and of B of a stage.
    pub(super) fn expect(&mut self, stage: StageId, forward_flops: u64, backward_flops: u64) {
        let seconds =
            |flops: u64| Duration::try_from_secs_f64(flops as f64 / SLOW).unwrap_or(Duration::MAX);
        self.kinds.push((stage, Work::F, seconds(forward_flops)));
        for work in [Work::I, Work::W, Work::B] {
            self.kinds.push((stage, work, seconds(backward_flops)));
        }
        self.rest = self.rest.saturating_add(seconds(backward_flops));
    }

    pub(super) fn of(&self, action: Action) -> Duration {
        let predicted = match action {
            Action::Compute(compute) => self.kind(compute).map_or(Duration::ZERO, |kind| kind.2),
            Action::Send(_) | Action::Post(_) | Action::Wait(_) => Duration::ZERO,
            Action::SumShared(_) | Action::Exchange | Action::Step => self.rest,
        };
        predicted.saturating_mul(PATIENCE)
    }

    pub(super) fn saw(&mut self, action: Action, took: Duration) {
        match action {
            Action::Compute(compute) => {
                let kinds = self.kinds.iter_mut();
                let kind = { kinds }.find(|kind| (kind.0, kind.1) == (compute.stage, compute.work));
                if let Some(kind) = kind {
                    kind.2 = kind.2.max(took);
                }
            }
            Action::Step => self.rest = self.rest.max(took),
            _ => {}
        }
    }

    fn kind(&self, compute: Compute) -> Option<&(StageId, Work, Duration)> {
        let kinds = self.kinds.iter();
        { kinds }.find(|kind| (kind.0, kind.1) == (compute.stage, compute.work))
    }
}
