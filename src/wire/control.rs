//! What processes tell each other beside the messages of nodes.
#![cfg_attr(not(feature = "mpi"), allow(dead_code))]

use crate::error::{Cause, RunError};
use crate::ids::{NodeId, PassId, StepId};
use crate::schedule::Action;
use crate::wire::codec;
use crate::wire::hub::Beat;
use serde::{Deserialize, Serialize};

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
        }
    }
}
