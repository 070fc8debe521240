//! The ready schedules by name.

use super::{Definition, gpipe, one_f_one_b, zb_auto};
use crate::error::PlanError;
use crate::ids::NodeCount;
use crate::placement::Placement;
use crate::schedule::{Schedule, Task};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A ready schedule by its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum ScheduleKind {
    /// All forwards, then all backwards.
    GPipe,
    /// One forward, one backward.
    #[default]
    OneFOneB,
    /// The best of many for the costs and limits at hand.
    ZbAuto,
}

impl ScheduleKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::GPipe, Self::OneFOneB, Self::ZbAuto];

    /// Its name everywhere.
    pub const fn name(self) -> &'static str {
        match self {
            Self::GPipe => "gpipe",
            Self::OneFOneB => "1f1b",
            Self::ZbAuto => "zb-auto",
        }
    }
}

impl Schedule for ScheduleKind {
    fn name(&self) -> &str {
        (*self).name()
    }

    fn place(&self, nodes: NodeCount, chunks: Option<usize>) -> Result<Placement, PlanError> {
        let _ = chunks;
        Ok(Placement::straight(nodes))
    }

    fn define(&self, task: &Task) -> Result<Definition, PlanError> {
        match self {
            Self::GPipe => Ok(gpipe::gpipe(task)),
            Self::OneFOneB => Ok(one_f_one_b::one_f_one_b(task)),
            Self::ZbAuto => zb_auto::zb_auto(task),
        }
    }
}

impl fmt::Display for ScheduleKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str((*self).name())
    }
}

impl FromStr for ScheduleKind {
    type Err = PlanError;
    fn from_str(text: &str) -> Result<Self, PlanError> {
        let found = Self::ALL.into_iter().find(|kind| (*kind).name() == text);
        found.ok_or_else(|| PlanError::Setting {
            setting: "schedule",
            value: format!("{text:?}"),
            allowed: format!("one of {}", Self::ALL.map(Self::name).join(", ")),
        })
    }
}

impl From<ScheduleKind> for String {
    fn from(kind: ScheduleKind) -> Self {
        kind.name().to_owned()
    }
}

impl TryFrom<String> for ScheduleKind {
    type Error = PlanError;
    fn try_from(text: String) -> Result<Self, PlanError> {
        text.parse()
    }
}
