//! The weights of a whole network.

use crate::error::Error;
use crate::files::{read_error, write_whole};
use crate::plan::hex;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use sha2::{Digest, Sha256};
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
    /// When the file cannot be read, or is no such file.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|error| read_error(path, error))?;
        let file = SafeTensors::deserialize(&bytes).map_err(|error| read_error(path, error))?;
        let mut params = Vec::new();
        for (key, view) in file.tensors() {
            if view.dtype() != Dtype::F32 {
                let problem = format!("{key} is {:?}; only F32 can be read", view.dtype());
                return Err(read_error(path, problem));
            }
            let values = view.data().chunks_exact(4);
            let values =
                values.map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]));
            params.push(NamedTensor::new(
                key,
                view.shape().to_vec(),
                values.collect(),
            ));
        }
        Ok(Self { params })
    }
}

/// SHA-256, in hexadecimal, over the digests of all parameters in layer order.
pub fn weights_sha256(digests: impl IntoIterator<Item = [u8; 32]>) -> String {
    let mut hash = Sha256::new();
    for digest in digests {
        hash.update(digest);
    }
    hex(&hash.finalize())
}
