//! The check: proves a lowered schedule complete, ordered, paired, and never stuck, before a thread
//! starts.

use super::model::{self, Capacity};
use super::reader::Reader;
use super::{Action, Compute, Lane, Layout, Lowered, render_row};
use crate::ids::{MicroBatchCount, NodeId, StageId};
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
    /// Another number of lists than nodes.
    #[error("{found} lists for {nodes} nodes")]
    Lists {
        /// How many nodes.
        nodes: usize,
        /// How many lists.
        found: usize,
    },
    /// A sum of a parameter that this node does not share.
    #[error("no such shared parameter on this node")]
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

/// A schedule that breaks a law: where, which, and the node's list around it with the action
/// marked.
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
/// - complete: every stage does F, and when training I and W (or B), exactly once for every
///   micro-batch, on its node;
/// - ordered: F before I before W, W ascending, every tensor there when needed, sums after the last
///   W, then exchange, step;
/// - paired: every wait has exactly one post before it and one send, of the same identity;
/// - never stuck: in the engine's model, with the slots given by `slots_of` for each lane;
/// - bounded: no stage keeps more than `stash_limit` micro-batches.
///
/// Its time grows with the number of actions times the number of lanes between stages.
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
    let (nodes, found) = (layout.nodes().index(), lowered.nodes.len());
    if nodes != found {
        let node = NodeId::new(nodes.min(found) as u32);
        return Err(CheckError::new(
            &lowered.nodes,
            node,
            0,
            Problem::Lists { nodes, found },
        ));
    }
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
