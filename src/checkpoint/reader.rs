//! A checkpoint that was saved: read, checked, and given to the nodes.

use super::folder::{self, Claimed};
use super::manifest::{MANIFEST, Manifest};
use super::source::Source;
use super::{NamedTensor, Weights};
use crate::error::Error;
use crate::files::{read_error, write_error};
use crate::stage::{OnPiece, Values};
use crate::wire::from_bytes;
use brigade_layer::LayerError;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

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
        if let Some(named) = folder::step_of(&path).filter(|step| *step != manifest.step) {
            let problem = format!(
                "it is of step {}, in the folder of step {named}; give the folder its name back",
                manifest.step
            );
            return Err(read_error(&path.join(MANIFEST), problem));
        }
        let mut places = BTreeMap::new();
        for (number, file) in manifest.files.iter().enumerate() {
            let mut start = file.start;
            for (at, tensor) in file.tensors.iter().enumerate() {
                let name = (tensor.key.clone(), tensor.state.clone());
                places.insert(name, (number, at, start));
                start += tensor.bytes().unwrap_or(0);
            }
        }
        Ok(Self {
            path,
            manifest,
            places,
        })
    }

    /// The steps and folders of all checkpoints in a folder, oldest first, damaged ones too; none
    /// where there is no folder.
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

    /// Removes the oldest checkpoints of a folder until `keep` whole ones are left, at least 1:
    /// which ones. Those that do not stand a [`look`](Self::look) do not count.
    ///
    /// # Errors
    /// When one cannot be removed, or a run saves to that folder now.
    pub fn prune(folder: impl AsRef<Path>, keep: usize) -> Result<Vec<PathBuf>, Error> {
        let folder = folder.as_ref();
        let all = Self::list(folder)?;
        let whole = |path: &Path| Self::open(path).and_then(|found| found.look()).is_ok();
        let mut kept = { all.iter().rev() }.filter(|(_, path)| whole(path));
        let Some((oldest, _)) = kept.nth(keep.max(1) - 1) else {
            return Ok(Vec::new());
        };
        if all[0].0 == *oldest {
            return Ok(Vec::new());
        }
        let pruned = Claimed::new(folder)?.remove_before(*oldest);
        pruned.map_err(|error| write_error(folder, &error))
    }

    /// Bytes of all files in a checkpoint's folder, whole or damaged.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn bytes_in(path: impl AsRef<Path>) -> Result<u64, Error> {
        let path = path.as_ref();
        folder::bytes_in(path).map_err(|error| read_error(path, error))
    }

    /// When a checkpoint was saved: the time of its manifest, or of its folder where there is none.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn saved(path: impl AsRef<Path>) -> Result<SystemTime, Error> {
        let path = path.as_ref();
        let kind = fs::metadata(path.join(MANIFEST)).or_else(|_| fs::metadata(path));
        let time = kind.and_then(|kind| kind.modified());
        time.map_err(|error| read_error(path, error))
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Bytes of its files, its manifest aside.
    pub fn bytes(&self) -> u64 {
        self.manifest.files.iter().map(|file| file.bytes).sum()
    }

    /// Whether all files are there, as long as they were, and with the headers that they had.
    ///
    /// # Errors
    /// Names the file that is not.
    pub fn look(&self) -> Result<(), Error> {
        let mut files = self.manifest.files.iter();
        files.try_for_each(|file| Source::open(&self.path, file)?.header())
    }

    /// Reads all of it and compares it with its checksums.
    ///
    /// # Errors
    /// Names the file that has changed, and where.
    pub fn verify(&self) -> Result<(), Error> {
        // What is missing is known before anything is read.
        self.look()?;
        for file in &self.manifest.files {
            let mut source = Source::open(&self.path, file)?;
            source.header()?;
            let mut tensors = 0..file.tensors.len();
            tensors.try_for_each(|tensor| source.tensor(tensor, |_| {}))?;
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
        let Some((file, tensor, start)) = self.places.get(name) else {
            return Ok(None);
        };
        let file = &self.manifest.files[*file];
        let mut source = Source::open(&self.path, file)?;
        // The file is as long as its manifest says, so this is no more than it holds.
        let elements = file.tensors[*tensor].bytes().unwrap_or(0) / 4;
        let mut numbers = Vec::new();
        { numbers.try_reserve_exact(usize::try_from(elements).unwrap_or(usize::MAX)) }
            .map_err(|error| read_error(&self.path.join(&file.name), error))?;
        source.seek(*start)?;
        source.tensor(*tensor, |bytes| numbers.extend(from_bytes(bytes)))?;
        Ok(Some(numbers))
    }
}

/// Every node reads its own.
impl Values for Checkpoint {
    fn each(&self, key: &str, on: &mut OnPiece<'_>) -> Result<(), LayerError> {
        let values = self.state_of(key, None)?;
        let missing = || LayerError::Value(format!("{} has no {key}", self.path.display()));
        on(0, &values.ok_or_else(missing)?)
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
