//! Ready networks: configurations that describe themselves as a [`brigade_layer::Network`].

mod gpt;
mod mlp;

pub use gpt::Gpt;
pub use mlp::Mlp;
