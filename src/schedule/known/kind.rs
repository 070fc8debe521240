//! The ready schedules by name.

use super::{Definition, dualpipe_v, gpipe, interleaved_1f1b, interleaved_zb, looped_bfs};
use super::{one_f_one_b, v_half, v_min, zb_auto, zb_h1, zb_v};
use crate::error::PlanError;
use crate::ids::NodeCount;
use crate::placement::Placement;
use crate::schedule::{Schedule, Task, counted};
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
    /// 1F1B on several stages a node: less idle, more messages.
    Interleaved1F1B,
    /// GPipe on several stages a node.
    LoopedBfs,
    /// 1F1B with the backward in two: a third as idle at the same memory.
    ZbH1,
    /// ZB-H1 on several stages a node.
    InterleavedZb,
    /// Down the nodes and back up, with the backward in two: no node waits once it has begun.
    ZbV,
    /// A V at half the memory of 1F1B.
    VHalf,
    /// A V at a third of the memory of 1F1B.
    VMin,
    /// A V with forwards and backwards in pairs.
    DualPipeV,
    /// The best of many for the costs and limits at hand.
    ZbAuto,
}

impl ScheduleKind {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::GPipe,
        Self::OneFOneB,
        Self::Interleaved1F1B,
        Self::LoopedBfs,
        Self::ZbH1,
        Self::InterleavedZb,
        Self::ZbV,
        Self::VHalf,
        Self::VMin,
        Self::DualPipeV,
        Self::ZbAuto,
    ];

    /// Its name everywhere.
    pub const fn name(self) -> &'static str {
        match self {
            Self::GPipe => "gpipe",
            Self::OneFOneB => "1f1b",
            Self::Interleaved1F1B => "interleaved-1f1b",
            Self::LoopedBfs => "looped-bfs",
            Self::ZbH1 => "zb-h1",
            Self::InterleavedZb => "interleaved-zb",
            Self::ZbV => "zb-v",
            Self::VHalf => "v-half",
            Self::VMin => "v-min",
            Self::DualPipeV => "dualpipe-v",
            Self::ZbAuto => "zb-auto",
        }
    }

    /// Whether its order depends on what things take.
    pub const fn uses_costs(self) -> bool {
        matches!(self, Self::ZbAuto)
    }

    /// Whether it can use any number of stages a node: it goes once around the nodes for each.
    pub const fn takes_any_chunks(self) -> bool {
        matches!(self.shape(), Shape::Looped)
    }

    const fn shape(self) -> Shape {
        match self {
            Self::GPipe | Self::OneFOneB | Self::ZbH1 | Self::ZbAuto => Shape::Straight,
            Self::Interleaved1F1B | Self::LoopedBfs | Self::InterleavedZb => Shape::Looped,
            Self::ZbV | Self::VHalf | Self::VMin | Self::DualPipeV => Shape::V,
        }
    }

    fn illegal(self, reason: impl Into<String>, nearest: impl Into<String>) -> PlanError {
        PlanError::Illegal {
            schedule: self.to_string(),
            reason: reason.into(),
            nearest: nearest.into(),
        }
    }
}

/// How a schedule places its stages.
enum Shape {
    Straight,
    Looped,
    V,
}

impl Schedule for ScheduleKind {
    fn name(&self) -> &str {
        (*self).name()
    }

    fn place(&self, nodes: NodeCount, chunks: Option<usize>) -> Result<Placement, PlanError> {
        let refused = |places, nearest| {
            let chunks = counted(chunks.unwrap_or_default(), "chunk");
            let reason = format!("{chunks}: it places {places}");
            Err(self.illegal(reason, nearest))
        };
        match (self.shape(), chunks) {
            (Shape::Straight, None | Some(1)) => Ok(Placement::straight(nodes)),
            (Shape::Straight, _) => refused("one stage on each node", "1 chunk"),
            (Shape::Looped, Some(0)) => refused("at least one stage on each node", "1 chunk"),
            (Shape::Looped, _) => Ok(Placement::looped(nodes, chunks.unwrap_or(2))),
            (Shape::V, None | Some(2)) => Ok(Placement::v_shaped(nodes)),
            (Shape::V, _) => refused("two stages on each node", "2 chunks"),
        }
    }

    fn define(&self, task: &Task) -> Result<Definition, PlanError> {
        let own = self.place(task.nodes(), task.placement.chunks())?;
        if own != task.placement {
            let nodes = |placement: &Placement| {
                let stages = placement.stages().iter();
                let nodes = stages.map(|stage| placement.node_of(stage).to_string());
                format!("stages on nodes {}", nodes.collect::<Vec<_>>().join(" "))
            };
            return Err(self.illegal(nodes(&task.placement), nodes(&own)));
        }
        match self {
            Self::GPipe => Ok(gpipe::gpipe(task)),
            Self::OneFOneB => Ok(one_f_one_b::one_f_one_b(task)),
            Self::Interleaved1F1B => interleaved_1f1b::interleaved_1f1b(task),
            Self::LoopedBfs => Ok(looped_bfs::looped_bfs(task)),
            Self::ZbH1 => Ok(zb_h1::zb_h1(task)),
            Self::InterleavedZb => interleaved_zb::interleaved_zb(task),
            Self::ZbV => Ok(zb_v::zb_v(task)),
            Self::VHalf => Ok(v_half::v_half(task)),
            Self::VMin => Ok(v_min::v_min(task)),
            Self::DualPipeV => dualpipe_v::dualpipe_v(task),
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
