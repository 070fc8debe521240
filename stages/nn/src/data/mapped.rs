//! Arrays in mapped files, whatever the format around them.

use super::error::{DataError, list_of};
use super::numbers::{ByteOrder, NumberType};
use brigade_layer::{MappedFile, Shape, Tensor};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// What the header of a file says of its array.
#[derive(Clone, Copy, Debug)]
pub(super) struct ArrayLayout {
    pub(super) shape: Shape,
    pub(super) number_type: NumberType,
    pub(super) order: ByteOrder,
    /// Where the numbers begin, in bytes.
    pub(super) start: usize,
}

impl ArrayLayout {
    /// Where the numbers end, in bytes.
    pub(super) fn end(&self) -> Option<usize> {
        let bytes = { self.shape.elements() }.checked_mul(self.number_type.size_bytes());
        bytes?.checked_add(self.start)
    }
}

/// An array in a file, of which only the rows that are asked for are read.
#[derive(Clone, Debug)]
pub(super) struct MappedArray {
    path: String,
    file: Arc<MappedFile>,
    layout: ArrayLayout,
}

impl MappedArray {
    /// Maps a file whose header `parse` reads, and which is as long as that says.
    pub(super) fn open(
        path: &Path,
        parse: impl FnOnce(&str, &[u8]) -> Result<ArrayLayout, DataError>,
    ) -> Result<Self, DataError> {
        let file = MappedFile::open(path).map_err(|error| DataError::reading(path, &error))?;
        let path = path.display().to_string();
        let (layout, has) = (parse(&path, file.bytes())?, file.bytes().len());
        if layout.end() != Some(has) {
            let numbers = format!("{} of {}", layout.shape, layout.number_type);
            let problem = format!("its header says {numbers}, and it has {has} bytes");
            return Err(DataError::array(&path, problem));
        }
        let file = Arc::new(file);
        Ok(Self { path, file, layout })
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn shape(&self) -> Shape {
        self.layout.shape
    }

    pub(super) fn number_type(&self) -> NumberType {
        self.layout.number_type
    }

    /// All of it.
    pub(super) fn tensor(&self) -> Result<Tensor, DataError> {
        let all = 0..self.shape().elements();
        self.tensor_of(self.shape(), std::iter::once(all))
    }

    /// Some of its rows, in this order.
    pub(super) fn rows(&self, rows: &[usize]) -> Result<Tensor, DataError> {
        let shape = self.shape();
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
        let (count, number_type) = (shape.elements(), self.number_type());
        let order = self.layout.order;
        let bytes = |range: &Range<usize>| {
            let [from, to] = [range.start, range.end].map(|at| at * number_type.size_bytes());
            let bytes = self.file.bytes().get(self.layout.start..);
            bytes
                .and_then(|bytes| bytes.get(from..to))
                .unwrap_or_default()
        };
        let tensor = if number_type.is_integer() {
            let mut numbers = list_of(count)?;
            for range in ranges {
                let read = number_type.integers(order, bytes(&range), &mut numbers);
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
                number_type.floats(order, bytes(&range), &mut numbers);
            }
            Tensor::from_vec(shape, numbers)
        };
        tensor.map_err(|error| DataError::array(&self.path, error.to_string()))
    }

    /// The file, and where its numbers begin.
    pub(super) fn into_file(self) -> (Arc<MappedFile>, usize) {
        (self.file, self.layout.start)
    }
}
