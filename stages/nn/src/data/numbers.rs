//! Numbers in files, made into those of tensors.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A type of number in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum NumberType {
    /// Single precision.
    F32,
    /// Double precision; becomes single.
    F64,
    /// One byte with sign.
    I8,
    /// Two bytes with sign.
    I16,
    /// Four bytes with sign.
    I32,
    /// Eight bytes with sign; must fit into four.
    I64,
    /// One byte.
    U8,
    /// Two bytes.
    U16,
    /// Four bytes; must fit into 31 bits.
    U32,
}

impl NumberType {
    const ALL: [Self; 9] = [
        Self::F32,
        Self::F64,
        Self::I8,
        Self::I16,
        Self::I32,
        Self::I64,
        Self::U8,
        Self::U16,
        Self::U32,
    ];

    /// Bytes of a number.
    pub const fn size_bytes(self) -> usize {
        match self {
            Self::I8 | Self::U8 => 1,
            Self::I16 | Self::U16 => 2,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F64 | Self::I64 => 8,
        }
    }

    /// Whether it is for whole numbers only.
    pub const fn is_integer(self) -> bool {
        !matches!(self, Self::F32 | Self::F64)
    }

    /// Its name in NumPy, without the order of bytes.
    const fn numpy(self) -> &'static str {
        match self {
            Self::F32 => "f4",
            Self::F64 => "f8",
            Self::I8 => "i1",
            Self::I16 => "i2",
            Self::I32 => "i4",
            Self::I64 => "i8",
            Self::U8 => "u1",
            Self::U16 => "u2",
            Self::U32 => "u4",
        }
    }

    /// The type that NumPy names so, without the order of bytes.
    pub(super) fn of_numpy(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.numpy() == name)
    }

    /// The type of this code in an IDX file.
    pub(super) const fn of_idx(code: u8) -> Option<Self> {
        Some(match code {
            0x08 => Self::U8,
            0x09 => Self::I8,
            0x0B => Self::I16,
            0x0C => Self::I32,
            0x0D => Self::F32,
            0x0E => Self::F64,
            _ => return None,
        })
    }

    /// Appends the whole numbers in these bytes, or says which of them no i32 holds.
    pub(super) fn integers(
        self,
        order: ByteOrder,
        bytes: &[u8],
        to: &mut Vec<i32>,
    ) -> Result<(), (usize, i64)> {
        match self {
            Self::I8 => narrow(order.read(bytes, i8::from_le_bytes), to),
            Self::I16 => narrow(order.read(bytes, i16::from_le_bytes), to),
            Self::I32 => narrow(order.read(bytes, i32::from_le_bytes), to),
            Self::I64 => narrow(order.read(bytes, i64::from_le_bytes), to),
            Self::U8 => narrow(order.read(bytes, u8::from_le_bytes), to),
            Self::U16 => narrow(order.read(bytes, u16::from_le_bytes), to),
            Self::U32 => narrow(order.read(bytes, u32::from_le_bytes), to),
            // Whoever wants whole numbers has looked whether they are.
            Self::F32 | Self::F64 => Ok(()),
        }
    }

    /// Appends the numbers in these bytes, in single precision.
    pub(super) fn floats(self, order: ByteOrder, bytes: &[u8], to: &mut Vec<f32>) {
        match self {
            Self::F64 => to.extend(order.read(bytes, f64::from_le_bytes).map(|x| x as f32)),
            _ => to.extend(order.read(bytes, f32::from_le_bytes)),
        }
    }
}

/// Which byte of a number comes first in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ByteOrder {
    /// The least.
    Little,
    /// The greatest.
    Big,
}

impl ByteOrder {
    /// The numbers in these bytes, by what reads one that is little-endian.
    fn read<const N: usize, T>(
        self,
        bytes: &[u8],
        read: impl Fn([u8; N]) -> T,
    ) -> impl Iterator<Item = T> {
        let (numbers, _) = bytes.as_chunks::<N>();
        numbers.iter().map(move |number| {
            let mut number = *number;
            if self == Self::Big {
                number.reverse();
            }
            read(number)
        })
    }
}

fn narrow<T: Into<i64>>(
    numbers: impl Iterator<Item = T>,
    to: &mut Vec<i32>,
) -> Result<(), (usize, i64)> {
    for (at, number) in numbers.enumerate() {
        let number = number.into();
        to.push(i32::try_from(number).map_err(|_| (at, number))?);
    }
    Ok(())
}

impl fmt::Display for NumberType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::I8 => "i8",
            Self::I16 => "i16",
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::U8 => "u8",
            Self::U16 => "u16",
            Self::U32 => "u32",
        })
    }
}
