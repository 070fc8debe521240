//! The schedules by name.

use super::{Definition, gpipe, one_f_one_b};
use crate::error::PlanError;
use crate::ids::{MicroBatchCount, NodeCount};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A schedule by its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ScheduleKind {
    /// All forwards, then all backwards. See [`gpipe`].
    #[serde(rename = "gpipe")]
    GPipe,
    /// One forward, one backward. See [`one_f_one_b`].
    #[default]
    #[serde(rename = "1f1b")]
    OneFOneB,
}

impl ScheduleKind {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::GPipe, Self::OneFOneB];

    /// Its name everywhere.
    pub const fn name(self) -> &'static str {
        match self {
            Self::GPipe => "gpipe",
            Self::OneFOneB => "1f1b",
        }
    }

    /// What every node computes, in order.
    pub fn define(self, nodes: NodeCount, micro_batches: MicroBatchCount) -> Definition {
        match self {
            Self::GPipe => gpipe(nodes, micro_batches),
            Self::OneFOneB => one_f_one_b(nodes, micro_batches),
        }
    }

    /// Whether it can use this many stages a node.
    ///
    /// # Errors
    /// When it cannot.
    pub fn check_chunks(self, chunks: usize) -> Result<(), PlanError> {
        match self {
            Self::GPipe | Self::OneFOneB if chunks == 1 => Ok(()),
            Self::GPipe | Self::OneFOneB => Err(PlanError::Setting {
                setting: "chunks",
                value: chunks.to_string(),
                allowed: format!("1 for the schedule {self}"),
            }),
        }
    }
}

impl fmt::Display for ScheduleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ScheduleKind {
    type Err = PlanError;
    fn from_str(text: &str) -> Result<Self, PlanError> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == text)
            .ok_or_else(|| PlanError::Setting {
                setting: "schedule",
                value: format!("{text:?}"),
                allowed: format!("one of {}", Self::ALL.map(Self::name).join(", ")),
            })
    }
}
