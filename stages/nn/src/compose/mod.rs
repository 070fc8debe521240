//! Layers made of layers. What they keep is a tuple of what the parts keep, so that nothing is
//! boxed per call.

mod chain;
mod part;
mod residual;

pub use chain::{Chain, ChainLayer};
pub use residual::{Residual, ResidualLayer};
