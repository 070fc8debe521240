//! Layers on images.
//!
//! An image is [rows, height, width, channels], in that order in memory ("channels last"), as
//! image files and NPY arrays have it: so every pixel is a row of a matrix, and what works on the
//! last axis (losses, accuracy, [`Linear`](crate::Linear)) works on pixels.

mod conv;
mod shape;

pub use conv::{Conv2d, Conv2dLayer};
pub(crate) use shape::Images;
pub use shape::Window;
