//! Layers on images.
//!
//! An image is [rows, height, width, channels], in that order in memory ("channels last"), as
//! image files and NPY arrays have it: so every pixel is a row of a matrix, and what works on the
//! last axis (losses, accuracy, [`Linear`](crate::Linear)) works on pixels.

mod flatten;
mod pool;
#[allow(dead_code)]
mod shape;
mod upsample;

pub use flatten::{Flatten, FlattenLayer};
pub use pool::{
    AvgPool2d, AvgPool2dLayer, GlobalAveragePool, GlobalAveragePoolLayer, MaxPool2d, MaxPool2dLayer,
};
pub use shape::Window;
pub use upsample::{Upsample, UpsampleLayer, UpsampleMode};
