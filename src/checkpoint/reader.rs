//! A checkpoint that was saved: read, checked, and given to the nodes.

use super::folder::{self, Claimed};
use super::manifest::{FileEntry, Manifest};
use super::{NamedTensor, Weights};
use crate::error::Error;
use crate::files::read_error;
use crate::plan::hex;
use crate::stage::Values;
use crate::wire::from_bytes;
use brigade_layer::LayerError;
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// So much is read at once.
const CHUNK: usize = 1 << 18;

/// A checkpoint that was saved. It is keyed by layer and parameter, so that any pipeline can resume
/// from it, whatever its nodes, cuts and schedule.
///
/// ```text
/// checkpoints/step-120/   manifest.json        what it is, with the checksums of all tensors
///                         node-0.safetensors   what node 0 held: KEY is a parameter's values,
///                         node-1.safetensors   KEY:first_moment one of the optimizer's states
/// ```
#[derive(Clone, Debug)]
pub struct Checkpoint {
    path: PathBuf,
    manifest: Manifest,
    /// Where each tensor is: the number of its file, its own there, and where it begins.
    places: BTreeMap<Name, (usize, usize, u64)>,
}

/// A parameter's key, and the name of a state.
type Name = (String, Option<String>);

impl Checkpoint {
    /// Opens a checkpoint: its manifest is as it was written.
    ///
    /// # Errors
    /// When it is not, or there is none: which file, and what is wrong with it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref().to_owned();
        let manifest = Manifest::load(&path)?;
        let mut places = BTreeMap::new();
        for (number, file) in manifest.files.iter().enumerate() {
            let mut start = file.start;
            for (at, tensor) in file.tensors.iter().enumerate() {
                let name = (tensor.key.clone(), tensor.state.clone());
                if places.insert(name, (number, at, start)).is_some() {
                    let problem = format!("it has {} twice", tensor.name());
                    return Err(read_error(&path, problem));
                }
                start += tensor.bytes().unwrap_or(0);
            }
        }
        Ok(Self {
            path,
            manifest,
            places,
        })
    }

    /// The steps and folders of all checkpoints in a folder, oldest first; none where there is no
    /// folder. A checkpoint is there wholly or not at all.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn list(folder: impl AsRef<Path>) -> Result<Vec<(u64, PathBuf)>, Error> {
        let folder = folder.as_ref();
        folder::list(folder).map_err(|error| read_error(folder, error))
    }

    /// The newest checkpoint in a folder, if there is one.
    ///
    /// # Errors
    /// When it is damaged, or the folder cannot be read.
    pub fn newest(folder: impl AsRef<Path>) -> Result<Option<Self>, Error> {
        let newest = Self::list(folder)?.pop();
        newest.map(|(_, path)| Self::open(path)).transpose()
    }

    /// Removes the oldest checkpoints of a folder until `keep` are left, at least 1: which ones.
    ///
    /// # Errors
    /// When one cannot be removed, or a run saves to that folder now.
    pub fn prune(folder: impl AsRef<Path>, keep: usize) -> Result<Vec<PathBuf>, Error> {
        let folder = folder.as_ref();
        let pruned = Claimed::new(folder)?.prune(keep.max(1), <[_]>::len);
        pruned.map_err(|error| crate::files::write_error(folder, &error))
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Whether all files are there, as long as they were, and with the headers that they had.
    ///
    /// # Errors
    /// Names the file that is not.
    pub fn look(&self) -> Result<(), Error> {
        self.manifest.files.iter().try_for_each(|file| {
            let path = self.path.join(&file.name);
            let fail = |problem: String| Err(read_error(&path, problem));
            let found = fs::metadata(&path).map_err(|error| read_error(&path, error))?;
            if found.len() != file.bytes {
                return fail(format!(
                    "damaged: it has {} bytes where {} were written",
                    found.len(),
                    file.bytes
                ));
            }
            let header = self.pass(file, (0, file.start), |_| {})?;
            match header == file.header_sha256 {
                true => Ok(()),
                false => fail("damaged: its header is not what was written".into()),
            }
        })
    }

    /// Reads all of it and compares it with its checksums.
    ///
    /// # Errors
    /// Names the file that has changed, and where.
    pub fn verify(&self) -> Result<(), Error> {
        self.look()?;
        for (file, at, start) in self.places.values() {
            self.read(&self.manifest.files[*file], (*at, *start), |_| {})?;
        }
        let weights = self.manifest.digest();
        if weights != self.manifest.weights_sha256 {
            let problem = "damaged: its tensors are not those of its weights";
            return Err(read_error(&self.path, problem));
        }
        Ok(())
    }

    /// The weights, in layer order, each compared with its checksum.
    ///
    /// # Errors
    /// When they cannot be read, or have changed.
    pub fn weights(&self) -> Result<Weights, Error> {
        let mut params = Vec::new();
        for tensor in self.manifest.values() {
            let values = self.numbers(&(tensor.key.clone(), None))?;
            let values = values.unwrap_or_default();
            params.push(NamedTensor::new(
                tensor.key.clone(),
                tensor.shape.clone(),
                values,
            ));
        }
        Ok(Weights::new(params))
    }

    /// Names of the states that are there for a parameter.
    pub(crate) fn states_of(&self, key: &str) -> Vec<&str> {
        let first = (key.to_owned(), None);
        let own = self.places.range(first..).map(|(name, _)| name);
        let own = own.take_while(|(other, _)| other == key);
        own.filter_map(|(_, state)| state.as_deref()).collect()
    }

    /// A tensor's numbers, if it is there, compared with its checksum.
    fn numbers(&self, name: &Name) -> Result<Option<Vec<f32>>, Error> {
        let Some((file, at, start)) = self.places.get(name) else {
            return Ok(None);
        };
        let file = &self.manifest.files[*file];
        let mut numbers = Vec::new();
        let elements = file.tensors[*at].bytes().unwrap_or(0) / 4;
        // No more than the file holds, whatever its manifest says.
        let path = self.path.join(&file.name);
        let found = fs::metadata(&path).map_err(|error| read_error(&path, error))?;
        let refused = |error| read_error(&path, error);
        let elements = elements.min(found.len() / 4) as usize;
        { numbers.try_reserve_exact(elements) }
            .map_err(|error| refused(std::io::Error::other(error)))?;
        self.read(file, (*at, *start), |bytes| {
            numbers.extend(from_bytes(bytes))
        })?;
        Ok(Some(numbers))
    }

    /// Reads a tensor and compares it with its checksum.
    fn read(
        &self,
        file: &FileEntry,
        (at, start): (usize, u64),
        on: impl FnMut(&[u8]),
    ) -> Result<(), Error> {
        let tensor = &file.tensors[at];
        let bytes = tensor.bytes().unwrap_or(0);
        let found = self.pass(file, (start, bytes), on)?;
        match found == tensor.sha256 {
            true => Ok(()),
            false => Err(read_error(
                &self.path.join(&file.name),
                format!(
                    "damaged: {} is not what its checksum says; use another checkpoint",
                    tensor.name()
                ),
            )),
        }
    }

    /// Reads so many bytes from there on: their SHA-256.
    fn pass(
        &self,
        file: &FileEntry,
        (start, bytes): (u64, u64),
        mut on: impl FnMut(&[u8]),
    ) -> Result<String, Error> {
        let path = self.path.join(&file.name);
        let fail = |error: std::io::Error| read_error(&path, error);
        let mut from = File::open(&path).map_err(fail)?;
        from.seek(SeekFrom::Start(start)).map_err(fail)?;
        let (mut hash, mut left) = (Sha256::new(), bytes);
        let mut some = vec![0; CHUNK.min(usize::try_from(bytes).unwrap_or(CHUNK))];
        while left > 0 {
            let now = some.len().min(usize::try_from(left).unwrap_or(CHUNK));
            let some = &mut some[..now];
            from.read_exact(some).map_err(|error| match error.kind() {
                std::io::ErrorKind::UnexpectedEof => {
                    read_error(&path, "damaged: it is shorter than it was")
                }
                _ => fail(error),
            })?;
            hash.update(&*some);
            on(some);
            left -= now as u64;
        }
        Ok(hex(&hash.finalize()))
    }
}

/// Every node reads its own.
impl Values for Checkpoint {
    fn of(&self, key: &str) -> Result<Cow<'_, [f32]>, LayerError> {
        let values = self.state_of(key, None)?;
        let missing = || LayerError::Value(format!("{} has no {key}", self.path.display()));
        values.ok_or_else(missing)
    }

    fn state(&self, key: &str, name: &str) -> Result<Option<Cow<'_, [f32]>>, LayerError> {
        self.state_of(key, Some(name))
    }
}

impl Checkpoint {
    fn state_of(
        &self,
        key: &str,
        name: Option<&str>,
    ) -> Result<Option<Cow<'_, [f32]>>, LayerError> {
        let numbers = self.numbers(&(key.to_owned(), name.map(str::to_owned)));
        let numbers = numbers.map_err(|error| LayerError::Value(error.to_string()))?;
        Ok(numbers.map(Cow::Owned))
    }
}
