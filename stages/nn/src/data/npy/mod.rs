//! Arrays of NumPy in files.

mod header;

use super::error::DataError;
use super::mapped::MappedArray;
use super::numbers::NumberType;
use brigade_layer::{MappedFile, Shape, Tensor};
use std::path::Path;
use std::sync::Arc;

pub use header::NpyHeader;

/// An array in a file that `numpy.save` wrote, of which only the rows that are asked for are read.
///
/// Numbers of f4 and f8 become f32, whole ones i32. Little-endian, in the order of C.
///
/// # Example
/// ```no_run
/// let images = brigade_nn::Npy::open("images.npy")?;
/// println!("{} of {}", images.shape(), images.number_type());
/// let some = images.rows(&[7, 3, 3])?;
/// # Ok::<(), brigade_nn::DataError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Npy(MappedArray);

impl Npy {
    /// Maps a file and reads its header.
    ///
    /// # Errors
    /// When it cannot be mapped, is no array of a kind that is read (see [`NpyHeader::parse`]), or
    /// is shorter or longer than its header says.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, DataError> {
        let parse = |path: &str, bytes: &[u8]| Ok(NpyHeader::parse(path, bytes)?.layout());
        Ok(Self(MappedArray::open(path.as_ref(), parse)?))
    }

    /// Its file.
    pub fn path(&self) -> &str {
        self.0.path()
    }

    /// Its axes.
    pub fn shape(&self) -> Shape {
        self.0.shape()
    }

    /// What its numbers are in the file.
    pub fn number_type(&self) -> NumberType {
        self.0.number_type()
    }

    /// All of it.
    ///
    /// # Errors
    /// When it has a whole number that no i32 holds, or there is no memory for it.
    pub fn tensor(&self) -> Result<Tensor, DataError> {
        self.0.tensor()
    }

    /// Some of its rows, in this order.
    ///
    /// # Shapes
    /// [rows, ...], the rest as it is in the file.
    ///
    /// # Errors
    /// As [`Self::tensor`], and when it has no such row.
    pub fn rows(&self, rows: &[usize]) -> Result<Tensor, DataError> {
        self.0.rows(rows)
    }

    /// The file, and where its numbers begin.
    pub(super) fn into_file(self) -> (Arc<MappedFile>, usize) {
        self.0.into_file()
    }
}
