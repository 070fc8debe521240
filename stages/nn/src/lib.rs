//! What a stage computes: layers, losses, optimizers and ready networks, on `ndarray` and `gemm`.
//!
//! | where | what |
//! |---|---|
//! | [`Linear`], [`Embedding`], [`PositionEmbedding`], [`LayerNorm`] | layers with parameters |
//! | [`Activation`], [`Dropout`], [`CausalAttention`] | layers without |
//! | [`CausalSelfAttention`], [`Chain`], [`Residual`] | layers made of layers |
//! | [`CrossEntropy`], [`MeanSquaredError`] | losses |
//! | [`Accuracy`] | what is measured beside the loss |
//! | [`Sgd`], [`Adam`], [`AdamW`], [`LearningRate`] | rules that change parameters |
//! | [`Mlp`], [`Gpt`], [`Llama`], [`Decoder`] | networks; decoders from and to Hugging Face's `config.json` |
//! | [`TokenWindows`], [`Sampling`] | tokens in and out |
//!
//! Nothing here knows what a pipeline is. Everything gives the same bits on one thread and on
//! several, because the order of every sum follows from shapes, and random numbers from the
//! sample's number in the mini-batch.
//!
//! # Example
//! ```
//! use brigade_nn::{AdamW, Gpt, LearningRate};
//! let network = Gpt { blocks: 4, dropout: 0.1, ..Gpt::default() }.network()?;
//! let rate = LearningRate::Cosine { peak: 3e-4, min: 3e-5, warmup_steps: 100, steps: 1000 };
//! let optimizer = AdamW { lr: rate, betas: (0.9, 0.95), weight_decay: 0.1, ..AdamW::default() };
//! # Ok::<(), brigade_layer::LayerError>(())
//! ```

#![deny(unsafe_code)]

mod activation;
mod attention;
mod compose;
mod data;
mod dropout;
mod embedding;
mod feed_forward;
mod hugging_face;
mod kernels;
mod limits;
mod linear;
mod loss;
mod metric;
mod networks;
mod norm;
mod optim;
mod position;
mod rotary;
mod sampling;
mod self_attention;
mod shapes;

pub use activation::{Activation, ActivationLayer};
pub use attention::{CausalAttention, CausalAttentionLayer};
pub use compose::{Chain, ChainLayer, Residual, ResidualLayer};
pub use data::TokenWindows;
pub use dropout::{Dropout, DropoutLayer};
pub use embedding::{Embedding, EmbeddingLayer};
pub use feed_forward::{FeedForward, FeedForwardLayer};
pub use hugging_face::HuggingFaceError;
pub use limits::Limits;
pub use linear::{Linear, LinearLayer};
pub use loss::{CrossEntropy, CrossEntropyLayer, MeanSquaredError, MeanSquaredErrorLayer};
pub use metric::Accuracy;
pub use networks::{Decoder, Gpt, Llama, Mlp};
pub use norm::{LayerNorm, LayerNormLayer};
pub use optim::{Adam, AdamW, LearningRate, Sgd};
pub use position::{PositionEmbedding, PositionEmbeddingLayer};
pub use rotary::{Rotary, RotaryScaling};
pub use sampling::Sampling;
pub use self_attention::CausalSelfAttention;

/// Attention and positions would need what came before; until they keep it, they say so.
fn no_generation(what: &str) -> brigade_layer::LayerError {
    let problem = "it cannot continue a sequence piece by piece yet; evaluate the whole sequence";
    brigade_layer::LayerError::spec(what, problem)
}
