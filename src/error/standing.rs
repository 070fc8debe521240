//! Where one node stood.

use crate::ids::{NodeId, PassId};
use crate::schedule::Action;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// What a node did, as far as its list says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Doing {
    /// It was done with its list, or not asked for anything yet.
    BetweenPasses,
    /// It had begun a pass and not its list yet: it read data.
    Begins,
    /// It was at its action, and waited for nobody.
    Works,
    /// It waited for what another node had not sent.
    WaitsFor {
        /// The first such node.
        node: NodeId,
        /// How many others it waited for.
        more: usize,
    },
    /// It waited for what that node had sent: it was on its way.
    Receives {
        /// Who had sent it.
        from: NodeId,
    },
    /// It was in another pass than whoever tells this, whose list is not known there.
    InAnotherPass,
}

/// Where a node stood when waiting ended in vain, as far as the process knew that tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Standing {
    /// The node.
    pub node: NodeId,
    /// The rank of its process, where there are several.
    pub rank: Option<usize>,
    /// The pass that it had begun last.
    pub pass: Option<PassId>,
    /// The entry of its list that it had begun last, from 0; none between passes.
    pub entry: Option<usize>,
    /// The action there.
    pub action: Option<Action>,
    /// Its list around the action, with the action marked.
    pub row: String,
    /// What it did.
    pub doing: Doing,
    /// How long ago it began that.
    pub since: Duration,
    /// For how long nothing was heard of its process, if that is nearly the deadline.
    pub silent: Option<Duration>,
    /// Whether it, or its process, had ended.
    pub gone: bool,
}

impl Standing {
    /// Whether its process had ended or was silent: where it stood is what was known last.
    pub fn is_lost(&self) -> bool {
        self.gone || self.silent.is_some()
    }

    /// The node that it waited for, unless it is lost.
    pub fn waits_for(&self) -> Option<NodeId> {
        match self.doing {
            Doing::WaitsFor { node, .. } if !self.is_lost() => Some(node),
            _ => None,
        }
    }

    /// What it did, to be read after its name.
    pub(super) fn does(&self) -> String {
        if self.gone {
            return "is gone".into();
        }
        if self.silent.is_some() {
            return "is silent".into();
        }
        let action = self.action.map_or("something".into(), |a| a.to_string());
        match self.doing {
            Doing::BetweenPasses => "is between passes".into(),
            Doing::Begins => "reads data".into(),
            Doing::Works => format!("works on {action}"),
            Doing::WaitsFor { node, more: 0 } => format!("waits for node {node}"),
            Doing::WaitsFor { node, more } => format!("waits for node {node} and {more} more"),
            Doing::Receives { from } => format!("waits for what node {from} has sent"),
            Doing::InAnotherPass => match (self.pass, self.entry) {
                (Some(pass), Some(entry)) => format!("is at entry {entry} of pass {pass}"),
                _ => "is in another pass".into(),
            },
        }
    }

    /// For how long it did that.
    pub(super) fn duration(&self) -> Duration {
        self.silent.filter(|_| !self.gone).unwrap_or(self.since)
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} {}", self.node, self.does())?;
        match (self.gone, self.silent) {
            (true, _) => Ok(()),
            (_, Some(silent)) => {
                write!(f, " for {silent:.1?}: stopped, or its machine is lost")
            }
            _ if self.waits_for().is_some() => Ok(()),
            _ => write!(f, " for {:.1?}", self.since),
        }
    }
}
