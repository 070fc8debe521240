//! The check: proves a lowered schedule complete, ordered, paired, and never stuck, before a thread
//! starts.

use super::model::{self, Capacity};
use super::reader::Records;
use super::slots;
use super::stash::StashLimit;
use super::wiring::Wiring;
use super::{Action, Compute, Lane, Layout, Lowered, render_row};
use crate::ids::{MicroBatchCount, NodeId};
use std::fmt;
use std::fmt::Write;

/// The law that a schedule breaks.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// Nobody can go on.
    #[error("deadlock: {}", in_words(waiting))]
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
    /// A send that can find all slots of its lane taken.
    #[error("{needed} messages of this lane can be under way, and it has {slots} slots")]
    LaneFull {
        /// The most that can be under way.
        needed: u32,
        /// The lane's slots.
        slots: u32,
    },
    /// A pair that is something else, or not behind the pair before it.
    #[error("a pair begins here; it must be an F and the backward after it, in ascending order")]
    NotAPair,
    /// More kept than a node may keep.
    #[error("the node keeps {kept} micro-batches of its whole share and may keep {most}")]
    StashFull {
        /// The most that it keeps, in the whole of its list.
        kept: f64,
        /// The most it may keep.
        most: f64,
    },
}

/// The most nodes of a deadlock that a line names.
const MOST_NAMED: usize = 8;

fn in_words(waiting: &[(NodeId, Action)]) -> String {
    let named = waiting.iter().take(MOST_NAMED);
    let named = named.map(|(node, action)| format!("node {node} waits at {action}"));
    let mut words = named.collect::<Vec<_>>().join(", ");
    if waiting.len() > MOST_NAMED {
        let _ = write!(words, ", and {} more nodes", waiting.len() - MOST_NAMED);
    }
    words
}

/// A schedule that breaks a law: where, which, and the node's list around it with the action
/// marked.
#[derive(Clone, Debug, PartialEq)]
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
    /// A line for each node that is concerned, with where it stands marked.
    pub timeline: String,
}

/// The most nodes of a deadlock that are drawn.
const MOST_ROWS: usize = 64;

impl CheckError {
    pub(super) fn new(
        nodes: &[Vec<Action>],
        node: NodeId,
        index: usize,
        problem: Problem,
    ) -> Box<Self> {
        let row = nodes.get(node.index()).map_or(&[][..], Vec::as_slice);
        Self::in_row(row, node, index, problem)
    }

    /// An error of a definition, whose lists have only compute actions.
    pub(super) fn in_definition(
        row: &[Compute],
        node: NodeId,
        index: usize,
        problem: Problem,
    ) -> Box<Self> {
        let row: Vec<_> = row.iter().copied().map(Action::from).collect();
        Self::in_row(&row, node, index, problem)
    }

    fn in_row(row: &[Action], node: NodeId, index: usize, problem: Problem) -> Box<Self> {
        let around = render_row(row, index);
        let timeline = match around.is_empty() {
            true => String::new(),
            false => format!("node {node}: {around}\n"),
        };
        Box::new(Self {
            node,
            index,
            action: row.get(index).copied(),
            problem,
            row: around,
            timeline,
        })
    }

    /// Nobody can go on: where everyone stands.
    pub(super) fn deadlock(
        nodes: &[Vec<Action>],
        standing: &[(NodeId, usize, Action)],
    ) -> Box<Self> {
        let waiting = standing.iter().map(|(node, _, action)| (*node, *action));
        let problem = Problem::Deadlock {
            waiting: waiting.collect(),
        };
        let (node, index, _) = standing[0];
        let mut error = Self::new(nodes, node, index, problem);
        error.timeline.clear();
        for (node, index, _) in standing.iter().take(MOST_ROWS) {
            let row = render_row(&nodes[node.index()], *index);
            let _ = writeln!(error.timeline, "node {node}: {row}");
        }
        if standing.len() > MOST_ROWS {
            let more = standing.len() - MOST_ROWS;
            let _ = writeln!(error.timeline, "and {more} more nodes");
        }
        error
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
///   W, then exchange, step, in one order on all nodes;
/// - paired: every wait has exactly one post before it and one send, of the same identity;
/// - never stuck: in the engine's model, with the slots given by `slots_of` for each lane, which
///   are enough whatever the order in which nodes come to their actions. A lane without slots makes
///   its sender wait for the receiver, as the engine never does;
/// - bounded: no node keeps more than its `stash_limit`.
///
/// Its time grows with the number of actions.
///
/// # Errors
/// The first law that is broken, with node, index, action, and the list around it.
pub fn check(
    lowered: &Lowered,
    layout: &Layout,
    micro_batches: MicroBatchCount,
    stash_limit: Option<StashLimit>,
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
    let wiring = Wiring::new(layout, micro_batches);
    let slots: Vec<u32> = (0..wiring.lanes())
        .map(|lane| slots_of(wiring.lane(lane)))
        .collect();
    let mut records = Records::new(lowered, layout, &wiring, micro_batches, &slots, stash_limit);
    for node in layout.nodes().iter() {
        records.read(node)?;
    }
    records.all_received()?;
    // As the engine runs it: a send never waits, so its lane must have room whatever the order.
    let needs = slots::needs(&lowered.nodes, layout, &wiring)?;
    for (lane, needs) in needs.iter().enumerate() {
        let slots = slots[lane];
        if slots > 0 && needs.slots > slots {
            let (node, needs) = (wiring.ends(lane).0, *needs);
            let full = Problem::LaneFull {
                needed: needs.slots,
                slots,
            };
            return Err(CheckError::new(&lowered.nodes, node, needs.index, full));
        }
    }
    if slots.contains(&0) {
        let slots = Capacity::Slots(&slots);
        model::walk(&lowered.nodes, layout, &wiring, slots, |_| ())?;
    }
    Ok(())
}
