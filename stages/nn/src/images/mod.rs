//! Layers on images.
//!
//! An image is [rows, height, width, channels], in that order in memory ("channels last"), as
//! image files and NPY arrays have it: so every pixel is a row of a matrix, and what works on the
//! last axis (losses, accuracy, [`Linear`](crate::Linear)) works on pixels.

mod batch_norm;
mod conv;
mod flatten;
mod group_norm;
mod pool;
mod shape;
mod upsample;

pub use batch_norm::{BatchNorm2d, BatchNorm2dLayer, BatchNormStash};
pub use conv::{Conv2d, Conv2dLayer};
pub use flatten::{Flatten, FlattenLayer};
pub use group_norm::{GroupNorm, GroupNormLayer};
pub use pool::{
    AvgPool2d, AvgPool2dLayer, GlobalAvgPool2d, GlobalAvgPool2dLayer, MaxPool2d, MaxPool2dLayer,
};
pub(crate) use shape::Images;
pub use shape::Window;
pub use upsample::{Upsample, UpsampleLayer, UpsampleMode};

use brigade_layer::{Ctx, LayerError, Tensor, TensorMut};

/// Where to write what this tensor becomes: into itself if it is nobody else's, else beside it.
fn place(tensor: Tensor, cx: &Ctx<'_>) -> Result<(TensorMut, Option<Tensor>), LayerError> {
    match tensor.try_mut() {
        Ok(own) => Ok((own, None)),
        Err(shared) => Ok((cx.f32(shared.shape())?, Some(shared))),
    }
}
