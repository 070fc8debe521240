//! The part of the check that reads one node's list by itself.

use super::lower::transfers;
use super::{Action, CheckError, Compute, Direction, Lane, Layout, Problem, SharedSum, Work};
use crate::ids::{MicroBatchCount, MicroBatchId, NodeId, StageId};
use std::collections::{BTreeMap, BTreeSet};

/// Reads one node's list and holds the laws that need no other node.
pub(super) struct Reader<'a> {
    pub(super) nodes: &'a [Vec<Action>],
    pub(super) layout: &'a Layout,
    pub(super) micro_batches: MicroBatchCount,
    pub(super) stash_limit: Option<usize>,
    pub(super) node: NodeId,
    pub(super) trains: bool,
    pub(super) slots_of: &'a dyn Fn(Lane) -> u32,
}

/// What has happened so far on the node.
#[derive(Default)]
struct Seen {
    done: BTreeSet<(StageId, Work, MicroBatchId)>,
    waited: BTreeSet<(Lane, MicroBatchId)>,
    posted: BTreeSet<(Lane, MicroBatchId)>,
    sent: BTreeSet<(Lane, MicroBatchId)>,
    open_posts: BTreeMap<Lane, u32>,
    next_weight: BTreeMap<StageId, u32>,
    kept: BTreeMap<StageId, usize>,
    sums: Vec<Action>,
}

impl Reader<'_> {
    pub(super) fn read(&self, row: &[Action]) -> Result<(), Box<CheckError>> {
        let mut seen = Seen::default();
        for (index, action) in row.iter().enumerate() {
            self.action(&mut seen, action)
                .map_err(|problem| self.error(index, problem))?;
        }
        self.complete(&seen)
            .map_err(|problem| self.error(row.len(), problem))
    }

    fn error(&self, index: usize, problem: Problem) -> Box<CheckError> {
        CheckError::new(self.nodes, self.node, index, problem)
    }

    fn action(&self, seen: &mut Seen, action: &Action) -> Result<(), Problem> {
        if let Some(stage) = action.stage() {
            let known = stage < StageId::new(self.layout.placement.stages().get());
            let inside = action
                .micro_batch()
                .is_none_or(|m| m.index() < self.micro_batches.index());
            if !known || !inside {
                return Err(Problem::OutOfRange);
            }
            let owner = self.layout.placement.node_of(stage);
            if owner != self.node {
                return Err(Problem::WrongNode(owner));
            }
        }
        if let (Some(last), true) = (seen.sums.last(), action.stage().is_some()) {
            return Err(Problem::TooEarly(*last));
        }
        match *action {
            Action::Compute(compute) => self.compute(seen, compute),
            Action::Post(t) => {
                let slots = (self.slots_of)(t.lane);
                let open = seen.open_posts.entry(t.lane).or_default();
                *open += 1;
                match seen.posted.insert((t.lane, t.micro_batch)) {
                    false => Err(Problem::Twice),
                    true if slots > 0 && *open > slots => Err(Problem::NoFreeSlot(slots)),
                    true => Ok(()),
                }
            }
            Action::Wait(t) => {
                if !seen.posted.contains(&(t.lane, t.micro_batch)) {
                    return Err(Problem::TooEarly(Action::Post(t)));
                }
                if let Some(open) = seen.open_posts.get_mut(&t.lane) {
                    *open = open.saturating_sub(1);
                }
                seen.waited
                    .insert((t.lane, t.micro_batch))
                    .then_some(())
                    .ok_or(Problem::Twice)
            }
            Action::Send(t) => {
                let made = |compute: Compute| {
                    let (_, mut sends) = transfers(compute, self.layout);
                    sends.any(|send| send == t)
                };
                let maker = [Work::F, Work::I, Work::B]
                    .map(|work| Compute::new(t.stage, work, t.micro_batch))
                    .into_iter()
                    .find(|compute| made(*compute));
                let maker = maker.ok_or(Problem::UnknownMessage)?;
                if !seen.did(maker) {
                    return Err(Problem::TooEarly(maker.into()));
                }
                seen.sent
                    .insert((t.lane, t.micro_batch))
                    .then_some(())
                    .ok_or(Problem::Twice)
            }
            Action::SumShared(_) | Action::Exchange | Action::Step => {
                if seen.sums.is_empty() {
                    self.all_computed(seen)?;
                }
                if seen.sums.contains(action) {
                    return Err(Problem::Twice);
                }
                seen.sums.push(*action);
                Ok(())
            }
        }
    }

    fn compute(&self, seen: &mut Seen, compute: Compute) -> Result<(), Problem> {
        let Compute {
            stage,
            work,
            micro_batch,
        } = compute;
        if seen.did(compute) {
            return Err(Problem::Twice);
        }
        let before = match work {
            Work::F => None,
            Work::I | Work::B => Some(Work::F),
            Work::W => Some(Work::I),
        };
        let before = before.map(|work| Compute::new(stage, work, micro_batch));
        if let Some(before) = before.filter(|before| !seen.did(*before)) {
            return Err(Problem::TooEarly(before.into()));
        }
        self.has_inputs(seen, compute)?;
        if matches!(work, Work::W | Work::B) {
            let next = seen.next_weight.entry(stage).or_default();
            if *next != micro_batch.get() {
                let first = Compute::new(stage, Work::W, MicroBatchId::new(*next));
                return Err(Problem::WeightsOutOfOrder(first));
            }
            *next += 1;
        }
        let kept = seen.kept.entry(stage).or_default();
        match work {
            Work::F if self.trains => *kept += 1,
            Work::W | Work::B => *kept = kept.saturating_sub(1),
            Work::F | Work::I => {}
        }
        if let Some(limit) = self.stash_limit.filter(|limit| *kept > *limit) {
            return Err(Problem::StashFull { stage, limit });
        }
        if work == Work::B {
            seen.done.insert((stage, Work::I, micro_batch));
            seen.done.insert((stage, Work::W, micro_batch));
        } else {
            seen.done.insert((stage, work, micro_batch));
        }
        Ok(())
    }

    /// Everything that comes from other stages: waited for when it crosses, computed before when it
    /// does not.
    fn has_inputs(&self, seen: &Seen, compute: Compute) -> Result<(), Problem> {
        let (waits, _) = transfers(compute, self.layout);
        for wait in waits {
            if !seen.waited.contains(&(wait.lane, compute.micro_batch)) {
                return Err(Problem::TooEarly(Action::Wait(wait)));
            }
        }
        let (direction, from_work) = match compute.work {
            Work::F => (Direction::Forward, Work::F),
            Work::I | Work::B => (Direction::Backward, Work::I),
            Work::W => return Ok(()),
        };
        let local = self
            .layout
            .into(compute.stage, direction)
            .filter(|route| !self.layout.crosses(route));
        for route in local {
            let from = Compute::new(route.from, from_work, compute.micro_batch);
            if !seen.did(from) {
                return Err(Problem::TooEarly(from.into()));
            }
        }
        Ok(())
    }

    fn all_computed(&self, seen: &Seen) -> Result<(), Problem> {
        let works: &[Work] = if self.trains {
            &[Work::F, Work::I, Work::W]
        } else {
            &[Work::F]
        };
        for stage in self.layout.placement.stages_on(self.node) {
            for micro_batch in self.micro_batches.iter() {
                for work in works {
                    let compute = Compute::new(stage, *work, micro_batch);
                    if !seen.did(compute) {
                        return Err(Problem::Missing(compute.into()));
                    }
                }
            }
        }
        for &(lane, micro_batch) in &seen.posted {
            if !seen.waited.contains(&(lane, micro_batch)) {
                return Err(Problem::NeverReceived);
            }
        }
        Ok(())
    }

    /// The list ends with exactly the sums in order, the exchange, and when training the step.
    fn complete(&self, seen: &Seen) -> Result<(), Problem> {
        let held = |sum: &&SharedSum| self.trains && self.layout.members(sum).contains(&self.node);
        let sums = self.layout.shared.iter().filter(held);
        let sums = sums.map(|sum| Action::SumShared(sum.shared));
        let wanted: Vec<_> = sums
            .chain([Action::Exchange])
            .chain(self.trains.then_some(Action::Step))
            .collect();
        for at in 0..wanted.len().max(seen.sums.len()) {
            match (wanted.get(at), seen.sums.get(at)) {
                (Some(wanted), Some(found)) if wanted == found => {}
                (Some(wanted), _) => return Err(Problem::Missing(*wanted)),
                (None, _) => return Err(Problem::UnknownShared),
            }
        }
        Ok(())
    }
}

impl Seen {
    fn did(&self, compute: Compute) -> bool {
        let work = if compute.work == Work::B {
            Work::W
        } else {
            compute.work
        };
        self.done
            .contains(&(compute.stage, work, compute.micro_batch))
    }
}
