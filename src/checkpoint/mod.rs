//! What is saved, keyed by layer and parameter, never by stage or node.

mod file;
mod weights;

pub(crate) use file::{WeightsFile, WeightsSource};
pub use weights::{NamedTensor, Weights, weights_sha256};
