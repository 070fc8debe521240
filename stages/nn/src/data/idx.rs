//! Arrays in IDX files, the format of MNIST.
//!
//! Four bytes (0, 0, type, number of axes), the size of each axis and then the numbers, all of it
//! big-endian, as Yann LeCun's page on MNIST describes it.

use super::error::DataError;
use super::mapped::{ArrayLayout, MappedArray};
use super::numbers::{ByteOrder, NumberType};
use brigade_layer::{Shape, Tensor};
use std::path::Path;

/// What the header of an IDX file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdxHeader {
    /// What its numbers are.
    pub number_type: NumberType,
    /// Its axes, in the order of C.
    pub shape: Shape,
    /// Where the numbers begin, in bytes.
    pub start: usize,
}

impl IdxHeader {
    /// Reads the header of a file, of which at least that is there.
    ///
    /// # Errors
    /// [`DataError::Array`] when it is none, or compressed, or has more axes or larger ones than a
    /// tensor may have.
    pub fn parse(path: &str, bytes: &[u8]) -> Result<Self, DataError> {
        Self::read(bytes).map_err(|problem| DataError::array(path, problem))
    }

    /// Where the numbers end, in bytes.
    pub fn end(&self) -> Option<usize> {
        self.layout().end()
    }

    fn layout(&self) -> ArrayLayout {
        ArrayLayout {
            shape: self.shape,
            number_type: self.number_type,
            order: ByteOrder::Big,
            start: self.start,
        }
    }

    fn read(bytes: &[u8]) -> Result<Self, String> {
        let (code, axes, rest) = match *bytes {
            [0x1F, 0x8B, ..] => {
                return Err("it is compressed; decompress it first, with gunzip".into());
            }
            [0, 0, code, axes, ref rest @ ..] => (code, usize::from(axes), rest),
            _ => return Err("it does not begin with 0, 0, type, axes, as IDX files do".into()),
        };
        let number_type = NumberType::of_idx(code).ok_or_else(|| {
            format!("its numbers are of type 0x{code:02X}, and 08, 09, 0B, 0C, 0D and 0E are known")
        })?;
        let sizes = rest.get(..4 * axes).ok_or("its header is cut off")?;
        let (sizes, _) = sizes.as_chunks();
        let sizes = sizes.iter().map(|size| u32::from_be_bytes(*size) as usize);
        let shape = Shape::new(&sizes.collect::<Vec<_>>()).map_err(|error| error.to_string())?;
        Ok(Self {
            number_type,
            shape,
            start: 4 + 4 * axes,
        })
    }
}

/// An array in an IDX file, as those of MNIST and its relatives, of which only the rows that are
/// asked for are read.
///
/// Numbers of f32 and f64 become f32, whole ones i32. [`ImageArray`](crate::ImageArray) makes
/// images of it.
///
/// # Example
/// ```no_run
/// let labels = brigade_nn::Idx::open("train-labels-idx1-ubyte")?;
/// println!("{} of {}", labels.shape(), labels.number_type());
/// let some = labels.rows(&[7, 3, 3])?;
/// # Ok::<(), brigade_nn::DataError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Idx(MappedArray);

impl Idx {
    /// Maps a file and reads its header.
    ///
    /// # Errors
    /// When it cannot be mapped, is no IDX file (see [`IdxHeader::parse`]), or is shorter or longer
    /// than its header says.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, DataError> {
        let parse = |path: &str, bytes: &[u8]| Ok(IdxHeader::parse(path, bytes)?.layout());
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
    /// When there is no memory for it.
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
}
