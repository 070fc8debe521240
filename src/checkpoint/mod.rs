//! What is saved, keyed by layer and parameter, never by stage or node.

mod weights;

pub use weights::{NamedTensor, Weights, weights_sha256};
