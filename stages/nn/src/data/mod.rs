//! Data to train on: text as tokens, arrays and images in memory and in files, and the order of
//! samples.
//!
//! Everything here is a pure function of step and rows, so that a node asks for what it needs and
//! all nodes agree.

mod arrays;
mod augmented;
mod batches;
mod dataset;
mod error;
mod idx;
mod images;
mod mapped;
mod npy;
mod numbers;
mod shuffle;
mod tokens;
mod windows;

pub use arrays::{Array, Arrays};
pub use augmented::Augmented;
pub use batches::{Batches, Position};
pub use dataset::Dataset;
pub use error::DataError;
pub use idx::{Idx, IdxHeader};
pub use images::ImageArray;
pub use npy::{Npy, NpyHeader};
pub use numbers::NumberType;
pub use tokens::Tokens;
pub use windows::TokenWindows;
