//! Measuring a network of one's own: its layers one at a time, and its training steps, for
//! criterion or without it.
//!
//! # Example
//! Each distinct layer in criterion:
//! ```no_run
//! # use brigade::layer::{Batch, Tensor, TensorSpec};
//! # use brigade::nn::{MeanSquaredError, Mlp};
//! use brigade::bench::Layers;
//! use criterion::Criterion;
//!
//! # let points = Tensor::from_vec([64, 1], vec![0.5; 64])?;
//! # let data = Batch::new(points.clone(), points)?;
//! let network = Mlp::new([1, 64, 64, 1]).network(MeanSquaredError, TensorSpec::f32([1]))?;
//! let mut criterion = Criterion::default();
//! for layer in Layers::new(&network, &data, 16)? {
//!     let mut layer = layer?;
//!     let name = format!("{} F", layer.key());
//!     criterion.bench_function(&name, |b| b.iter_custom(|n| layer.forward(n).unwrap()));
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//! `docs/examples/profile.rs` is a whole program that does so, whole steps included.

use crate::error::Error;
use crate::train::Trainer;
use brigade_layer::Data;
use std::time::{Duration, Instant};

mod kinds;
mod layers;
mod run;

pub(crate) use kinds::kinds;
pub use layers::Layers;
pub(crate) use layers::threads_of_a_node;
pub use run::LayerRun;
pub(crate) use run::{Machinery, copy};

/// Takes this many training steps: for criterion's `iter_custom`.
///
/// # Errors
/// As [`Trainer::step`].
pub fn steps<D: Data + Clone>(
    trainer: &mut Trainer,
    data: &D,
    count: u64,
) -> Result<Duration, Error> {
    let started = Instant::now();
    for _ in 0..count {
        trainer.step(data)?;
    }
    Ok(started.elapsed())
}
