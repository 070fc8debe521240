//! The promises of the crate, from outside: laws, goldens of PyTorch and NumPy, equal bits on any
//! number of threads.

#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test may fail like a test"
)]

mod bench;
mod conv;
mod data_files;
mod datasets;
mod errors;
mod frozen;
mod generation;
mod golden_optimizers;
mod golden_sampling;
mod golden_training;
mod goldens;
mod hugging_face;
mod image_norms;
mod joining;
mod laws;
mod llama;
mod networks;
mod pooling;
mod threads;
mod unet;
