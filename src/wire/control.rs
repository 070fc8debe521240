//! What processes tell each other beside the messages of nodes.
#![cfg_attr(not(feature = "mpi"), allow(dead_code))]

use crate::error::{Cause, RunError, Standings};
use crate::ids::{NodeId, PassId, StepId};
use crate::schedule::Action;
use crate::wire::codec;
use crate::wire::hub::Beat;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// No word is longer.
pub(super) const MOST_WORD_BYTES: usize = 1 << 16;
/// No text in it is longer.
const MOST_TEXT_BYTES: usize = 1 << 13;

/// One word from process to process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Word {
    /// Still there; and how far the nodes of each trainer are.
    Beats(Vec<(u32, Vec<Beat>)>),
    /// A trainer's node has failed.
    Failed(u32, Told),
    /// A trainer is done here.
    Gone(u32),
    /// The process ends. Its last word.
    Bye,
}

impl Word {
    /// Reads one at the beginning of the buffer that it came in.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        codec::unpack_first::<Self, MOST_WORD_BYTES>(bytes).map(|(word, _)| word)
    }
}

/// An error of another process.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Told {
    rank: Option<usize>,
    node: NodeId,
    step: StepId,
    pass: PassId,
    action: Option<Action>,
    row: String,
    cause: String,
    consequence: bool,
    standings: Standings,
}

impl From<&RunError> for Told {
    fn from(error: &RunError) -> Self {
        let mut cause = error.cause.to_string();
        let mut row = error.row.clone();
        for text in [&mut cause, &mut row] {
            let end = (0..=MOST_TEXT_BYTES.min(text.len())).rev();
            let end = { end }.find(|end| text.is_char_boundary(*end));
            text.truncate(end.unwrap_or(0));
        }
        Self {
            rank: error.rank,
            node: error.node,
            step: error.step,
            pass: error.pass,
            action: error.action,
            row,
            cause,
            consequence: error.cause.is_consequence(),
            standings: error.standings.shortened(),
        }
    }
}

impl From<Told> for RunError {
    fn from(told: Told) -> Self {
        Self {
            rank: told.rank,
            node: told.node,
            step: told.step,
            pass: told.pass,
            action: told.action,
            row: told.row,
            cause: Cause::Told {
                cause: told.cause,
                consequence: told.consequence,
            },
            standings: Arc::new(told.standings),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Doing, Standing};
    use crate::ids::StageId;
    use crate::schedule::{Direction, Lane, Transfer, render_row};
    use crate::wire::codec;
    use std::time::Duration;

    /// Whatever is told of however many nodes fits into a word.
    #[test]
    fn the_longest_failure_fits_into_a_word() {
        let most = u32::MAX;
        let transfer = Transfer {
            stage: StageId::new(most),
            peer: StageId::new(most),
            lane: Lane {
                edge: crate::ids::EdgeId::new(most),
                direction: Direction::Backward,
            },
            micro_batch: crate::ids::MicroBatchId::new(most),
        };
        let action = Action::Wait(transfer);
        let standing = |node| Standing {
            node: NodeId::new(most - 200 + node),
            rank: Some(usize::MAX),
            pass: Some(PassId::new(u64::MAX)),
            entry: Some(usize::MAX),
            action: Some(action),
            row: render_row(&[action; 20], 10),
            doing: Doing::WaitsFor {
                node: NodeId::new(0),
                more: usize::MAX,
            },
            since: Duration::MAX,
            silent: Some(Duration::MAX),
            gone: true,
        };
        let nodes = (0..200).map(standing).collect();
        let long = "x".repeat(1 << 17);
        let error = RunError {
            rank: Some(usize::MAX),
            node: NodeId::new(most - 200),
            step: StepId::new(u64::MAX),
            pass: PassId::new(u64::MAX),
            action: Some(action),
            row: long.clone(),
            cause: Cause::Bug(long),
            standings: Arc::new(Standings::new(NodeId::new(most - 200), nodes)),
        };
        let word = codec::pack(&Word::Failed(most, Told::from(&error)));
        assert!(word.len() <= MOST_WORD_BYTES, "{}", word.len());
        let Word::Failed(_, told) = Word::read(&word).unwrap() else {
            panic!()
        };
        let standings = &RunError::from(told).standings;
        assert_eq!(standings.nodes().len() + standings.left_out(), 200);
    }
}
