//! The weights of a whole network.

use super::file::{Header, open};
use crate::error::Error;
use crate::files::{read_error, write_whole};
use crate::plan::hex;
use crate::wire::from_bytes;
use safetensors::tensor::{Dtype, TensorView};
use sha2::{Digest, Sha256};
use std::io::Read;
use std::path::Path;

/// A parameter by its key.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct NamedTensor {
    /// Its key.
    pub key: String,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values in row-major order.
    pub values: Vec<f32>,
}

impl NamedTensor {
    /// A parameter by its key.
    pub fn new(key: impl Into<String>, shape: Vec<usize>, values: Vec<f32>) -> Self {
        Self {
            key: key.into(),
            shape,
            values,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        self.values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect()
    }
}

/// The weights of a whole network, in layer order. A shared parameter is there once, under its
/// first holder's key.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Weights {
    /// Every parameter.
    pub params: Vec<NamedTensor>,
}

impl Weights {
    /// Weights from parameters in layer order.
    pub fn new(params: Vec<NamedTensor>) -> Self {
        Self { params }
    }

    /// The parameter with this key.
    pub fn get(&self, key: &str) -> Option<&NamedTensor> {
        self.params.iter().find(|param| param.key == key)
    }

    /// SHA-256, in hexadecimal, over the digests of all parameters in layer order. A parameter's
    /// digest is the SHA-256 of its little-endian bytes, so that a node needs no more than its
    /// own weights to contribute.
    pub fn sha256(&self) -> String {
        weights_sha256(
            self.params
                .iter()
                .map(|param| Sha256::digest(param.bytes()).into()),
        )
    }

    /// The weights as a safetensors file: the same bytes for the same weights, in an order fixed by
    /// the keys, without any metadata.
    ///
    /// # Errors
    /// When two parameters have the same key or a shape does not fit.
    pub fn to_safetensors(&self) -> Result<Vec<u8>, Error> {
        let bytes: Vec<_> = self.params.iter().map(NamedTensor::bytes).collect();
        let fail = |error: safetensors::SafeTensorError| Error::Write {
            path: "weights".into(),
            problem: error.to_string(),
        };
        let mut views = Vec::with_capacity(bytes.len());
        for (param, bytes) in self.params.iter().zip(&bytes) {
            let view = TensorView::new(Dtype::F32, param.shape.clone(), bytes).map_err(fail)?;
            views.push((param.key.as_str(), view));
        }
        safetensors::serialize(views, None).map_err(fail)
    }

    /// Writes the weights as a safetensors file: whole or not at all.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let path = path.as_ref();
        write_whole(path, &self.to_safetensors()?)
    }

    /// Reads weights from a safetensors file of f32 tensors, in the order of the file.
    ///
    /// # Errors
    /// When the file cannot be read, is no such file, or does not fit into memory.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let (file, header) = open(path)?;
        Self::read(file, &header).map_err(|problem| read_error(path, problem))
    }

    /// Weights from the bytes of such a file.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn from_safetensors(bytes: &[u8]) -> Result<Self, Error> {
        let mut rest = bytes;
        let weights = Header::read(&mut rest, bytes.len() as u64)
            .and_then(|header| Self::read(rest, &header));
        weights.map_err(|problem| read_error(Path::new("weights"), problem))
    }

    /// Tensor after tensor, as they lie behind the header.
    fn read(mut file: impl Read, header: &Header) -> Result<Self, String> {
        let mut params = Vec::new();
        for (key, shape) in header.shapes() {
            let count = shape.iter().product();
            let mut values = Vec::new();
            (values.try_reserve_exact(count)).map_err(|error| format!("{key}: {error}"))?;
            let mut piece = vec![0; PIECE_BYTES.min(4 * count)];
            while values.len() < count {
                let piece = &mut piece[..PIECE_BYTES.min(4 * (count - values.len()))];
                let read = file.read_exact(piece);
                read.map_err(|error| format!("{key}: {error}"))?;
                values.extend(from_bytes(piece));
            }
            params.push(NamedTensor { key, shape, values });
        }
        Ok(Self { params })
    }
}

/// So much of a file is read at once.
const PIECE_BYTES: usize = 1 << 20;

/// SHA-256, in hexadecimal, over the digests of all parameters in layer order.
pub fn weights_sha256(digests: impl IntoIterator<Item = [u8; 32]>) -> String {
    let mut hash = Sha256::new();
    for digest in digests {
        hash.update(digest);
    }
    hex(&hash.finalize())
}
