//! One node's file of a checkpoint, written by a thread of its own while the node goes on training.

use super::file::header;
use super::manifest::{FileEntry, TensorEntry};
use crate::error::Error;
use crate::plan::hex;
use crate::stage::State;
use brigade_layer::Tensor;
use crossbeam_channel::{Receiver, Sender};
use safetensors::tensor::Dtype;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Numbers that are turned into bytes, hashed and written at once.
const CHUNK: usize = 1 << 16;

/// A node's file, or why there is none.
pub(crate) type Written = Result<FileEntry, NotWritten>;

/// Why a file was not written.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NotWritten {
    pub(crate) path: String,
    pub(crate) problem: String,
    /// Bytes of the file that are missing, where the disk is full.
    pub(crate) missing_bytes: Option<u64>,
}

impl NotWritten {
    /// All that went wrong as one error, if anything did.
    pub(crate) fn together(all: &[Self]) -> Option<Error> {
        let first = all.iter().find(|one| one.missing_bytes.is_some());
        let first = first.or(all.first())?;
        let missing: u64 = all.iter().filter_map(|one| one.missing_bytes).sum();
        let missing = Some(missing).filter(|missing| *missing > 0);
        let missing = missing.map_or(String::new(), |missing| {
            format!("; {missing} bytes more are needed for this checkpoint")
        });
        Some(Error::Write {
            path: first.path.clone(),
            problem: format!("{}{missing}", first.problem),
        })
    }
}

/// What a file is to hold, and where its tensors come from.
pub(crate) struct NodeFile {
    pub(crate) path: PathBuf,
    /// In the order in which they come; their checksums are worked out here.
    pub(crate) tensors: Vec<TensorEntry>,
    pub(crate) copies: Receiver<Tensor>,
    /// Told after every tensor.
    pub(crate) written: Sender<()>,
    pub(crate) state: Arc<State>,
}

impl NodeFile {
    /// Writes the file, until it is on the disk or something goes wrong.
    pub(crate) fn write(self) -> Written {
        let result = self.try_to();
        match &result {
            Ok(_) => self.state.done(),
            Err(failure) => self.state.failed(&failure.problem),
        }
        result
    }

    fn try_to(&self) -> Written {
        let failed = |error: &io::Error, missing: u64| NotWritten {
            path: self.path.display().to_string(),
            problem: error.to_string(),
            missing_bytes: full(error).then_some(missing),
        };
        let shapes = self.tensors.iter().map(|t| (t.name(), t.shape.clone()));
        let header = header(shapes, Dtype::F32, None).map_err(|problem| self.refused(problem))?;
        let start = header.len() as u64;
        let sizes: Option<Vec<u64>> = self.tensors.iter().map(TensorEntry::bytes).collect();
        let sizes = sizes.ok_or_else(|| self.refused("a tensor is too large".into()))?;
        let bytes = start + sizes.iter().sum::<u64>();
        let mut file = Counted::create(&self.path).map_err(|error| failed(&error, bytes))?;
        let put = |file: &mut Counted, some: &[u8]| {
            file.write(some)
                .map_err(|error| failed(&error, bytes.saturating_sub(file.done)))
        };
        put(&mut file, &header)?;
        let mut sums = Vec::with_capacity(sizes.len());
        for _ in &sizes {
            let Ok(copy) = self.copies.recv() else {
                let why = self.state.why();
                return Err(self.refused(why.unwrap_or_else(|| "training ended first".into())));
            };
            let mut hash = Sha256::new();
            let numbers = copy
                .f32()
                .map_err(|error| self.refused(error.to_string()))?;
            let mut some = Vec::with_capacity(4 * CHUNK.min(numbers.len()));
            for numbers in numbers.chunks(CHUNK) {
                some.clear();
                some.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
                hash.update(&some);
                put(&mut file, &some)?;
            }
            drop(copy);
            sums.push(hex(&hash.finalize()));
            // A node that is gone does not want to know.
            let _ = self.written.send(());
        }
        file.sync().map_err(|error| failed(&error, 0))?;
        let tensors = self.tensors.iter().cloned().zip(sums);
        Ok(FileEntry {
            name: name_of(&self.path),
            bytes,
            start,
            header_sha256: hex(&Sha256::digest(&header)),
            tensors: tensors
                .map(|(tensor, sha256)| TensorEntry { sha256, ..tensor })
                .collect(),
        })
    }

    fn refused(&self, problem: String) -> NotWritten {
        NotWritten {
            path: self.path.display().to_string(),
            problem,
            missing_bytes: None,
        }
    }
}

/// Whether there is no room.
fn full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

fn name_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// A new file that knows how much of it is written.
struct Counted {
    file: File,
    done: u64,
}

impl Counted {
    fn create(path: &Path) -> io::Result<Self> {
        let file = File::create_new(path)?;
        Ok(Self { file, done: 0 })
    }

    fn write(&mut self, mut some: &[u8]) -> io::Result<()> {
        while !some.is_empty() {
            match self.file.write(some) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.done += written as u64;
                    some = &some[written..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}
