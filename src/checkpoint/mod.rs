//! What is saved, keyed by layer and parameter, never by stage or node.

mod file;
mod folder;
mod manifest;
mod reader;
mod sound;
mod source;
mod weights;
mod writer;

pub(crate) use file::{WeightsFile, WeightsSource, header as tensors_header};
pub use folder::SaveTo;
pub(crate) use folder::{Claimed, part, whole};
#[cfg(feature = "cli")]
pub(crate) use folder::{step_of, unfinished};
#[cfg(feature = "cli")]
pub(crate) use manifest::MANIFEST;
pub use manifest::{FileEntry, LayerEntry, Manifest, TensorEntry};
pub use reader::Checkpoint;
pub use weights::{NamedTensor, Weights, weights_sha256};
pub(crate) use writer::{NodeFile, NotWritten, Written};
