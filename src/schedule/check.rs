//! The check: proves a lowered schedule complete, ordered, paired, and never stuck, before a thread starts.

use super::model::{self, Capacity};
use super::{Action, Compute, Lane, Layout, Lowered, Work, lower::transfers, render_row};
use crate::ids::{MicroBatchCount, MicroBatchId, NodeId, StageId};
use std::collections::BTreeSet;
use std::fmt;

/// The law that a schedule breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// Nobody can go on.
    #[error("deadlock: {}", waiting.iter().map(|(node, action)| format!("node {node} waits at {action}")).collect::<Vec<_>>().join(", "))]
    Deadlock {
        /// Every node that has not finished, with the action it cannot do.
        waiting: Vec<(NodeId, Action)>,
    },
    /// A stage's action is in the list of a node that does not have the stage.
    #[error("this stage is on node {0}")]
    WrongNode(NodeId),
    /// A stage or micro-batch that does not exist.
    #[error("there is no such stage or micro-batch")]
    OutOfRange,
    /// Something is done twice.
    #[error("done before")]
    Twice,
    /// Something is never done.
    #[error("{0} is never done")]
    Missing(Action),
    /// Something is needed before it exists.
    #[error("needs {0} first")]
    TooEarly(Action),
    /// W out of ascending order: gradients would be summed in another order than on one node.
    #[error("weights must be done in ascending order; {0} comes first")]
    WeightsOutOfOrder(Compute),
    /// A message is sent twice.
    #[error("sent before")]
    SentTwice,
    /// A message that no lane of the network carries.
    #[error("no edge between stages carries this message")]
    UnknownMessage,
    /// A sum of a parameter that is not shared.
    #[error("no such shared parameter")]
    UnknownShared,
    /// A message is under way that nobody receives.
    #[error("nobody receives this")]
    NeverReceived,
    /// A receive is posted although all slots of its lane are taken.
    #[error("posted while all {0} slots of its lane are taken")]
    NoFreeSlot(u32),
    /// More micro-batches in flight than a stage may keep.
    #[error("stage {stage} keeps more than {limit} micro-batches")]
    StashFull {
        /// The stage.
        stage: StageId,
        /// The most it may keep.
        limit: usize,
    },
}

/// A schedule that breaks a law: where, which, and the node's list around it with the action marked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CheckError {
    /// The node.
    pub node: NodeId,
    /// The place in its list.
    pub index: usize,
    /// The action, unless the list ends before it.
    pub action: Option<Action>,
    /// What is wrong.
    pub problem: Problem,
    /// The list around the action.
    pub row: String,
}

impl CheckError {
    pub(super) fn new(
        nodes: &[Vec<Action>],
        node: NodeId,
        index: usize,
        problem: Problem,
    ) -> Box<Self> {
        let row = nodes.get(node.index()).map_or(&[][..], Vec::as_slice);
        Box::new(Self {
            node,
            index,
            action: row.get(index).copied(),
            problem,
            row: render_row(row, index),
        })
    }
}

impl fmt::Display for CheckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "schedule, node {}, entry {}", self.node, self.index)?;
        if let Some(action) = self.action {
            write!(f, " ({action})")?;
        }
        write!(f, ": {}", self.problem)?;
        if !self.row.is_empty() {
            write!(f, "; at {}", self.row)?;
        }
        Ok(())
    }
}

impl std::error::Error for CheckError {}

/// Proves a lowered schedule sound:
/// - complete: every stage does F, and when training I and W (or B), exactly once for every micro-batch, on its node;
/// - ordered: F before I before W, W ascending, every tensor there when needed, sums after the last W, then exchange, step;
/// - paired: every wait has exactly one post before it and one send, of the same identity;
/// - never stuck: in the engine's model, with the slots given by `slots_of` for each lane;
/// - bounded: no stage keeps more than `stash_limit` micro-batches.
///
/// Linear in the number of actions, up to a logarithm.
///
/// # Errors
/// The first law that is broken, with node, index, action, and the list around it.
pub fn check(
    lowered: &Lowered,
    layout: &Layout,
    micro_batches: MicroBatchCount,
    stash_limit: Option<usize>,
    slots_of: &dyn Fn(Lane) -> u32,
) -> Result<(), Box<CheckError>> {
    let trains = lowered
        .nodes
        .iter()
        .flatten()
        .any(|action| *action == Action::Step);
    for (node, row) in layout.nodes().iter().zip(&lowered.nodes) {
        Reader {
            nodes: &lowered.nodes,
            layout,
            micro_batches,
            stash_limit,
            node,
            trains,
            slots_of,
        }
        .read(row)?;
    }
    let mut sent = BTreeSet::new();
    let mut where_sent = Vec::new();
    model::walk(
        &lowered.nodes,
        layout,
        micro_batches,
        Capacity::Slots(slots_of),
        &mut |event| match event.action {
            Action::Send(t) => {
                sent.insert((t.lane, t.micro_batch));
                where_sent.push((event.node, event.index, (t.lane, t.micro_batch)));
            }
            Action::Wait(t) => {
                sent.remove(&(t.lane, t.micro_batch));
            }
            Action::Compute(_)
            | Action::Post(_)
            | Action::SumShared(_)
            | Action::Exchange
            | Action::Step => {}
        },
    )?;
    match where_sent
        .into_iter()
        .find(|(_, _, message)| sent.contains(message))
    {
        Some((node, index, _)) => Err(CheckError::new(
            &lowered.nodes,
            node,
            index,
            Problem::NeverReceived,
        )),
        None => Ok(()),
    }
}

/// Reads one node's list and holds the laws that need no other node.
struct Reader<'a> {
    nodes: &'a [Vec<Action>],
    layout: &'a Layout,
    micro_batches: MicroBatchCount,
    stash_limit: Option<usize>,
    node: NodeId,
    trains: bool,
    slots_of: &'a dyn Fn(Lane) -> u32,
}

/// What has happened so far on the node.
#[derive(Default)]
struct Seen {
    done: BTreeSet<(StageId, Work, MicroBatchId)>,
    waited: BTreeSet<(Lane, MicroBatchId)>,
    posted: BTreeSet<(Lane, MicroBatchId)>,
    sent: BTreeSet<(Lane, MicroBatchId)>,
    open_posts: std::collections::BTreeMap<Lane, u32>,
    next_weight: std::collections::BTreeMap<StageId, u32>,
    kept: std::collections::BTreeMap<StageId, usize>,
    sums: Vec<Action>,
}

impl Reader<'_> {
    fn read(&self, row: &[Action]) -> Result<(), Box<CheckError>> {
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
        if let Some(before) = before.map(|work| Compute::new(stage, work, micro_batch)) {
            if !seen.did(before) {
                return Err(Problem::TooEarly(before.into()));
            }
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

    /// Everything that comes from other stages: waited for when it crosses, computed before when it does not.
    fn has_inputs(&self, seen: &Seen, compute: Compute) -> Result<(), Problem> {
        let (waits, _) = transfers(compute, self.layout);
        for wait in waits {
            if !seen.waited.contains(&(wait.lane, compute.micro_batch)) {
                return Err(Problem::TooEarly(Action::Wait(wait)));
            }
        }
        let (direction, from_work) = match compute.work {
            Work::F => (super::Direction::Forward, Work::F),
            Work::I | Work::B => (super::Direction::Backward, Work::I),
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

    /// The list ends with the sums in order, the exchange, and when training the step.
    fn complete(&self, seen: &Seen) -> Result<(), Problem> {
        let held =
            |sum: &&super::SharedSum| self.trains && self.layout.members(sum).contains(&self.node);
        let sums = self
            .layout
            .shared
            .iter()
            .filter(held)
            .map(|sum| Action::SumShared(sum.shared));
        let wanted = sums
            .chain([Action::Exchange])
            .chain(self.trains.then_some(Action::Step));
        for (at, wanted) in wanted.enumerate() {
            match seen.sums.get(at) {
                Some(found) if *found == wanted => {}
                _ => return Err(Problem::Missing(wanted)),
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
