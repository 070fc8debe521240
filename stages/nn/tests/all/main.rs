//! The promises of the crate, from outside: laws, goldens of PyTorch, equal bits on any number of
//! threads.

#![allow(
    clippy::unwrap_used,
    reason = "a helper of a test may fail like a test"
)]

mod bench;
mod errors;
mod golden_optimizers;
mod golden_training;
mod goldens;
mod hugging_face;
mod laws;
mod networks;
mod threads;
