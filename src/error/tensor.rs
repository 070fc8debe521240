//! What is wrong with tensors that come from outside.

use std::fmt;

/// What is wrong with tensors in files that another library, or nobody knows who, has written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TensorError {
    /// One that the network needs is not there.
    #[error("{path} has no tensor {tensor}; is it of another network?")]
    Missing {
        /// The file or folder.
        path: String,
        /// Its name.
        tensor: String,
    },
    /// One that the network has no place for.
    #[error("{path}: there is no place for tensor {tensor} in this network")]
    Extra {
        /// The file.
        path: String,
        /// Its name.
        tensor: String,
    },
    /// One of another shape.
    #[error("{path}: tensor {tensor} has shape {}, this network's has {}", Axes(.found), Axes(.wanted))]
    Shape {
        /// The file.
        path: String,
        /// Its name.
        tensor: String,
        /// Its shape.
        found: Vec<usize>,
        /// What it must be.
        wanted: Vec<usize>,
    },
    /// One of other elements.
    #[error("{path}: tensor {tensor} is of {found}; F32, BF16 and F16 can be read")]
    DType {
        /// The file.
        path: String,
        /// Its name.
        tensor: String,
        /// Its elements.
        found: String,
    },
    /// Two that are one in this network, and not equal there.
    #[error(
        "{path}: tensors {tensor} and {other} are one in this network (tied) and differ there; \
         set tie_word_embeddings to false, or leave {tensor} out"
    )]
    Differs {
        /// The file.
        path: String,
        /// The superfluous one.
        tensor: String,
        /// The one that counts.
        other: String,
    },
    /// One with a number that the elements it is to be written with cannot hold.
    #[error("{path}: tensor {tensor} has {number}, too large for {float}; write {instead}")]
    TooLarge {
        /// The file that it is read from.
        path: String,
        /// Its name there.
        tensor: String,
        /// The number.
        number: String,
        /// The elements.
        float: String,
        /// Elements that can hold it.
        instead: &'static str,
    },
    /// A file that is not what it should be.
    #[error("{path}: {problem}")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// A shape in an error: a damaged file may have any.
struct Axes<'a>(&'a [usize]);

impl fmt::Display for Axes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const MOST: usize = 8;
        let axes = self.0.iter().take(MOST).map(usize::to_string);
        let dots = if self.0.len() > MOST { ", .." } else { "" };
        write!(f, "[{}{dots}]", axes.collect::<Vec<_>>().join(", "))
    }
}
