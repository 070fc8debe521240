//! Parameters from a folder of tensors: every node reads its own.

use super::convert::numbers;
use super::folder::TensorFolder;
use super::matching::{Places, copies_are_equal, places};
use crate::error::Error;
use crate::plan::hex;
use crate::stage::{OnPiece, Values};
use brigade_layer::{ForeignNames, LayerError, Shape};
use sha2::{Digest, Sha256};

/// The parameters of a network in a folder of tensors.
#[derive(Debug)]
pub(crate) struct TensorSource {
    folder: TensorFolder,
    places: Places,
}

impl TensorSource {
    /// All of them are there, with their shapes, and nothing else is.
    pub(crate) fn new(
        folder: &TensorFolder,
        names: &ForeignNames,
        wanted: &[(String, Shape)],
    ) -> Result<Self, Error> {
        let places = places(folder, names, wanted)?;
        let folder = folder.clone();
        Ok(Self { folder, places })
    }

    /// Whether what is there twice is the same.
    pub(crate) fn is_at_one(&self, names: &ForeignNames) -> Result<(), Error> {
        copies_are_equal(&self.folder, names)
    }

    /// SHA-256 of what is known of all tensors, their numbers aside.
    pub(crate) fn description(&self) -> String {
        let mut hash = Sha256::new();
        for (name, shape, dtype) in self.folder.tensors() {
            hash.update(format!("{name:?} {shape:?} {dtype}\n"));
        }
        hex(&hash.finalize())
    }
}

impl Values for TensorSource {
    fn each(&self, key: &str, on: &mut OnPiece<'_>) -> Result<(), LayerError> {
        let place = self.places.get(key);
        let (name, transposed) = place.ok_or_else(|| {
            let path = self.folder.path().display();
            LayerError::Value(format!("{path} has no {key}"))
        })?;
        numbers(&self.folder, (name, *transposed), on)
    }
}
