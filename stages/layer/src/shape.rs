//! Shapes and element types.

use crate::LayerError;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The most axes a tensor can have.
pub const MAX_AXES: usize = 6;

/// The most elements of a shape that is read or computed: far more than any machine has, and few
/// enough that what layers do with each can be counted.
const MAX_ELEMENTS: u64 = 1 << 48;

/// Lengths of a tensor's axes, outermost first, kept inline. The first axis counts rows (samples).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<usize>", into = "Vec<usize>")]
pub struct Shape {
    axes: [usize; MAX_AXES],
    rank: u8,
}

impl Shape {
    /// A shape with these axes.
    ///
    /// # Errors
    /// With more than [`MAX_AXES`] axes, or more than 2^48 elements.
    pub fn new(axes: &[usize]) -> Result<Self, LayerError> {
        if axes.len() > MAX_AXES {
            let problem = format!("{} axes; the most is {MAX_AXES}", axes.len());
            return Err(LayerError::spec("shape", problem));
        }
        if axes
            .iter()
            .try_fold(1usize, |n, &axis| n.checked_mul(axis))
            .is_none_or(|elements| elements as u64 > MAX_ELEMENTS)
        {
            return Err(LayerError::spec(
                "shape",
                format!("{axes:?} has more than {MAX_ELEMENTS} elements"),
            ));
        }
        Ok(Self::from_axes(axes))
    }

    fn from_axes(axes: &[usize]) -> Self {
        let mut inline = [1; MAX_AXES];
        inline[..axes.len()].copy_from_slice(axes);
        Self {
            axes: inline,
            rank: axes.len() as u8,
        }
    }

    /// The axes.
    pub fn axes(&self) -> &[usize] {
        &self.axes[..self.rank as usize]
    }

    /// How many axes.
    pub fn rank(&self) -> usize {
        self.rank as usize
    }

    /// How many elements: the largest number there is when there are more.
    pub fn elements(&self) -> usize {
        product(self.axes())
    }

    /// Length of the first axis: the number of samples. 1 for a scalar.
    pub fn rows(&self) -> usize {
        self.axes[0]
    }

    /// Length of the last axis. 1 for a scalar.
    pub fn last(&self) -> usize {
        self.axes().last().copied().unwrap_or(1)
    }

    /// The shape seen as a matrix: (all axes but the last, the last).
    pub fn matrix(&self) -> (usize, usize) {
        let leading = &self.axes()[..self.rank().saturating_sub(1)];
        (product(leading), self.last())
    }

    /// Elements of one row.
    pub fn row_elements(&self) -> usize {
        product(self.axes().get(1..).unwrap_or_default())
    }

    /// The same shape with another number of rows.
    pub fn with_rows(mut self, rows: usize) -> Self {
        self.axes[0] = rows;
        self.rank = self.rank.max(1);
        self
    }

    /// The same shape with another length of the last axis.
    pub fn with_last(mut self, last: usize) -> Self {
        self.rank = self.rank.max(1);
        self.axes[self.rank as usize - 1] = last;
        self
    }

    /// The shape with `rows` put in front of it.
    ///
    /// # Errors
    /// When that makes more than [`MAX_AXES`] axes or too many elements.
    pub fn batched(&self, rows: usize) -> Result<Self, LayerError> {
        let axes: Vec<usize> = std::iter::once(rows)
            .chain(self.axes().iter().copied())
            .collect();
        Self::new(&axes)
    }
}

/// The largest number there is when it is more.
fn product(axes: &[usize]) -> usize {
    axes.iter()
        .fold(1, |all: usize, axis| all.saturating_mul(*axis))
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(axes: [usize; N]) -> Self {
        const { assert!(N <= MAX_AXES, "a tensor has at most 6 axes") };
        Self::from_axes(&axes)
    }
}

impl TryFrom<Vec<usize>> for Shape {
    type Error = LayerError;
    fn try_from(axes: Vec<usize>) -> Result<Self, LayerError> {
        Self::new(&axes)
    }
}

impl From<Shape> for Vec<usize> {
    fn from(shape: Shape) -> Self {
        shape.axes().to_vec()
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.axes())
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub enum DType {
    /// 32-bit floating point. The only type that carries gradients.
    F32,
    /// 32-bit signed integer: token ids, class numbers.
    I32,
}

impl DType {
    /// Bytes of one element.
    pub const fn size_bytes(self) -> usize {
        match self {
            Self::F32 | Self::I32 => 4,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::I32 => "i32",
        })
    }
}

/// Shape and element type of a tensor that need not exist yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TensorSpec {
    /// Its shape.
    pub shape: Shape,
    /// Its element type.
    pub dtype: DType,
}

impl TensorSpec {
    /// A tensor of `f32`.
    pub fn f32(shape: impl Into<Shape>) -> Self {
        Self {
            shape: shape.into(),
            dtype: DType::F32,
        }
    }

    /// A tensor of `i32`.
    pub fn i32(shape: impl Into<Shape>) -> Self {
        Self {
            shape: shape.into(),
            dtype: DType::I32,
        }
    }

    /// Bytes of its elements.
    pub fn bytes(&self) -> u64 {
        (self.shape.elements() as u64).saturating_mul(self.dtype.size_bytes() as u64)
    }

    /// Whether a gradient can belong to it.
    pub fn differentiable(&self) -> bool {
        self.dtype == DType::F32
    }
}

impl fmt::Display for TensorSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.dtype, self.shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing has any number of columns.
    #[test]
    fn sizes_of_nothing_are_numbers() {
        let most = usize::MAX;
        let shape = Shape::new(&[0, most, most]).unwrap();
        assert_eq!((shape.elements(), shape.row_elements()), (0, most));
        assert_eq!(shape.matrix(), (0, most));
        assert_eq!(Shape::from([2, most, 0]).row_elements(), 0);
        assert_eq!(Shape::from([]).row_elements(), 1);
    }
}
