//! What is wrong with a file, and in which cell.

use super::read::MOST_ROWS;
use std::fmt;
use std::path::PathBuf;

/// The longest part of a cell that an error shows.
const SHOWN: usize = 60;

/// What is wrong with a cell, a row, or with what is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CsvProblem {
    /// Not an action at all.
    #[error("no such action; write stage, action and micro-batch like 2F0")]
    Unknown,
    /// An action with something after it.
    #[error("nothing may follow {0}; write one action in a cell")]
    Trailing(String),
    /// A number that is too large.
    #[error("numbers go up to {}", u32::MAX)]
    TooLarge,
    /// An action of one micro-batch without it.
    #[error("the micro-batch is missing; write it like {0}0")]
    NoMicroBatch(String),
    /// An action of a whole stage with a micro-batch.
    #[error("{0} is about all micro-batches; write it without a number at the end")]
    ExtraMicroBatch(String),
    /// A letter of the other dialect.
    #[error(
        "this action is of the other dialect (BW and B in 2024, B and I since); read the file in that"
    )]
    OtherDialect,
    /// Parentheses that hold something else than an F and a backward.
    #[error("a pair is one F and the backward it overlaps; write it like (0F7;7B3)OVERLAP_F_B")]
    Pair,
    /// Nothing in the file.
    #[error("the file is empty; write a row for every node")]
    NoRows,
    /// A row without an action.
    #[error("this row computes nothing; every row is a node, and every node needs a stage")]
    IdleRow,
    /// More rows than a file may have.
    #[error("more than {MOST_ROWS} rows; every row is a node")]
    TooManyRows,
    /// More text than a file may have.
    #[error("the file is larger than {0} bytes; write fewer micro-batches")]
    TooLong(u64),
    /// A line that ends as no system of today ends lines.
    #[error("a carriage return inside a line; end lines with LF or CR LF")]
    CarriageReturn,
    /// An idle slot in a file with communication.
    #[error("a blank cell in a file that sends and receives; leave it out")]
    Blank,
    /// A stage on several rows.
    #[error("stage {stage} is on row {row} already; a stage is on one node")]
    OtherRow {
        /// The stage.
        stage: u32,
        /// Its first row.
        row: usize,
    },
    /// A stage that is on no row, although a later one is.
    #[error("there is no stage {0}, but a later one; stages are 0, 1, 2 and so on")]
    NoStage(u32),
    /// A micro-batch that a stage leaves out.
    #[error("{0} is nowhere, but a later micro-batch; micro-batches are 0, 1, 2 and so on")]
    NoSuchMicroBatch(String),
    /// Done again.
    #[error("done before; leave it out here or there")]
    Twice,
    /// W after a backward that was the full one in this dialect.
    #[error(
        "the full backward before did this too; leave it out, or read the file in the dialect of 2024, where B is only the backward for inputs"
    )]
    AfterFull,
    /// Done before what it needs.
    #[error("needs {0} before it on this row")]
    Needs(String),
    /// Never done on the row of its stage.
    #[error("the row ends without {0}")]
    Missing(String),
    /// A message to or from a stage that does not exist.
    #[error("there is no stage at the other end; leave it out")]
    NoPeer,
    /// A message between stages of one node.
    #[error("stages {0} and {1} are on the same row, nothing is sent between them; leave it out")]
    SameRow(u32, u32),
}

/// A CSV file that is refused: where, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CsvError {
    /// The file, where it came from one.
    pub file: Option<PathBuf>,
    /// The row, from 1. Every row is a line.
    pub row: usize,
    /// The column, from 1. One past the last cell for what is missing at the end of a row.
    pub column: usize,
    /// What the cell says, shortened.
    pub cell: String,
    /// What is wrong.
    pub problem: CsvProblem,
}

impl CsvError {
    /// With the text of a cell that may be long.
    pub(super) fn new(row: usize, column: usize, cell: &str, problem: CsvProblem) -> Box<Self> {
        let mut shown: String = cell.chars().take(SHOWN).collect();
        if shown.len() < cell.len() {
            shown.push('…');
        }
        Box::new(Self {
            file: None,
            row,
            column,
            cell: shown,
            problem,
        })
    }
}

impl fmt::Display for CsvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("schedule file")?;
        if let Some(file) = &self.file {
            write!(f, " {}", file.display())?;
        }
        write!(f, ", row {}, column {}", self.row, self.column)?;
        if !self.cell.is_empty() {
            write!(f, " ({:?})", self.cell)?;
        }
        write!(f, ": {}", self.problem)
    }
}

impl std::error::Error for CsvError {}
