//! A file of weights, written and read one parameter after the other.

use crate::error::Error;
use crate::files::{WholeFile, read_error};
use crate::stage::{OnPiece, Values};
use crate::wire::from_bytes;
use brigade_layer::{LayerError, Shape};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Two million million numbers: more than any network has.
const MOST_BYTES: u64 = 1 << 43;
/// No header is longer: what the format allows.
const MOST_HEADER_BYTES: u64 = 100_000_000;
/// So much of a file is read at once.
const PIECE_BYTES: usize = 1 << 20;

/// All that comes before the tensors of a safetensors file: of these tensors, in this order, in the
/// format of a library, if it is one's.
pub(crate) fn header(
    tensors: impl Iterator<Item = (String, Vec<usize>)>,
    dtype: Dtype,
    format: Option<&str>,
) -> Result<Vec<u8>, String> {
    let mut end = 0;
    let infos = tensors.map(|(key, shape)| {
        let start = end;
        end += dtype.bitsize() / 8 * shape.iter().product::<usize>();
        let info = TensorInfo {
            dtype,
            shape,
            data_offsets: (start, end),
        };
        (key, info)
    });
    let infos = infos.collect();
    let format = format.map(|format| [("format".to_owned(), format.to_owned())].into());
    let metadata = Metadata::new(format, infos).map_err(|error| error.to_string())?;
    let text = serde_json::to_vec(&metadata).map_err(|error| error.to_string())?;
    let length = text.len().next_multiple_of(8);
    let mut header = (length as u64).to_le_bytes().to_vec();
    header.extend(&text);
    header.resize(8 + length, b' ');
    Ok(header)
}

/// A safetensors file in the making: its header is written, its parameters follow in the order of
/// their keys. The same bytes as [`Weights::save`](crate::Weights::save) writes.
pub(crate) struct WeightsFile(WholeFile);

impl WeightsFile {
    /// `params` in the order of their keys.
    pub(crate) fn create(path: &Path, params: &[(String, Shape)]) -> Result<Self, Error> {
        let shapes = params.iter();
        let shapes = shapes.map(|(key, shape)| (key.clone(), shape.axes().to_vec()));
        let header = header(shapes, Dtype::F32, None).map_err(|problem| Error::Write {
            path: path.display().to_string(),
            problem,
        })?;
        let mut file = WholeFile::create(path)?;
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

/// What a safetensors file of f32 tensors says of them.
#[derive(Debug)]
pub(super) struct Header {
    /// Where the tensors begin.
    start: u64,
    metadata: Metadata,
}

impl Header {
    /// Reads it from the front of a file of so many bytes, which must be what it says.
    pub(super) fn read(file: &mut impl Read, found: u64) -> Result<Self, String> {
        if found > MOST_BYTES {
            return Err(format!(
                "it is longer than {MOST_BYTES} bytes, the most that is read"
            ));
        }
        let mut length = [0; 8];
        file.read_exact(&mut length)
            .map_err(|error| error.to_string())?;
        let length = u64::from_le_bytes(length);
        if length > MOST_HEADER_BYTES.min(found) {
            return Err("it is no safetensors file".into());
        }
        let mut header = vec![0; length as usize];
        file.read_exact(&mut header)
            .map_err(|error| error.to_string())?;
        let metadata = serde_json::from_slice::<Metadata>(&header);
        let metadata = metadata.map_err(|error| error.to_string())?;
        let start = 8 + length;
        let expected = start.saturating_add(metadata.data_len() as u64);
        if found != expected {
            return Err(format!(
                "it has {found} bytes where its header says {expected}"
            ));
        }
        for (key, info) in metadata.tensors() {
            if info.dtype != Dtype::F32 {
                return Err(format!("{key} is {:?}; only F32 can be read", info.dtype));
            }
        }
        Ok(Self { start, metadata })
    }

    /// Keys and shapes of all parameters, in the order of the file.
    pub(super) fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        let keys = self.metadata.offset_keys().into_iter();
        let with_shape = |key: String| {
            let shape = self.metadata.info(&key)?.shape.clone();
            Some((key, shape))
        };
        keys.filter_map(with_shape).collect()
    }
}

/// Opens a file of weights, reads its header, and is then where the tensors begin.
pub(super) fn open(path: &Path) -> Result<(File, Header), Error> {
    let mut file = File::open(path).map_err(|error| read_error(path, error))?;
    let found = file.metadata().map_err(|error| read_error(path, error))?;
    let header = Header::read(&mut file, found.len());
    Ok((file, header.map_err(|problem| read_error(path, problem))?))
}

/// A safetensors file of f32 tensors, of which every node reads its own.
#[derive(Debug)]
pub(crate) struct WeightsSource {
    path: PathBuf,
    header: Header,
}

impl WeightsSource {
    /// Reads the header, and looks whether the file is as long as it says.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let (_, header) = open(path)?;
        let path = path.to_owned();
        Ok(Self { path, header })
    }

    /// Keys and shapes of all parameters.
    pub(crate) fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        self.header.shapes()
    }
}

impl Values for WeightsSource {
    fn each(&self, key: &str, on: &mut OnPiece<'_>) -> Result<(), LayerError> {
        let fail = |problem: &dyn ToString| {
            let (path, problem) = (self.path.display(), problem.to_string());
            LayerError::Value(format!("cannot read {path}: {problem}"))
        };
        let info = self.header.metadata.info(key);
        let info = info.ok_or_else(|| fail(&format!("{key} is missing")))?;
        let (from, to) = info.data_offsets;
        let mut file = File::open(&self.path).map_err(|error| fail(&error))?;
        let start = SeekFrom::Start(self.header.start + from as u64);
        file.seek(start).map_err(|error| fail(&error))?;
        let mut bytes = vec![0; PIECE_BYTES.min(to - from)];
        for start in (from..to).step_by(PIECE_BYTES) {
            let piece = &mut bytes[..PIECE_BYTES.min(to - start)];
            file.read_exact(piece).map_err(|error| fail(&error))?;
            let numbers: Vec<f32> = from_bytes(piece).collect();
            on((start - from) / 4, &numbers)?;
        }
        Ok(())
    }
}
