//! Where a node is in its list, for error messages.

use crate::error::{Cause, RunError, Standings};
use crate::ids::{NodeId, PassId, StepId};
use crate::plan::Walk;
use crate::process;
use crate::schedule::{Action, render_row};
use std::sync::Arc;

/// Where a node is in its list.
#[derive(Clone, Copy, Default)]
pub(super) struct Position {
    pub(super) pass: PassId,
    pub(super) step: StepId,
    pub(super) index: usize,
    pub(super) action: Option<Action>,
}

impl Position {
    /// What went wrong here, and where all nodes stood then.
    pub(super) fn error(
        self,
        node: NodeId,
        walk: Option<&Walk>,
        cause: Cause,
        standings: Standings,
    ) -> RunError {
        let walk = walk.filter(|_| self.action.is_some());
        let row = walk.map(|walk| render_row(&walk.lowered.nodes[node.index()], self.index));
        RunError {
            rank: process::own(),
            node,
            step: self.step,
            pass: self.pass,
            action: self.action,
            row: row.unwrap_or_default(),
            cause,
            standings: Arc::new(standings),
        }
    }
}
