//! Arrays as a dataset: each row is a sample.

use super::error::list_of;
use super::{DataError, Dataset, Idx, ImageArray, Npy, NumberType};
use brigade_layer::{DType, Element, LayerError, Shape, Tensor, Tensors};
use std::path::Path;

/// An array in memory or in a file.
#[derive(Clone, Debug)]
pub enum Array {
    /// In memory.
    Tensor(Tensor),
    /// In a file of NumPy.
    Npy(Npy),
    /// In an IDX file.
    Idx(Idx),
    /// One of these, read as images.
    Images(ImageArray),
}

impl Array {
    /// Its axes.
    pub(super) fn shape(&self) -> Shape {
        match self {
            Self::Tensor(tensor) => tensor.shape(),
            Self::Npy(npy) => npy.shape(),
            Self::Idx(idx) => idx.shape(),
            Self::Images(images) => images.shape(),
        }
    }

    /// What its numbers are where they lie.
    pub(super) fn number_type(&self) -> NumberType {
        match self {
            Self::Tensor(tensor) => match tensor.dtype() {
                DType::I32 => NumberType::I32,
                _ => NumberType::F32,
            },
            Self::Npy(npy) => npy.number_type(),
            Self::Idx(idx) => idx.number_type(),
            Self::Images(_) => NumberType::F32,
        }
    }

    fn rows(&self) -> usize {
        let shape = self.shape();
        match shape.rank() {
            0 => 0,
            _ => shape.rows(),
        }
    }

    pub(super) fn gather(&self, rows: &[usize]) -> Result<Tensor, LayerError> {
        match self {
            Self::Npy(npy) => Ok(npy.rows(rows)?),
            Self::Idx(idx) => Ok(idx.rows(rows)?),
            Self::Images(images) => images.rows(rows),
            Self::Tensor(tensor) => match tensor.dtype() {
                DType::I32 => gather::<i32>(tensor, rows),
                _ => gather::<f32>(tensor, rows),
            },
        }
    }
}

fn gather<T: Element>(tensor: &Tensor, rows: &[usize]) -> Result<Tensor, LayerError> {
    let (shape, numbers) = (tensor.shape(), tensor.slice::<T>()?);
    let shape = shape.with_rows(rows.len());
    let (each, mut all) = (shape.row_elements(), list_of(shape.elements())?);
    for row in rows {
        let row = row * each..(row + 1) * each;
        let numbers = numbers.get(row.clone()).ok_or(DataError::Outside {
            what: "numbers of an array".into(),
            range: row,
            len: numbers.len(),
        });
        all.extend_from_slice(numbers?);
    }
    Tensor::from_vec(shape, all)
}

impl From<Tensor> for Array {
    fn from(tensor: Tensor) -> Self {
        Self::Tensor(tensor)
    }
}

impl From<Npy> for Array {
    fn from(npy: Npy) -> Self {
        Self::Npy(npy)
    }
}

impl From<Idx> for Array {
    fn from(idx: Idx) -> Self {
        Self::Idx(idx)
    }
}

impl From<ImageArray> for Array {
    fn from(images: ImageArray) -> Self {
        Self::Images(images)
    }
}

/// Arrays as a dataset: row i of each belongs to sample i.
///
/// # Example
/// ```no_run
/// use brigade_nn::{Arrays, Batches};
/// let digits = Arrays::open_npy("images.npy", "labels.npy")?;
/// let data = Batches::shuffled(digits, 64, 1)?;
/// # Ok::<(), brigade_layer::LayerError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Arrays {
    inputs: Vec<Array>,
    targets: Vec<Array>,
    rows: usize,
}

impl Arrays {
    /// An array of inputs and one of targets.
    ///
    /// # Errors
    /// When they have different numbers of rows.
    pub fn new(inputs: impl Into<Array>, targets: impl Into<Array>) -> Result<Self, LayerError> {
        Self::several(vec![inputs.into()], vec![targets.into()])
    }

    /// The same of several, in the order of the network's feeds.
    ///
    /// # Errors
    /// When they have different numbers of rows, or there are none.
    pub fn several(inputs: Vec<Array>, targets: Vec<Array>) -> Result<Self, LayerError> {
        let mut all = inputs.iter().chain(&targets).map(Array::rows);
        let rows = all.next().unwrap_or(0);
        if let Some(other) = all.find(|other| *other != rows) {
            let problem = format!("one has {rows} rows and another {other}; each sample is a row");
            return Err(LayerError::spec("arrays", problem));
        }
        Ok(Self {
            inputs,
            targets,
            rows,
        })
    }

    /// Two files of NumPy: inputs and targets. Rows are read when they are asked for.
    ///
    /// # Errors
    /// When one cannot be read, or they have different numbers of rows.
    pub fn open_npy(
        inputs: impl AsRef<Path>,
        targets: impl AsRef<Path>,
    ) -> Result<Self, LayerError> {
        Self::new(Npy::open(inputs)?, Npy::open(targets)?)
    }

    /// Two IDX files, as those of MNIST: images, read as [`ImageArray`] has them, and their labels,
    /// or masks, i32 as they are. Rows are read when they are asked for.
    ///
    /// # Errors
    /// When one cannot be read, or they have different numbers of rows.
    pub fn open_idx(
        images: impl AsRef<Path>,
        labels: impl AsRef<Path>,
    ) -> Result<Self, LayerError> {
        let images = ImageArray::new(Idx::open(images)?)?;
        Self::new(images, Idx::open(labels)?)
    }

    fn gather(arrays: &[Array], samples: &[usize]) -> Result<Tensors, LayerError> {
        let mut tensors = Tensors::none();
        for array in arrays {
            tensors.push(Some(array.gather(samples)?))?;
        }
        Ok(tensors)
    }
}

impl Dataset for Arrays {
    fn len(&self) -> usize {
        self.rows
    }
    fn inputs(&self, samples: &[usize]) -> Result<Tensors, LayerError> {
        Self::gather(&self.inputs, samples)
    }
    fn targets(&self, samples: &[usize]) -> Result<Tensors, LayerError> {
        Self::gather(&self.targets, samples)
    }
}
