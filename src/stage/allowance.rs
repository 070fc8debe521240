//! How long an action may take before its node counts as stuck: so many times what it is predicted
//! to take. Computing is predicted by its arithmetic on a slow core until it was measured, messages
//! and updates by their bytes.

use crate::ids::StageId;
use crate::schedule::{Action, Compute, Work};
use std::time::Duration;

/// So many times the prediction.
const PATIENCE: u32 = 20;
/// Floating-point operations a second that any core does.
const SLOW: f64 = 1e9;
/// Bytes a second that any link and any memory takes.
const NARROW: f64 = 1e8;

/// What a node's actions are predicted to take.
#[derive(Debug, Default)]
pub(super) struct Allowance {
    kinds: Vec<Kind>,
    /// Of a message of every edge.
    messages: Vec<Duration>,
    /// Of going through all parameters once.
    params: Duration,
}

#[derive(Debug)]
struct Kind {
    stage: StageId,
    work: Work,
    predicted: Duration,
    measured: bool,
}

impl Allowance {
    /// Messages of every edge, and the parameters of all stages, in bytes.
    pub(super) fn new(message_bytes: impl Iterator<Item = u64>, param_bytes: u64) -> Self {
        let narrow = |bytes: u64| seconds(bytes as f64 / NARROW);
        Self {
            kinds: Vec::new(),
            messages: message_bytes.map(narrow).collect(),
            params: narrow(param_bytes),
        }
    }

    /// The arithmetic of F and of B of a stage.
    pub(super) fn expect(&mut self, stage: StageId, forward_flops: u64, backward_flops: u64) {
        for work in [Work::F, Work::I, Work::W, Work::B] {
            let flops = match work {
                Work::F => forward_flops,
                Work::I | Work::W | Work::B => backward_flops,
            };
            self.kinds.push(Kind {
                stage,
                work,
                predicted: seconds(flops as f64 / SLOW),
                measured: false,
            });
        }
    }

    pub(super) fn of(&self, action: Action) -> Duration {
        let predicted = match action {
            Action::Compute(compute) => {
                let mut kinds = self.kinds.iter();
                let kind = kinds.find(|kind| kind.is_of(compute));
                kind.map_or(Duration::ZERO, |kind| kind.predicted)
            }
            Action::Wait(transfer) => {
                let message = self.messages.get(transfer.lane.edge.index()).copied();
                message.unwrap_or_default()
            }
            Action::SumShared(_) | Action::Step => self.params,
            Action::Send(_) | Action::Post(_) | Action::Exchange => Duration::ZERO,
        };
        predicted.saturating_mul(PATIENCE)
    }

    /// What an action took is predicted for the next one like it; its arithmetic still counts until
    /// a whole micro-batch was computed with.
    pub(super) fn saw(&mut self, action: Action, took: Duration, whole: bool) {
        match action {
            Action::Compute(compute) => {
                let mut kinds = self.kinds.iter_mut();
                if let Some(kind) = kinds.find(|kind| kind.is_of(compute)) {
                    if whole && !kind.measured {
                        (kind.predicted, kind.measured) = (Duration::ZERO, true);
                    }
                    kind.predicted = kind.predicted.max(took);
                }
            }
            Action::Step => self.params = self.params.max(took),
            _ => {}
        }
    }
}

impl Kind {
    fn is_of(&self, compute: Compute) -> bool {
        (self.stage, self.work) == (compute.stage, compute.work)
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::MicroBatchId;

    #[test]
    fn twenty_times_what_is_predicted_and_then_what_was_measured() {
        let stage = StageId::new(0);
        let mut allowance = Allowance::new([500_000_000].into_iter(), 100_000_000);
        allowance.expect(stage, 1_000_000_000, 2_000_000_000);
        let of = |work| Action::Compute(Compute::new(stage, work, MicroBatchId::new(0)));
        let seconds = |allowance: &Allowance, action| allowance.of(action).as_secs_f64();
        assert_eq!(seconds(&allowance, of(Work::F)), 20.0);
        assert_eq!(seconds(&allowance, of(Work::B)), 40.0);
        assert_eq!(seconds(&allowance, Action::Step), 20.0);
        // Waiting for others is no work of one's own.
        assert_eq!(seconds(&allowance, Action::Exchange), 0.0);
        allowance.saw(of(Work::F), Duration::from_millis(10), false);
        assert_eq!(seconds(&allowance, of(Work::F)), 20.0);
        allowance.saw(of(Work::F), Duration::from_millis(100), true);
        assert_eq!(seconds(&allowance, of(Work::F)), 2.0);
        allowance.saw(of(Work::F), Duration::from_millis(50), true);
        assert_eq!(seconds(&allowance, of(Work::F)), 2.0);
        assert_eq!(seconds(&allowance, of(Work::W)), 40.0);
    }
}
