//! The one notation of actions, as data and as text.

use crate::error::PlanError;
use crate::ids::{EdgeId, MicroBatchId, SharedId, StageId};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What a stage computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Work {
    /// Forward.
    F,
    /// Backward for inputs.
    I,
    /// Backward for weights.
    W,
    /// Full backward: I, then W.
    B,
}

/// One stage's work on one micro-batch. `2F0`: stage 2, forward, micro-batch 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Compute {
    /// The stage.
    pub stage: StageId,
    /// What it computes.
    pub work: Work,
    /// The micro-batch.
    pub micro_batch: MicroBatchId,
}

impl Compute {
    /// Stage, work, micro-batch.
    pub const fn new(stage: StageId, work: Work, micro_batch: MicroBatchId) -> Self {
        Self {
            stage,
            work,
            micro_batch,
        }
    }
}

/// Which way a message travels along an edge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Direction {
    /// Activations, with the edge.
    Forward,
    /// Gradients, against it.
    Backward,
}

/// A stream of messages: one for each micro-batch, along one edge, in one direction. An output that
/// several layers of one stage read travels once, on the first of their edges; each edge brings its
/// own gradient back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Lane {
    /// The edge of the network's graph.
    pub edge: EdgeId,
    /// Which way.
    pub direction: Direction,
}

/// A message between two stages, seen from one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Transfer {
    /// The stage whose node does this.
    pub stage: StageId,
    /// The stage at the other end.
    pub peer: StageId,
    /// The stream it belongs to.
    pub lane: Lane,
    /// The micro-batch.
    pub micro_batch: MicroBatchId,
}

/// One entry of a node's list.
///
/// | text | meaning |
/// |---|---|
/// | `2F0` `2I0` `2W0` `2B0` | stage 2 computes micro-batch 0 |
/// | `2SEND_F0>3@7` | stage 2 hands its activation to stage 3 along edge 7; never waits |
/// | `3POST_F0<2@7` | stage 3 gets ready to receive it, in one of the lane's slots |
/// | `3WAIT_F0<2@7` | stage 3 needs it now |
/// | `SUM#1` | gradients of shared parameter 1 are summed in layer order, on all its nodes |
/// | `EXCHANGE` | loss and gradient norm are gathered on the first node and told to all |
/// | `STEP` | the optimizer changes the parameters |
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Action {
    /// A stage computes.
    Compute(Compute),
    /// Hands a tensor to the link. Never waits.
    Send(Transfer),
    /// Gets ready to receive.
    Post(Transfer),
    /// Waits for a tensor that is needed now.
    Wait(Transfer),
    /// Sums the gradients of a shared parameter.
    SumShared(SharedId),
    /// Gathers the step's few scalars and tells all nodes the verdict.
    Exchange,
    /// Lets the optimizer change the parameters.
    Step,
}

impl Action {
    /// The stage, if it is one stage's action.
    pub fn stage(&self) -> Option<StageId> {
        match self {
            Self::Compute(compute) => Some(compute.stage),
            Self::Send(transfer) | Self::Post(transfer) | Self::Wait(transfer) => {
                Some(transfer.stage)
            }
            Self::SumShared(_) | Self::Exchange | Self::Step => None,
        }
    }

    /// The micro-batch, if it is about one.
    pub fn micro_batch(&self) -> Option<MicroBatchId> {
        match self {
            Self::Compute(compute) => Some(compute.micro_batch),
            Self::Send(transfer) | Self::Post(transfer) | Self::Wait(transfer) => {
                Some(transfer.micro_batch)
            }
            Self::SumShared(_) | Self::Exchange | Self::Step => None,
        }
    }
}

impl From<Compute> for Action {
    fn from(compute: Compute) -> Self {
        Self::Compute(compute)
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F => "F",
            Self::I => "I",
            Self::W => "W",
            Self::B => "B",
        })
    }
}

impl fmt::Display for Compute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", self.stage, self.work, self.micro_batch)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut transfer = |verb: &str, arrow: char, t: &Transfer| {
            let way = match t.lane.direction {
                Direction::Forward => 'F',
                Direction::Backward => 'B',
            };
            write!(
                f,
                "{}{verb}_{way}{}{arrow}{}@{}",
                t.stage, t.micro_batch, t.peer, t.lane.edge
            )
        };
        match self {
            Self::Compute(compute) => compute.fmt(f),
            Self::Send(t) => transfer("SEND", '>', t),
            Self::Post(t) => transfer("POST", '<', t),
            Self::Wait(t) => transfer("WAIT", '<', t),
            Self::SumShared(shared) => write!(f, "SUM#{shared}"),
            Self::Exchange => f.write_str("EXCHANGE"),
            Self::Step => f.write_str("STEP"),
        }
    }
}

/// Splits digits off the front of `text`.
fn number<T: FromStr>(text: &str) -> Option<(T, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    Some((text[..end].parse().ok()?, &text[end..]))
}

fn parse_compute(stage: StageId, rest: &str) -> Option<Action> {
    let work = match rest.get(..1)? {
        "F" => Work::F,
        "I" => Work::I,
        "W" => Work::W,
        "B" => Work::B,
        _ => return None,
    };
    let (micro_batch, rest) = number(&rest[1..])?;
    rest.is_empty()
        .then(|| Compute::new(stage, work, MicroBatchId::new(micro_batch)).into())
}

fn parse_transfer(stage: StageId, rest: &str) -> Option<Action> {
    let (verb, rest) = rest.split_once('_')?;
    let (make, arrow): (fn(Transfer) -> Action, _) = match verb {
        "SEND" => (Action::Send, '>'),
        "POST" => (Action::Post, '<'),
        "WAIT" => (Action::Wait, '<'),
        _ => return None,
    };
    let direction = match rest.get(..1)? {
        "F" => Direction::Forward,
        "B" => Direction::Backward,
        _ => return None,
    };
    let (micro_batch, rest) = number(&rest[1..])?;
    let (peer, rest) = number(rest.strip_prefix(arrow)?)?;
    let (edge, rest) = number(rest.strip_prefix('@')?)?;
    let lane = Lane {
        edge: EdgeId::new(edge),
        direction,
    };
    let (peer, micro_batch) = (StageId::new(peer), MicroBatchId::new(micro_batch));
    rest.is_empty().then(|| {
        make(Transfer {
            stage,
            peer,
            lane,
            micro_batch,
        })
    })
}

impl FromStr for Action {
    type Err = PlanError;

    fn from_str(text: &str) -> Result<Self, PlanError> {
        let parsed = match text {
            "EXCHANGE" => Some(Self::Exchange),
            "STEP" => Some(Self::Step),
            _ => match text.strip_prefix("SUM#") {
                Some(id) => number(id)
                    .filter(|(_, rest)| rest.is_empty())
                    .map(|(id, _)| Self::SumShared(SharedId::new(id))),
                None => number(text).and_then(|(stage, rest)| {
                    let stage = StageId::new(stage);
                    parse_compute(stage, rest).or_else(|| parse_transfer(stage, rest))
                }),
            },
        };
        parsed.ok_or_else(|| PlanError::Unreadable {
            what: format!("action {text:?}"),
            problem: "write it like 2F0, 2SEND_F0>3@7, SUM#1, EXCHANGE or STEP".into(),
        })
    }
}

impl From<Action> for String {
    fn from(action: Action) -> Self {
        action.to_string()
    }
}

impl TryFrom<String> for Action {
    type Error = PlanError;
    fn try_from(text: String) -> Result<Self, PlanError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_survives_a_round_trip_through_text() {
        let texts = [
            "0F0",
            "12I345",
            "2W7",
            "3B1",
            "2SEND_F0>3@7",
            "3POST_F0<2@7",
            "3WAIT_F0<2@7",
            "3SEND_B11>0@2",
            "0WAIT_B11<3@2",
            "SUM#1",
            "EXCHANGE",
            "STEP",
        ];
        for text in texts {
            let action: Action = text.parse().unwrap();
            assert_eq!(action.to_string(), text);
            let json = serde_json::to_string(&action).unwrap();
            assert_eq!(serde_json::from_str::<Action>(&json).unwrap(), action);
        }
    }

    #[test]
    fn what_is_not_an_action_is_refused_whole() {
        let wrong = [
            "",
            "F0",
            "0F",
            "0F1xyz",
            "0X1",
            "0FOO",
            "0SEND_F1",
            "0SEND_F1<1@0",
            "0WAIT_F1>1@0",
            "0SEND_F1>1@",
            "0SEND_F1>1@0 ",
            "SUM#",
            "SUM#1a",
            "step",
            "99999999999F0",
            "-1F0",
            "0F-1",
            "0é",
        ];
        for text in wrong {
            assert!(text.parse::<Action>().is_err(), "{text:?}");
        }
    }
}
