//! How nodes talk: everything that passes between them goes through a [`Link`], also within one
//! process.
//!
//! ```text
//!  node 0 ── send(to, id, body) ──►│ bounded queue │──► post(id) … wait(id) ── node 1
//!            never waits            what came early is kept by its identity
//! ```
//!
//! Messages are matched by identity, never by the order in which they arrive.

use crate::error::{Cause, RunError, Standings};
use crate::ids::{LayerIndex, MicroBatchId, NodeId, PassId, ReplicaId, SharedId};
use crate::plan::Walk;
use crate::schedule::Lane;
use brigade_layer::Tensor;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

mod codec;
mod control;
mod fault;
pub(crate) mod halves;
mod hub;
mod local;
#[cfg(feature = "mpi")]
mod mpi;
#[cfg(not(feature = "mpi"))]
#[path = "no_mpi.rs"]
mod mpi;
pub(crate) mod outside;
mod standing;

pub(crate) use codec::{from_bytes, pack, to_bytes, unpack};
pub use fault::Fault;
pub(crate) use fault::FaultyLink;
pub(crate) use hub::Hub;
pub(crate) use local::local_links;
pub(crate) use mpi::{Session, World, world};

/// What a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Subject {
    /// An activation or a gradient of one micro-batch on a lane between stages.
    Lane(Lane, MicroBatchId),
    /// One holder's gradient of a shared parameter, on its way to be summed.
    SharedPart(SharedId, LayerIndex),
    /// The sum of a shared parameter's gradients, for one node.
    SharedTotal(SharedId),
    /// A node's few scalars at the end of a pass.
    Scalars(NodeId),
    /// The verdict on a pass.
    Verdict,
}

/// The identity of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct MessageId {
    pub(crate) replica: ReplicaId,
    pub(crate) pass: PassId,
    pub(crate) subject: Subject,
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.subject {
            Subject::Lane(lane, micro_batch) => {
                write!(
                    f,
                    "{:?} of edge {}, micro-batch {micro_batch}",
                    lane.direction, lane.edge
                )?;
            }
            Subject::SharedPart(shared, layer) => {
                write!(f, "layer {layer}'s gradient of shared parameter {shared}")?;
            }
            Subject::SharedTotal(shared) => write!(f, "sum of shared parameter {shared}")?,
            Subject::Scalars(node) => write!(f, "scalars of node {node}")?,
            Subject::Verdict => f.write_str("verdict")?,
        }
        write!(f, " (pass {})", self.pass)
    }
}

/// What a message carries.
#[derive(Debug)]
pub(crate) enum Body {
    Tensor(Tensor),
    Scalars(Vec<f64>),
}

impl Body {
    /// Bytes of what it carries, without its header.
    pub(crate) fn payload_bytes(&self) -> u64 {
        match self {
            Self::Tensor(tensor) => tensor.bytes(),
            Self::Scalars(scalars) => 8 * scalars.len() as u64,
        }
    }

    pub(crate) fn tensor(self) -> Result<Tensor, Cause> {
        match self {
            Self::Tensor(tensor) => Ok(tensor),
            Self::Scalars(_) => Err(Cause::Bug(
                "scalars came where a tensor was expected".into(),
            )),
        }
    }

    pub(crate) fn scalars(self) -> Result<Vec<f64>, Cause> {
        match self {
            Self::Scalars(scalars) => Ok(scalars),
            Self::Tensor(_) => Err(Cause::Bug(
                "a tensor came where scalars were expected".into(),
            )),
        }
    }
}

/// How long processes wait for each other outside of passes.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(feature = "mpi"), allow(dead_code))]
pub(crate) struct Patience {
    /// Without a sign of life.
    pub(crate) silent: Duration,
    /// For one that lives, and is busy with something else.
    pub(crate) busy: Duration,
}

impl Patience {
    /// Between passes others may be busy for ten deadlines.
    pub(crate) fn within(deadline: Duration) -> Self {
        // Processes hear of each other every second.
        let silent = deadline.max(Duration::from_secs(3));
        let busy = silent.saturating_mul(10);
        Self { silent, busy }
    }
}

/// Whoever looks around all the time and has not for so long was stopped itself, with the clock
/// going on: nobody else was silent meanwhile.
pub(crate) const AWAY: Duration = Duration::from_secs(1);

/// Why a process cannot meet the others.
#[derive(Clone, Debug)]
pub(crate) struct NoMeeting {
    pub(crate) problem: String,
    /// Whether every process finds the same, so that one is enough to say it.
    #[cfg_attr(not(feature = "cli"), allow(dead_code))]
    pub(crate) everywhere: bool,
}

/// Where a process runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// Its name.
    pub(crate) host: String,
    /// The numbers of the cores that the process may use.
    pub(crate) cores: Vec<usize>,
}

/// What a process has of a trainer: its part in the job, and the links of its nodes.
pub(crate) type Joined = (Arc<Session>, Vec<Box<dyn Link>>);

/// One node's end of the connections to all others. A node that is done or fails drops it, and the
/// others notice.
pub(crate) trait Link: Send {
    /// A pass through these lists begins.
    fn begin(&mut self, pass: PassId, walk: &Arc<Walk>) -> Result<(), Cause>;

    /// Hands a message over. Never waits: a full queue is a bug.
    fn send(&mut self, to: NodeId, id: MessageId, body: Body) -> Result<(), Cause>;

    /// Gets ready to receive a message.
    fn post(&mut self, from: NodeId, id: MessageId) -> Result<(), Cause>;

    /// Waits for a message. What arrives belongs to this node from then on.
    fn wait(&mut self, from: NodeId, id: MessageId) -> Result<Body, Cause>;

    /// Says that this node has begun the entry `index` of its list, which may take so long.
    fn progress(&mut self, index: usize, begun: Instant, allowed: Duration);

    /// Says that this node is done with its list.
    fn rest(&mut self);

    /// Tells every other node why this one fails, ahead of hanging up.
    fn tell_failure(&mut self, error: &RunError);

    /// Where all nodes stand, as far as it is known here.
    fn standings(&self) -> Standings;

    /// Payload bytes sent so far.
    fn sent_bytes(&self) -> u64;
}
