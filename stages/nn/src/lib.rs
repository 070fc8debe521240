//! What a stage computes: layers, losses, optimizers and ready networks, on `ndarray` and `gemm`.
//!
//! | where | what |
//! |---|---|
//! | [`Linear`], [`Embedding`], [`PositionEmbedding`], [`LayerNorm`], [`RmsNorm`] | layers with parameters |
//! | [`Conv2d`], [`BatchNorm2d`], [`GroupNorm`] | layers on images with parameters |
//! | [`MaxPool2d`], [`AvgPool2d`], [`GlobalAvgPool2d`], [`Upsample`], [`Flatten`] | and without: images made smaller, larger, flat |
//! | [`Activation`], [`Dropout`], [`CausalAttention`] | layers without |
//! | [`CausalSelfAttention`], [`GroupedQueryAttention`], [`MultiHeadAttention`] | attention of transformer blocks |
//! | [`FeedForward`], [`GatedFeedForward`] | their other halves |
//! | [`Chain`], [`Residual`] | layers made of layers |
//! | [`Sum`], [`Concatenate`] | layers with several inputs: where skips end |
//! | [`CrossEntropy`], [`MeanSquaredError`] | losses |
//! | [`Accuracy`] | what is measured beside the loss |
//! | [`Sgd`], [`Adam`], [`AdamW`], [`LearningRate`] | rules that change parameters |
//! | [`Mlp`], [`Gpt`], [`Llama`], [`Decoder`] | networks; decoders from and to Hugging Face's `config.json` |
//! | [`ResNet`], [`Vgg`], [`UNet`] | networks for images |
//! | [`EncoderDecoder`] | a network from sequences to sequences |
//! | [`Tokens`], [`TokenWindows`], [`Sampling`] | tokens in and out |
//! | [`Dataset`], [`Arrays`], [`Npy`], [`Idx`], [`Batches`] | samples, shuffled epoch by epoch |
//! | [`ImageArray`], [`Augmented`] | images of arrays; flipped and cropped at random |
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
mod concatenate;
mod data;
mod dropout;
mod embedding;
mod feed_forward;
mod gated_feed_forward;
mod hugging_face;
mod images;
mod kernels;
mod limits;
mod linear;
mod loss;
mod metric;
mod networks;
mod norm;
mod optim;
mod position;
mod rms_norm;
mod rotary;
mod sampling;
mod shapes;
mod sum;

pub use activation::{Activation, ActivationLayer};
pub use attention::{
    CausalAttention, CausalAttentionLayer, CausalSelfAttention, GroupedQueryAttention,
    GroupedQueryAttentionLayer, MultiHeadAttention, MultiHeadAttentionLayer,
};
pub use compose::{Chain, ChainLayer, Residual, ResidualLayer};
pub use concatenate::{Concatenate, ConcatenateLayer};
pub use data::{
    Array, Arrays, Augmented, Batches, DataError, Dataset, Idx, IdxHeader, ImageArray, Npy,
    NpyHeader, NumberType, Position, TokenWindows, Tokens,
};
pub use dropout::{Dropout, DropoutLayer};
pub use embedding::{Embedding, EmbeddingLayer};
pub use feed_forward::{FeedForward, FeedForwardLayer};
pub use gated_feed_forward::{GatedFeedForward, GatedFeedForwardLayer};
pub use hugging_face::HuggingFaceError;
pub use images::{
    AvgPool2d, AvgPool2dLayer, BatchNorm2d, BatchNorm2dLayer, BatchNormStash, Conv2d, Conv2dLayer,
    Flatten, FlattenLayer, GlobalAvgPool2d, GlobalAvgPool2dLayer, GroupNorm, GroupNormLayer,
    MaxPool2d, MaxPool2dLayer, Upsample, UpsampleLayer, UpsampleMode, Window,
};
pub use limits::Limits;
pub use linear::{Linear, LinearLayer};
pub use loss::{CrossEntropy, CrossEntropyLayer, MeanSquaredError, MeanSquaredErrorLayer};
pub use metric::Accuracy;
pub use networks::{Decoder, EncoderDecoder, Gpt, Llama, Mlp, ResNet, Stem, UNet, UNetNorm, Vgg};
pub use norm::{LayerNorm, LayerNormLayer};
pub use optim::{Adam, AdamW, Group, LearningRate, Sgd};
pub use position::{PositionEmbedding, PositionEmbeddingLayer};
pub use rms_norm::{RmsNorm, RmsNormLayer};
pub use rotary::{Rotary, RotaryScaling};
pub use sampling::Sampling;
pub use sum::{Sum, SumLayer};
