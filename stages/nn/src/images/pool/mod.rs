//! Layers that make images smaller: what a window sees becomes one pixel.

mod average;
mod global;
mod max;

pub use average::{AvgPool2d, AvgPool2dLayer};
pub use global::{GlobalAvgPool2d, GlobalAvgPool2dLayer};
pub use max::{MaxPool2d, MaxPool2dLayer};

use super::{Window, shape::Images};
use crate::kernels::window::Slide;
use crate::shapes::one_input;
use brigade_layer::{LayerError, Shape, TensorSpec};

/// A window over images: the images, those that are made of them, and how it slides.
struct Pooling {
    x: Images,
    y: Images,
    slides: [Slide; 2],
}

impl Pooling {
    fn new(what: &str, window: Window, inputs: &[TensorSpec]) -> Result<Self, LayerError> {
        let x = Images::of(what, one_input(what, inputs)?)?;
        let Window {
            kernel,
            stride,
            padding,
        } = window;
        let places = window.places(what, x.sides)?;
        if (0..2).any(|axis| padding[axis] > kernel[axis] / 2) {
            let problem = format!(
                "a padding of {padding:?} is more than half of a window of {} x {}: some places \
                 would see no pixel",
                kernel[0], kernel[1]
            );
            return Err(LayerError::spec(what, problem));
        }
        let area = kernel[0].checked_mul(kernel[1]);
        if area.is_none_or(|area| i32::try_from(area).is_err()) {
            let problem = "a window must have less than 2^31 pixels";
            return Err(LayerError::spec(what, problem));
        }
        let slide = |axis| Slide {
            kernel: kernel[axis],
            stride: stride[axis],
            padding: padding[axis],
            pixels: x.sides[axis],
            places: places[axis],
        };
        let y = Images { sides: places, ..x };
        Shape::new(y.shape().axes())?;
        Ok(Self {
            x,
            y,
            slides: [slide(0), slide(1)],
        })
    }

    /// Pixels of a window.
    fn area(&self) -> usize {
        self.slides[0].kernel * self.slides[1].kernel
    }

    /// Numbers that all places see, and those that see a number of x, one for each.
    fn flops(&self) -> u64 {
        (self.y.shape().elements() as u64).saturating_mul(self.area() as u64)
    }
}
