//! A file of weights, written one parameter after the other.

use crate::error::Error;
use crate::files::WholeFile;
use brigade_layer::Shape;
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use std::path::Path;

/// A safetensors file in the making: its header is written, its parameters follow in the order of
/// their keys. The same bytes as [`Weights::save`](crate::Weights::save) writes.
pub(crate) struct WeightsFile(WholeFile);

impl WeightsFile {
    /// `params` in the order of their keys.
    pub(crate) fn create(path: &Path, params: &[(String, Shape)]) -> Result<Self, Error> {
        let fail = |problem: String| Error::Write {
            path: path.display().to_string(),
            problem,
        };
        let mut end = 0;
        let infos = params.iter().map(|(key, shape)| {
            let start = end;
            end += 4 * shape.elements();
            let info = TensorInfo {
                dtype: Dtype::F32,
                shape: shape.axes().to_vec(),
                data_offsets: (start, end),
            };
            (key.clone(), info)
        });
        let infos = infos.collect();
        let metadata = Metadata::new(None, infos).map_err(|error| fail(error.to_string()))?;
        let mut header = serde_json::to_vec(&metadata).map_err(|error| fail(error.to_string()))?;
        header.resize(header.len().next_multiple_of(8), b' ');
        let mut file = WholeFile::create(path)?;
        file.write(&(header.len() as u64).to_le_bytes())?;
        file.write(&header)?;
        Ok(Self(file))
    }

    /// The next values, as little-endian bytes.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.0.write(bytes)
    }

    pub(crate) fn finish(self) -> Result<(), Error> {
        self.0.finish()
    }
}
