//! What went wrong while running, and where.

use super::{Cause, Standings};
use crate::ids::{MicroBatchId, NodeId, PassId, StageId, StepId};
use crate::schedule::Action;
use std::fmt;
use std::sync::Arc;

/// What went wrong while running: where, when, and what.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RunError {
    /// The rank of its process, where there are several.
    pub rank: Option<usize>,
    /// The node it happened on.
    pub node: NodeId,
    /// The step; 0 when evaluating or predicting.
    pub step: StepId,
    /// The walk through the lists.
    pub pass: PassId,
    /// The action, if one was under way.
    pub action: Option<Action>,
    /// The node's list around the action, with the action marked.
    pub row: String,
    /// What went wrong.
    pub cause: Cause,
    /// Where every node stood, if waiting has ended because nothing moved or somebody is lost.
    pub standings: Arc<Standings>,
}

impl RunError {
    /// The stage, if the action had one.
    pub fn stage(&self) -> Option<StageId> {
        self.action.and_then(|action| action.stage())
    }

    /// The micro-batch, if the action had one.
    pub fn micro_batch(&self) -> Option<MicroBatchId> {
        self.action.and_then(|action| action.micro_batch())
    }

    /// The error of the node where it began.
    pub fn root(&self) -> &Self {
        match &self.cause {
            Cause::Peer(error) => error.root(),
            _ => self,
        }
    }

    /// Where every node stood when the run ended, in plain text of several lines, if it ended
    /// because nothing moved or somebody was lost: see [`Standings`].
    pub fn picture(&self) -> Option<String> {
        let standings = &self.root().standings;
        (!standings.is_empty()).then(|| standings.to_string())
    }

    /// The one that caused the others: causes rank above consequences, then the lower node.
    pub(crate) fn root_of(errors: &[Self]) -> Option<&Self> {
        errors
            .iter()
            .map(Self::root)
            .min_by_key(|error| (error.cause.is_consequence(), error.node))
    }
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(rank) = self.rank {
            write!(f, "rank {rank}, ")?;
        }
        write!(f, "step {}, node {}", self.step, self.node)?;
        if let Some(stage) = self.stage() {
            write!(f, ", stage {stage}")?;
        }
        if let Some(micro_batch) = self.micro_batch() {
            write!(f, ", micro-batch {micro_batch}")?;
        }
        write!(f, ": {}", self.cause)?;
        if !self.row.is_empty() {
            write!(f, " (at {})", self.row)?;
        }
        Ok(())
    }
}

impl std::error::Error for RunError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}
