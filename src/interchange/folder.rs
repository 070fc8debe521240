//! A folder of safetensors, mapped into memory: what is not read is not there.

use super::damaged;
use super::header::{self, TensorAt};
use super::index::Index;
use crate::error::Error;
use crate::files::{brief, read_error, read_found};
use brigade_layer::MappedFile;
use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const SINGLE: &str = "model.safetensors";
/// Where the names of several files are.
pub(super) const INDEX: &str = "model.safetensors.index.json";
/// No index is longer.
const MOST_INDEX_BYTES: u64 = 256 << 20;
/// Files of another form, which run code when they are read.
const PICKLES: [&str; 3] = [
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "consolidated.00.pth",
];

/// Tensors in safetensors files: mapped into memory, so that who reads some of them holds no more
/// than those. Nobody is to change the files meanwhile. A clone is another handle to the same.
#[derive(Clone, Debug)]
pub struct TensorFolder(Arc<Opened>);

#[derive(Debug)]
struct Opened {
    path: PathBuf,
    files: Vec<(PathBuf, MappedFile)>,
    /// Of every tensor the number of its file, and where it is there.
    tensors: BTreeMap<String, (usize, TensorAt)>,
}

impl TensorFolder {
    /// Opens a file of safetensors, or a folder with `model.safetensors`, with
    /// `model.safetensors.index.json` and the files that it names, or with only one file of
    /// safetensors.
    ///
    /// # Errors
    /// When there is none, or what is there is not sound: which file, and what is wrong with it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let kind = fs::metadata(path).map_err(|error| read_error(path, error))?;
        if !kind.is_dir() {
            return Self::of(path, vec![path.to_owned()], None);
        }
        let (single, index) = (path.join(SINGLE), path.join(INDEX));
        if single.exists() {
            return Self::of(path, vec![single], None);
        }
        match read_found(&index, MOST_INDEX_BYTES) {
            Ok(text) => {
                let index = Index::parse(&text).map_err(|problem| damaged(&index, problem))?;
                let files = index.files();
                let files = files.into_iter().map(|file| path.join(file)).collect();
                Self::of(path, files, Some(&index))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Self::of(path, vec![only(path)?], None)
            }
            Err(error) => Err(read_error(&index, error)),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Names, shapes and element types (`F32`, `BF16`) of all tensors, in the order of their names.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &[usize], String)> {
        let all = self.0.tensors.iter();
        all.map(|(name, (_, at))| (name.as_str(), &at.shape[..], format!("{:?}", at.dtype)))
    }

    /// All its files.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.0.files.iter().map(|(path, _)| path.as_path())
    }

    fn of(path: &Path, files: Vec<PathBuf>, index: Option<&Index>) -> Result<Self, Error> {
        let mut folder = Opened {
            path: path.to_owned(),
            files: Vec::new(),
            tensors: BTreeMap::new(),
        };
        for (number, file) in files.into_iter().enumerate() {
            let map = MappedFile::open(&file).map_err(|error| read_error(&file, error))?;
            let tensors = header::read(map.bytes()).map_err(|problem| damaged(&file, problem))?;
            // What was read of the header need not stay.
            map.release(0..tensors.values().map(|at| at.bytes.start).min().unwrap_or(0));
            for (name, at) in tensors {
                agrees(index, &name, &file)?;
                folder.tensors.insert(name, (number, at));
            }
            folder.files.push((file, map));
        }
        let named = index.map_or(0, Index::len);
        if index.is_some() && folder.tensors.len() != named {
            let problem = index.and_then(|index| index.missing_of(&folder.tensors));
            let (tensor, file) = problem.unwrap_or_default();
            let problem = format!("it has {} in {file}, which has not", brief(tensor));
            return Err(damaged(&path.join(INDEX), problem));
        }
        Ok(Self(Arc::new(folder)))
    }

    /// A tensor: what is known of it, and its bytes.
    pub(super) fn at(&self, name: &str) -> Option<(&TensorAt, &[u8])> {
        let (file, at) = self.0.tensors.get(name)?;
        let bytes = self.0.files[*file].1.bytes();
        Some((at, bytes.get(at.bytes.clone())?))
    }

    /// The file of a tensor.
    pub(super) fn file_of(&self, name: &str) -> &Path {
        let found = self.0.tensors.get(name);
        found.map_or(&self.0.path, |(file, _)| &self.0.files[*file].0)
    }

    /// So many bytes of a tensor, from its beginning, will not be read again soon.
    pub(super) fn release(&self, name: &str, bytes: std::ops::Range<usize>) {
        if let Some((file, at)) = self.0.tensors.get(name) {
            let start = at.bytes.start;
            self.0.files[*file]
                .1
                .release(start + bytes.start..start + bytes.end);
        }
    }
}

/// Whether the index, if there is one, has this tensor in this file.
fn agrees(index: Option<&Index>, name: &str, file: &Path) -> Result<(), Error> {
    let Some(index) = index else {
        return Ok(());
    };
    let known = index.file_of(name);
    if known.is_some() && known == file.file_name().and_then(|file| file.to_str()) {
        return Ok(());
    }
    let known = known.map_or("has not".into(), |other| format!("has in {}", brief(other)));
    let problem = format!("it has tensor {}, which {INDEX} {known}", brief(name));
    Err(damaged(file, problem))
}

/// The only file of safetensors in a folder.
fn only(folder: &Path) -> Result<PathBuf, Error> {
    let fail = |problem: String| read_error(folder, problem);
    let entries = fs::read_dir(folder).map_err(|error| fail(error.to_string()))?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| fail(error.to_string()))?.path();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes()[0] == b'.');
        if !hidden && path.extension().is_some_and(|end| end == "safetensors") {
            found.push(path);
        }
    }
    if let [one] = &found[..] {
        return Ok(one.clone());
    }
    let pickle = PICKLES.iter().find(|name| folder.join(name).exists());
    Err(fail(match (pickle, found.len()) {
        (Some(pickle), 0) => format!(
            "it has {pickle}, which may run code when it is read; save it as safetensors \
             (save_pretrained of a newer transformers does)"
        ),
        (_, 0) => format!("it has neither {SINGLE} nor {INDEX}"),
        (_, several) => format!("it has {several} files of safetensors and no {INDEX}"),
    }))
}
