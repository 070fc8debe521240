//! What can be wrong with data.

use super::NumberType;
use brigade_layer::LayerError;
use std::io;
use std::ops::Range;
use std::path::Path;

/// What is wrong with a file of data, or with what is asked of it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// A file cannot be opened or mapped.
    #[error("cannot read {path}: {problem}")]
    Read {
        /// Which file.
        path: String,
        /// What the system says.
        problem: String,
    },
    /// A token file whose length is no multiple of a token's.
    #[error(
        "{path} has {bytes} bytes, which are no whole tokens of {number_type}{}",
        fitting(*bytes)
    )]
    Length {
        /// Which file.
        path: String,
        /// Its length.
        bytes: u64,
        /// What its tokens were taken for.
        number_type: NumberType,
    },
    /// A token that the vocabulary does not have.
    #[error(
        "{path}: token {position} is {id}, outside a vocabulary of {vocab}; give the vocabulary and \
         the type of number that it was written with"
    )]
    Vocabulary {
        /// Which file, or where else the tokens are.
        path: String,
        /// Which token of the file, from 0.
        position: usize,
        /// The token.
        id: i64,
        /// Tokens are below this.
        vocab: usize,
    },
    /// A number that tensors do not hold.
    #[error("{path}: number {position} is {value}, which an i32 does not hold")]
    TooLarge {
        /// Which file.
        path: String,
        /// Which number of the file, from 0.
        position: usize,
        /// The number.
        value: i64,
    },
    /// A file that is no array in the format that it was opened as, or one of a kind that is not
    /// read.
    #[error("{path} is no array that can be read: {problem}")]
    Array {
        /// Which file.
        path: String,
        /// What is wrong with it and what to do.
        problem: String,
    },
    /// More was asked for than there is.
    #[error("{what} {range:?} of {len}")]
    Outside {
        /// What was asked for.
        what: String,
        /// Which of them.
        range: Range<usize>,
        /// How many there are.
        len: usize,
    },
    /// The machine refused memory for what was asked for.
    #[error("the machine refused an allocation of {bytes} bytes")]
    AllocationRefused {
        /// Bytes of the refused allocation.
        bytes: u64,
    },
}

impl DataError {
    pub(super) fn reading(path: &Path, error: &io::Error) -> Self {
        let path = path.display().to_string();
        let problem = error.to_string();
        Self::Read { path, problem }
    }

    pub(super) fn array(path: &str, problem: impl Into<String>) -> Self {
        let (path, problem) = (path.to_owned(), problem.into());
        Self::Array { path, problem }
    }
}

/// Which kind of token file it might be.
fn fitting(bytes: u64) -> &'static str {
    match bytes % 4 {
        0 => "; of u16 or u32 they would be",
        2 => "; of u16 they would be",
        _ => ": it is cut off, or no file of u16 or u32",
    }
}

impl From<DataError> for LayerError {
    fn from(error: DataError) -> Self {
        match error {
            DataError::AllocationRefused { bytes } => Self::AllocationRefused {
                requested_bytes: bytes,
            },
            other => Self::Value(other.to_string()),
        }
    }
}

/// An empty list with room for so many.
pub(super) fn list_of<T>(count: usize) -> Result<Vec<T>, DataError> {
    let mut list = Vec::new();
    let bytes = (count as u64).saturating_mul(size_of::<T>() as u64);
    let refused = |_| DataError::AllocationRefused { bytes };
    list.try_reserve_exact(count).map_err(refused)?;
    Ok(list)
}
