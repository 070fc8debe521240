//! Numbers of a mapped tensor as f32, and back, piece by piece: read once, let go behind.

use super::folder::TensorFolder;
use half::{bf16, f16};
use safetensors::tensor::Dtype;
use std::fmt;
use std::str::FromStr;

/// So many numbers at once.
const PIECE: usize = 1 << 20;
/// So many bytes are read before they are let go.
const BEHIND: usize = 4 << 20;
/// Rows that are transposed together: what is read of them stays in the nearest cache.
const ROWS: usize = 32;

/// The elements of tensors that are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum FloatType {
    /// Numbers of 32 bits, as they are here.
    #[default]
    F32,
    /// Numbers of 16 bits with the range of f32, rounded to nearest even.
    BF16,
    /// Numbers of 16 bits of IEEE 754, rounded to nearest even; up to 65,504.
    F16,
}

impl FloatType {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::F32, Self::BF16, Self::F16];

    /// Its name in PyTorch and in a `config.json`.
    pub fn torch_name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::BF16 => "bfloat16",
            Self::F16 => "float16",
        }
    }

    /// Bytes of a number.
    pub(super) fn bytes(self) -> usize {
        self.dtype().bitsize() / 8
    }

    pub(super) fn dtype(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::BF16 => Dtype::BF16,
            Self::F16 => Dtype::F16,
        }
    }

    pub(super) fn of(dtype: Dtype) -> Option<Self> {
        Self::ALL.into_iter().find(|own| own.dtype() == dtype)
    }

    /// The first number that is finite and would be infinite.
    pub(super) fn too_large(self, numbers: &[f32]) -> Option<f32> {
        let held = match self {
            Self::F32 => return None,
            Self::BF16 => |number| bf16::from_f32(number).is_finite(),
            Self::F16 => |number| f16::from_f32(number).is_finite(),
        };
        let mut all = numbers.iter().copied();
        all.find(|number| number.is_finite() && !held(*number))
    }

    /// Bytes of a file as numbers.
    pub(super) fn read(self, bytes: &[u8]) -> Vec<f32> {
        let all = bytes.chunks_exact(self.bytes());
        match self {
            Self::F32 => all.map(Single::read).collect(),
            Self::BF16 => all.map(Brain::read).collect(),
            Self::F16 => all.map(Half::read).collect(),
        }
    }

    /// Numbers as bytes, in place of what was in `into`.
    pub(super) fn write(self, numbers: &[f32], into: &mut Vec<u8>) {
        into.clear();
        let all = numbers.iter();
        match self {
            Self::F32 => all.for_each(|n| into.extend(n.to_le_bytes())),
            Self::BF16 => all.for_each(|n| into.extend(bf16::from_f32(*n).to_le_bytes())),
            Self::F16 => all.for_each(|n| into.extend(f16::from_f32(*n).to_le_bytes())),
        }
    }
}

impl fmt::Display for FloatType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::BF16 => "bf16",
            Self::F16 => "f16",
        })
    }
}

impl FromStr for FloatType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|own| own.to_string() == text);
        found.ok_or_else(|| "give f32, bf16 or f16".into())
    }
}

/// A number in a file.
trait Number {
    const BYTES: usize;
    fn read(bytes: &[u8]) -> f32;
}

macro_rules! number {
    ($name:ident, $number:ty, $bytes:literal, $convert:expr) => {
        struct $name;
        impl Number for $name {
            const BYTES: usize = $bytes;
            #[inline(always)]
            fn read(bytes: &[u8]) -> f32 {
                let mut own = [0; $bytes];
                own.copy_from_slice(bytes);
                $convert(<$number>::from_le_bytes(own))
            }
        }
    };
}

number!(Single, f32, 4, |number| number);
number!(Brain, bf16, 2, bf16::to_f32);
number!(Half, f16, 2, f16::to_f32);

/// Numbers from one on, handed over.
pub(super) type On<'a, E> = dyn FnMut(usize, &[f32]) -> Result<(), E> + 'a;

/// Hands over the numbers of a tensor of one of the [`FloatType`]s, which it is known to have;
/// those of a matrix with rows and columns exchanged, if so.
pub(super) fn numbers<E>(
    folder: &TensorFolder,
    (name, transposed): (&str, bool),
    on: &mut On<'_, E>,
) -> Result<(), E> {
    let Some((at, bytes)) = folder.at(name) else {
        return Ok(());
    };
    let release = |bytes| folder.release(name, bytes);
    let matrix = match (transposed, &at.shape[..]) {
        (true, [rows, columns]) => Some((*rows, *columns)),
        _ => None,
    };
    match (FloatType::of(at.dtype), matrix) {
        (None, _) => Ok(()),
        (Some(FloatType::F32), None) => straight::<Single, E>(bytes, &release, on),
        (Some(FloatType::BF16), None) => straight::<Brain, E>(bytes, &release, on),
        (Some(FloatType::F16), None) => straight::<Half, E>(bytes, &release, on),
        (Some(FloatType::F32), Some(size)) => turned::<Single, E>((bytes, size), &release, on),
        (Some(FloatType::BF16), Some(size)) => turned::<Brain, E>((bytes, size), &release, on),
        (Some(FloatType::F16), Some(size)) => turned::<Half, E>((bytes, size), &release, on),
    }
}

/// Lets go of bytes of the tensor.
type Release<'a> = &'a dyn Fn(std::ops::Range<usize>);

fn straight<N: Number, E>(bytes: &[u8], release: Release<'_>, on: &mut On<'_, E>) -> Result<(), E> {
    let mut piece = Vec::with_capacity(PIECE.min(bytes.len() / N::BYTES));
    for (number, part) in bytes.chunks(PIECE * N::BYTES).enumerate() {
        piece.clear();
        piece.extend(part.chunks_exact(N::BYTES).map(N::read));
        on(number * PIECE, &piece)?;
        let start = number * PIECE * N::BYTES;
        release(start..start + part.len());
    }
    Ok(())
}

/// Of [R, C] in the file, [C, R]: so many of its rows at once as make a piece, from stripes of the
/// file's rows.
fn turned<N: Number, E>(
    (bytes, (rows, columns)): (&[u8], (usize, usize)),
    release: Release<'_>,
    on: &mut On<'_, E>,
) -> Result<(), E> {
    if rows == 0 || columns == 0 {
        return Ok(());
    }
    let at_once = (PIECE / rows).clamp(1, columns);
    let stride = columns * N::BYTES;
    let mut piece = vec![0.0; at_once * rows];
    for first in (0..columns).step_by(at_once) {
        let width = at_once.min(columns - first);
        let mut held = 0;
        for top in (0..rows).step_by(ROWS) {
            let bottom = rows.min(top + ROWS);
            for column in 0..width {
                let into = &mut piece[column * rows..][top..bottom];
                let from = &bytes[top * stride + (first + column) * N::BYTES..];
                for (number, place) in into.iter_mut().enumerate() {
                    *place = N::read(&from[number * stride..][..N::BYTES]);
                }
            }
            if (bottom - held) * stride >= BEHIND || bottom == rows {
                release(held * stride..bottom * stride);
                held = bottom;
            }
        }
        on(first * rows, &piece[..width * rows])?;
    }
    Ok(())
}
