//! Tensors: contiguous, row-major, cheap to share. Users see `ndarray` views.

use crate::buffer::{Buffer, Data, Numbers};
use crate::slab::Plain;
use crate::{DType, LayerError, Shape, TensorSpec};
use ndarray::{Array, ArrayView2, ArrayViewD, ArrayViewMut2, ArrayViewMutD, Dimension, IxDyn};
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for i32 {}
}

/// A type that tensors are made of: `f32` or `i32`.
#[allow(private_bounds)]
pub trait Element:
    sealed::Sealed + Plain + Copy + Default + Send + Sync + fmt::Debug + 'static
{
    /// Its name as data.
    const DTYPE: DType;
    #[doc(hidden)]
    #[allow(private_interfaces)]
    fn wrap(numbers: Numbers<Self>) -> Data;
    #[doc(hidden)]
    #[allow(private_interfaces)]
    fn slice(data: &Data) -> Option<&[Self]>;
    #[doc(hidden)]
    #[allow(private_interfaces)]
    fn slice_mut(data: &mut Data) -> Option<&mut [Self]>;
}

macro_rules! element {
    ($type:ty, $variant:ident) => {
        impl Element for $type {
            const DTYPE: DType = DType::$variant;
            #[allow(private_interfaces)]
            fn wrap(numbers: Numbers<Self>) -> Data {
                Data::$variant(numbers)
            }
            #[allow(private_interfaces)]
            fn slice(data: &Data) -> Option<&[Self]> {
                if let Data::$variant(numbers) = data {
                    Some(numbers.read())
                } else {
                    None
                }
            }
            #[allow(private_interfaces)]
            fn slice_mut(data: &mut Data) -> Option<&mut [Self]> {
                if let Data::$variant(numbers) = data {
                    Some(numbers.write())
                } else {
                    None
                }
            }
        }
    };
}
element!(f32, F32);
element!(i32, I32);

/// A shared, read-only tensor. Cloning gives another handle, not another copy; dropping the last
/// handle sends the buffer back to the [`Pool`](crate::Pool) it came from, on whatever thread that
/// happens.
pub struct Tensor {
    /// `None` only while it is being dropped.
    buffer: Option<Arc<Buffer>>,
    offset: usize,
    shape: Shape,
}

impl Tensor {
    /// A tensor that takes over these numbers. It belongs to no pool.
    ///
    /// # Errors
    /// When `shape` has another number of elements.
    pub fn from_vec<T: Element>(
        shape: impl Into<Shape>,
        numbers: Vec<T>,
    ) -> Result<Self, LayerError> {
        let shape = shape.into();
        if shape.elements() != numbers.len() {
            return Err(LayerError::shape(
                "numbers of a tensor",
                format!("{} elements", numbers.len()),
                shape,
            ));
        }
        Ok(Self {
            buffer: Some(Buffer::homeless(T::wrap(Numbers::Own(numbers)))),
            offset: 0,
            shape,
        })
    }

    /// A tensor that takes over an array, without a copy when it is in standard layout.
    ///
    /// # Errors
    /// When the array has more than [`MAX_AXES`](crate::MAX_AXES) axes.
    pub fn from_array<T: Element, D: Dimension>(array: Array<T, D>) -> Result<Self, LayerError> {
        let shape = Shape::new(array.shape())?;
        let array = if array.is_standard_layout() {
            array
        } else {
            array.as_standard_layout().into_owned()
        };
        let (mut numbers, offset) = array.into_raw_vec_and_offset();
        let start = offset.unwrap_or(0);
        if start > 0 || numbers.len() > shape.elements() {
            numbers = numbers[start..start + shape.elements()].to_vec();
        }
        Self::from_vec(shape, numbers)
    }

    fn buffer(&self) -> &Arc<Buffer> {
        self.buffer
            .as_ref()
            .expect("a tensor has its buffer until it is dropped")
    }

    pub(crate) fn recharge(&mut self, change: impl FnOnce(&mut Arc<Buffer>)) {
        change(
            self.buffer
                .as_mut()
                .expect("a tensor has its buffer until it is dropped"),
        );
    }

    /// Its shape.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Type of its elements.
    pub fn dtype(&self) -> DType {
        self.buffer().storage.data.dtype()
    }

    /// Shape and element type.
    pub fn spec(&self) -> TensorSpec {
        TensorSpec {
            shape: self.shape,
            dtype: self.dtype(),
        }
    }

    /// Bytes of its elements.
    pub fn bytes(&self) -> u64 {
        self.spec().bytes()
    }

    /// Its elements in row-major order.
    ///
    /// # Errors
    /// When its elements are of another type.
    pub fn slice<T: Element>(&self) -> Result<&[T], LayerError> {
        let data = &self.buffer().storage.data;
        let all = T::slice(data).ok_or(LayerError::DType {
            expected: T::DTYPE,
            found: data.dtype(),
        })?;
        Ok(&all[self.offset..self.offset + self.shape.elements()])
    }

    /// Its elements, when they are `f32`.
    ///
    /// # Errors
    /// When its elements are of another type.
    pub fn f32(&self) -> Result<&[f32], LayerError> {
        self.slice()
    }

    /// Its elements, when they are `i32`.
    ///
    /// # Errors
    /// When its elements are of another type.
    pub fn i32(&self) -> Result<&[i32], LayerError> {
        self.slice()
    }

    /// An `ndarray` view.
    ///
    /// # Errors
    /// When its elements are not `f32`.
    pub fn view(&self) -> Result<ArrayViewD<'_, f32>, LayerError> {
        let view = ArrayViewD::from_shape(IxDyn(self.shape.axes()), self.f32()?);
        Ok(view.expect("a tensor's slice has its shape's length"))
    }

    /// The tensor seen as a matrix: all axes but the last are its rows.
    ///
    /// # Errors
    /// When its elements are not `f32`.
    pub fn matrix(&self) -> Result<ArrayView2<'_, f32>, LayerError> {
        let view = ArrayView2::from_shape(self.shape.matrix(), self.f32()?);
        Ok(view.expect("a tensor's slice has its shape's length"))
    }

    /// Some of its rows (first axis), without a copy.
    ///
    /// # Errors
    /// When it has fewer rows.
    pub fn rows(&self, rows: Range<usize>) -> Result<Self, LayerError> {
        if rows.start > rows.end || rows.end > self.shape.rows() {
            return Err(LayerError::shape(
                "rows of a tensor",
                format!("at least {} rows", rows.end),
                self.shape,
            ));
        }
        let offset = self.offset + rows.start * self.shape.row_elements();
        let shape = self.shape.with_rows(rows.len());
        Ok(Self {
            buffer: self.buffer.clone(),
            offset,
            shape,
        })
    }

    /// The same elements under another shape.
    ///
    /// # Errors
    /// When `shape` has another number of elements.
    pub fn reshape(mut self, shape: impl Into<Shape>) -> Result<Self, LayerError> {
        let shape = shape.into();
        if shape.elements() != self.shape.elements() {
            return Err(LayerError::shape("reshape", shape.to_string(), self.shape));
        }
        self.shape = shape;
        Ok(self)
    }

    /// Write access, when this is the only handle; otherwise the tensor comes back unchanged.
    ///
    /// # Errors
    /// The tensor itself, when other handles exist or its elements are of another type.
    pub fn try_mut<T: Element>(mut self) -> Result<TensorMut<T>, Self> {
        let unique = self.dtype() == T::DTYPE
            && self
                .buffer
                .as_mut()
                .and_then(Arc::get_mut)
                .is_some_and(|buffer| Arc::get_mut(&mut buffer.storage).is_some());
        if unique {
            Ok(TensorMut {
                tensor: self,
                element: PhantomData,
            })
        } else {
            Err(self)
        }
    }
}

impl Clone for Tensor {
    fn clone(&self) -> Self {
        Self {
            buffer: self.buffer.clone(),
            offset: self.offset,
            shape: self.shape,
        }
    }
}

impl Drop for Tensor {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            Buffer::release(buffer);
        }
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({})", self.spec())
    }
}

/// A tensor with one handle, which may be written. [`TensorMut::freeze`] makes it shareable.
#[derive(Debug)]
pub struct TensorMut<T: Element = f32> {
    tensor: Tensor,
    element: PhantomData<T>,
}

impl<T: Element> TensorMut<T> {
    pub(crate) fn from_unique(buffer: Arc<Buffer>, shape: Shape) -> Self {
        Self {
            tensor: Tensor {
                buffer: Some(buffer),
                offset: 0,
                shape,
            },
            element: PhantomData,
        }
    }

    /// Its shape.
    pub fn shape(&self) -> Shape {
        self.tensor.shape
    }

    /// Bytes of its elements.
    pub fn bytes(&self) -> u64 {
        self.tensor.bytes()
    }

    /// Its elements in row-major order.
    pub fn data(&mut self) -> &mut [T] {
        let range = self.tensor.offset..self.tensor.offset + self.tensor.shape.elements();
        let all = (self.tensor.buffer.as_mut())
            .and_then(Arc::get_mut)
            .and_then(|buffer| Arc::get_mut(&mut buffer.storage))
            .and_then(|storage| T::slice_mut(&mut storage.data));
        &mut all.expect("a writable tensor has one handle and its own element type")[range]
    }

    /// Its elements, to read.
    pub fn read(&self) -> &[T] {
        self.tensor
            .slice()
            .expect("a writable tensor has its own element type")
    }

    /// The tensor, shareable from now on and no longer writable.
    pub fn freeze(self) -> Tensor {
        self.tensor
    }
}

impl TensorMut<f32> {
    /// A writable `ndarray` view.
    pub fn view_mut(&mut self) -> ArrayViewMutD<'_, f32> {
        let shape = self.shape();
        ArrayViewMutD::from_shape(IxDyn(shape.axes()), self.data())
            .expect("a tensor's slice has its shape's length")
    }

    /// The tensor as a writable matrix: all axes but the last are its rows.
    pub fn matrix_mut(&mut self) -> ArrayViewMut2<'_, f32> {
        let shape = self.shape().matrix();
        ArrayViewMut2::from_shape(shape, self.data())
            .expect("a tensor's slice has its shape's length")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn rows_and_arrays_are_views_of_one_buffer() {
        let tensor = Tensor::from_array(array![[1.0f32, 2.0], [3.0, 4.0], [5.0, 6.0]]).unwrap();
        let tail = tensor.rows(1..3).unwrap();
        assert_eq!(tail.f32().unwrap(), &[3.0, 4.0, 5.0, 6.0]);
        assert_eq!(tail.matrix().unwrap(), array![[3.0, 4.0], [5.0, 6.0]]);
        assert!(
            tail.try_mut::<f32>().is_err(),
            "the whole tensor still lives"
        );
        assert!(tensor.rows(2..4).is_err());
    }

    #[test]
    fn a_transposed_array_is_brought_into_standard_layout() {
        let tensor = Tensor::from_array(array![[1.0f32, 2.0], [3.0, 4.0]].reversed_axes()).unwrap();
        assert_eq!(tensor.f32().unwrap(), &[1.0, 3.0, 2.0, 4.0]);
        assert!(tensor.i32().is_err());
    }
}
