//! Shapes of images, and of windows that slide over them.

use crate::shapes::expect;
use brigade_layer::{DType, LayerError, Shape, TensorSpec};
use serde::{Deserialize, Serialize};

/// Images of one shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Images {
    /// How many.
    pub(crate) rows: usize,
    /// Height and width.
    pub(crate) sides: [usize; 2],
    pub(crate) channels: usize,
}

impl Images {
    /// Those of an input of a layer.
    pub(crate) fn of(what: &str, input: TensorSpec) -> Result<Self, LayerError> {
        let shape = expect(what, input, DType::F32)?.shape;
        match *shape.axes() {
            [rows, height, width, channels] => Ok(Self {
                rows,
                sides: [height, width],
                channels,
            }),
            _ => Err(LayerError::shape(
                what,
                "[rows, height, width, channels]",
                shape,
            )),
        }
    }

    pub(crate) fn shape(&self) -> Shape {
        let [height, width] = self.sides;
        [self.rows, height, width, self.channels].into()
    }

    pub(crate) fn spec(&self) -> TensorSpec {
        TensorSpec::f32(self.shape())
    }

    /// Pixels of all of them.
    pub(crate) fn pixels(&self) -> usize {
        self.rows * self.sides[0] * self.sides[1]
    }
}

/// A window that slides over an image. Along each axis (height, width), an image of n pixels has
/// (n + 2 padding - kernel) / stride + 1 places for it, rounded down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Window {
    /// Height and width.
    pub kernel: [usize; 2],
    /// From one place to the next.
    pub stride: [usize; 2],
    /// Pixels that are added on each side.
    pub padding: [usize; 2],
}

impl Window {
    /// Of this height and width, one pixel from place to place, without padding.
    pub fn new(kernel: [usize; 2]) -> Self {
        Self {
            kernel,
            stride: [1; 2],
            padding: [0; 2],
        }
    }

    /// A square.
    pub fn square(side: usize) -> Self {
        Self::new([side; 2])
    }

    /// With so many pixels from place to place, along both axes.
    #[must_use]
    pub fn stride(mut self, stride: usize) -> Self {
        self.stride = [stride; 2];
        self
    }

    /// With so many pixels added on each side.
    #[must_use]
    pub fn padding(mut self, padding: usize) -> Self {
        self.padding = [padding; 2];
        self
    }

    /// Whether it is one.
    ///
    /// # Errors
    /// When a side or a stride is 0.
    pub(crate) fn check(&self, what: &str) -> Result<(), LayerError> {
        if self.kernel.contains(&0) || self.stride.contains(&0) {
            let problem = "sides and strides of a window must be at least 1";
            return Err(LayerError::spec(what, problem));
        }
        Ok(())
    }

    /// Height and width of the places in an image of these sides.
    ///
    /// # Errors
    /// When a side of the window or its stride is 0, the window is larger than the image, or the
    /// image is empty.
    pub(crate) fn places(&self, what: &str, sides: [usize; 2]) -> Result<[usize; 2], LayerError> {
        self.check(what)?;
        let mut places = [0; 2];
        for axis in 0..2 {
            // What is beyond any number is no size either.
            let padded = { self.padding[axis].checked_mul(2) }
                .filter(|_| sides[axis] > 0)
                .and_then(|padding| padding.checked_add(sides[axis]));
            let room = padded.and_then(|padded| padded.checked_sub(self.kernel[axis]));
            let Some(room) = room else {
                let ([height, width], [rows, columns]) = (sides, self.kernel);
                let problem = format!(
                    "a window of {rows} x {columns} with padding {:?} does not fit into an image of \
                     {height} x {width}: use larger images or less pooling",
                    self.padding
                );
                return Err(LayerError::spec(what, problem));
            };
            places[axis] = room / self.stride[axis] + 1;
        }
        Ok(places)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_has_so_many_places() {
        let of = |window: Window, side| window.places("test", [side, 7]).map(|places| places[0]);
        assert_eq!(of(Window::square(3).padding(1), 32), Ok(32));
        assert_eq!(of(Window::square(3).padding(1).stride(2), 32), Ok(16));
        assert_eq!(of(Window::square(2).stride(2), 5), Ok(2));
        assert_eq!(of(Window::square(7).padding(3).stride(2), 224), Ok(112));
        assert!(of(Window::square(6), 5).is_err());
        assert!(of(Window::square(2).stride(0), 5).is_err());
        assert!(of(Window::square(2).padding(1), 0).is_err());
        assert!(of(Window::square(2).padding(usize::MAX / 2), 5).is_err());
    }
}
