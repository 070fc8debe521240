//! Ready networks: configurations that describe themselves as a [`brigade_layer::Network`].

mod decoder;
mod encoder_decoder;
mod gpt;
mod images;
mod llama;
mod mlp;
mod resnet;
mod unet;
mod vgg;

pub use decoder::Decoder;
pub use encoder_decoder::EncoderDecoder;
pub use gpt::Gpt;
pub use llama::Llama;
pub use mlp::Mlp;
pub use resnet::{ResNet, Stem};
pub use unet::{UNet, UNetNorm};
pub use vgg::Vgg;
