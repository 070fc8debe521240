//! Arrays of NumPy in files.

mod header;

use super::NumberType;
use super::error::{DataError, list_of};
use brigade_layer::{MappedFile, Shape, Tensor};
use std::ops::Range;
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
pub struct Npy {
    path: String,
    header: NpyHeader,
    file: Arc<MappedFile>,
}

impl Npy {
    /// Maps a file and reads its header.
    ///
    /// # Errors
    /// When it cannot be mapped, is no array of a kind that is read (see [`NpyHeader::parse`]), or
    /// is shorter or longer than its header says.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, DataError> {
        let path = path.as_ref();
        let file = MappedFile::open(path).map_err(|error| DataError::reading(path, &error))?;
        let path = path.display().to_string();
        let (header, has) = (NpyHeader::parse(&path, file.bytes())?, file.bytes().len());
        if header.end() != Some(has) {
            let numbers = format!("{} of {}", header.shape, header.number_type);
            let problem = format!("its header says {numbers}, and it has {has} bytes");
            return Err(DataError::npy(&path, problem));
        }
        let file = Arc::new(file);
        Ok(Self { path, header, file })
    }

    /// Its file.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Its axes.
    pub fn shape(&self) -> Shape {
        self.header.shape
    }

    /// What its numbers are in the file.
    pub fn number_type(&self) -> NumberType {
        self.header.number_type
    }

    /// All of it.
    ///
    /// # Errors
    /// When it has a whole number that no i32 holds, or there is no memory for it.
    pub fn tensor(&self) -> Result<Tensor, DataError> {
        let all = 0..self.header.shape.elements();
        self.tensor_of(self.header.shape, std::iter::once(all))
    }

    /// Some of its rows, in this order.
    ///
    /// # Shapes
    /// [rows, ...], the rest as it is in the file.
    ///
    /// # Errors
    /// As [`Self::tensor`], and when it has no such row.
    pub fn rows(&self, rows: &[usize]) -> Result<Tensor, DataError> {
        let shape = self.header.shape;
        let has = match shape.rank() {
            0 => 0,
            _ => shape.rows(),
        };
        if let Some(row) = rows.iter().find(|row| **row >= has) {
            return Err(DataError::Outside {
                what: format!("{}: rows", self.path),
                range: *row..row.saturating_add(1),
                len: has,
            });
        }
        let each = shape.row_elements();
        let numbers = rows.iter().map(|row| row * each..(row + 1) * each);
        self.tensor_of(shape.with_rows(rows.len()), numbers)
    }

    fn tensor_of(
        &self,
        shape: Shape,
        ranges: impl Iterator<Item = Range<usize>>,
    ) -> Result<Tensor, DataError> {
        let (count, number_type) = (shape.elements(), self.header.number_type);
        let bytes = |range: &Range<usize>| {
            let [from, to] = [range.start, range.end].map(|at| at * number_type.size_bytes());
            let bytes = self.file.bytes().get(self.header.start..);
            bytes
                .and_then(|bytes| bytes.get(from..to))
                .unwrap_or_default()
        };
        let tensor = if number_type.is_integer() {
            let mut numbers = list_of(count)?;
            for range in ranges {
                let read = number_type.integers(bytes(&range), &mut numbers);
                read.map_err(|(at, value)| DataError::TooLarge {
                    path: self.path.clone(),
                    position: range.start + at,
                    value,
                })?;
            }
            Tensor::from_vec(shape, numbers)
        } else {
            let mut numbers = list_of(count)?;
            for range in ranges {
                number_type.floats(bytes(&range), &mut numbers);
            }
            Tensor::from_vec(shape, numbers)
        };
        tensor.map_err(|error| DataError::npy(&self.path, error.to_string()))
    }

    /// The file, and where its numbers begin.
    pub(super) fn into_file(self) -> (Arc<MappedFile>, usize) {
        (self.file, self.header.start)
    }
}
