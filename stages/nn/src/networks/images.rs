//! What networks for images have in common.

use super::decoder::check_sizes;
use crate::{Conv2d, Window};
use brigade_layer::{Init, LayerError};

const MOST_SIDE: usize = 1 << 20;
pub(super) const MOST_CHANNELS: usize = 1 << 20;
/// How often images are halved at most: then the largest are of one pixel.
pub(super) const MOST_HALVINGS: usize = 20;

/// Whether images of [height, width, channels] and so many classes are no mistake.
pub(super) fn check_images(
    family: &str,
    [height, width, channels]: [usize; 3],
    classes: usize,
) -> Result<(), LayerError> {
    let sizes = [
        ("height of images", height, MOST_SIDE),
        ("width of images", width, MOST_SIDE),
        ("channels of images", channels, MOST_CHANNELS),
        ("classes", classes, i32::MAX as usize),
    ];
    check_sizes(family, sizes, 0)
}

/// What the initial weights of a convolution keep the size of.
#[derive(Clone, Copy)]
pub(super) enum Fan {
    /// Of y: elements of a filter.
    In,
    /// Of dx: elements of y that an element of x is part of.
    Out,
}

/// A convolution without a bias, as before a normalisation. Initial weights are normal with a
/// variance of 2 / fan, as behind a ReLU.
///
/// # Source
/// He, Zhang, Ren, Sun: "Delving deep into rectifiers", 2015.
pub(super) fn convolution([inputs, outputs]: [usize; 2], window: Window, fan: Fan) -> Conv2d {
    let channels = match fan {
        Fan::In => inputs,
        Fan::Out => outputs,
    };
    let elements = channels * window.kernel[0] * window.kernel[1];
    let deviation = (2.0 / elements.max(1) as f32).sqrt();
    let conv = Conv2d::new(inputs, outputs, window).without_bias();
    conv.init(Init::Normal(deviation))
}
