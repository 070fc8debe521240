//! Losses. Each puts out its sum; the engine divides by the terms of the whole mini-batch.

mod cross_entropy;
mod mean_squared;

pub use cross_entropy::{CrossEntropy, CrossEntropyLayer};
pub use mean_squared::{MeanSquaredError, MeanSquaredErrorLayer};
