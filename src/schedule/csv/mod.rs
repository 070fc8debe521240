//! PyTorch's schedule files: every row is a node, every cell is what it does next.
//!
//! ```text
//! 0F0,0F1,0B0,0B1           0F0,0SEND_F0,0F1,0SEND_F1,0RECV_B0,0B0, ...
//! ,1F0,1B0,1F1,1B1          1RECV_F0,1F0,1RECV_F1,1B0,1SEND_B0,1F1, ...
//! compute_only              compute_comms
//! ```
//!
//! A blank cell is an idle slot, a byte order mark at the start nothing. `(0F7;7B3)OVERLAP_F_B` is
//! a pair that is meant to overlap. A file with communication is held against the same laws as one
//! without, its messages are checked, and then left out: lowering inserts them again.
//!
//! # Example
//! ```
//! use brigade::schedule::csv::{CsvSchedule, Dialect};
//!
//! let file = CsvSchedule::parse("mine", "0F0,0F1,0B0,0B1\n,1F0,1B0,1F1,1B1", Dialect::Current)?;
//! assert_eq!(file.micro_batches().get(), 2);
//! let error = CsvSchedule::parse("mine", "0F0,0F1,0B0", Dialect::Current).unwrap_err();
//! let says = "schedule file, row 1, column 4: the row ends without 0B1";
//! assert_eq!(error.to_string(), says);
//! # Ok::<(), Box<brigade::schedule::csv::CsvError>>(())
//! ```

mod cell;
mod error;
mod read;
mod verify;
mod write;

pub use error::{CsvError, CsvProblem};
pub use write::{compute_comms, compute_only};

use super::{Definition, Schedule, Task, counted};
use crate::error::{Error, PlanError};
use crate::files::read_error;
use crate::ids::{MicroBatchCount, NodeCount};
use crate::placement::Placement;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// How PyTorch wrote such files over the years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// `I` is the backward for inputs, `B` the full one. Every send and every `REDUCE_GRAD` has its
    /// wait. Files without those waits can be read too.
    #[default]
    Current,
    /// The same letters, before there were waits.
    Year2025,
    /// `B` is the backward for inputs, `BW` the full one; no waits, and no `REDUCE_GRAD` written.
    Year2024,
}

/// What a file says beside the order of computing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Nothing.
    ComputeOnly,
    /// Who sends and receives when.
    ComputeComms,
}

/// A schedule read from a file: for the nodes, stages and micro-batches that the file has. It can
/// be used with fewer micro-batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CsvSchedule {
    name: String,
    format: Format,
    placement: Placement,
    micro_batches: MicroBatchCount,
    definition: Definition,
}

impl CsvSchedule {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// Says in which cell the text is no schedule, and what to write there.
    pub fn parse(
        name: impl Into<String>,
        text: &str,
        dialect: Dialect,
    ) -> Result<Self, Box<CsvError>> {
        let name = name.into();
        let (format, placement, micro_batches, definition) = read::read(text, dialect)?;
        Ok(Self {
            name,
            format,
            placement,
            micro_batches,
            definition,
        })
    }

    /// Reads a file. The schedule is named as the file.
    ///
    /// # Errors
    /// When it cannot be read, is no text, or as [`parse`](Self::parse).
    pub fn read(path: &Path, dialect: Dialect) -> Result<Self, Error> {
        let file = File::open(path).map_err(|error| read_error(path, error))?;
        let mut bytes = Vec::new();
        // One more than allowed, so that the excess is seen; also what grows meanwhile ends.
        let read = file.take(read::MOST_BYTES + 1).read_to_end(&mut bytes);
        read.map_err(|error| read_error(path, error))?;
        let text = String::from_utf8(bytes).map_err(|error| read_error(path, error))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let parsed = Self::parse(name, &text, dialect);
        parsed.map_err(|mut error| {
            error.file = Some(path.to_owned());
            Error::Plan(error.into())
        })
    }

    /// What the file was.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Where the file has its stages.
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// How many micro-batches the file has.
    pub fn micro_batches(&self) -> MicroBatchCount {
        self.micro_batches
    }

    /// The order of the file.
    pub fn definition(&self) -> &Definition {
        &self.definition
    }

    fn illegal(&self, reason: String, nearest: String) -> PlanError {
        PlanError::Illegal {
            schedule: self.name.clone(),
            reason,
            nearest,
        }
    }
}

impl Schedule for CsvSchedule {
    fn name(&self) -> &str {
        &self.name
    }

    fn place(&self, nodes: NodeCount, chunks: Option<usize>) -> Result<Placement, PlanError> {
        let own = self.placement.nodes();
        if nodes != own {
            let (asked, rows) = (counted(nodes, "node"), counted(own, "row"));
            let reason = format!("{asked}: the file has {rows}");
            return Err(self.illegal(reason, counted(own, "node")));
        }
        let own = self.placement.chunks();
        match chunks {
            Some(chunks) if Some(chunks) != own => {
                let own = own.map_or("not the same number".to_owned(), |own| own.to_string());
                let chunks = counted(chunks, "chunk");
                let reason = format!("{chunks}: the file has {own} on every node");
                Err(self.illegal(reason, "no chunks given, as the file has them".into()))
            }
            _ => Ok(self.placement.clone()),
        }
    }

    fn define(&self, task: &Task) -> Result<Definition, PlanError> {
        if task.placement != self.placement {
            let reason = "another placement than that of its file".to_owned();
            return Err(self.illegal(reason, "the file's placement".into()));
        }
        let (own, asked) = (self.micro_batches, task.micro_batches);
        match asked.get() {
            0 => Err(self.illegal("0 micro-batches".into(), "1 micro-batch".into())),
            asked if asked > own.get() => {
                let asked = counted(asked, "micro-batch");
                let reason = format!("{asked}: the file has {own}");
                Err(self.illegal(reason, counted(own, "micro-batch")))
            }
            _ if asked == own => Ok(self.definition.clone()),
            _ => Ok(self.definition.first(asked)),
        }
    }
}
