//! What is saved, keyed by layer and parameter, never by stage or node.

mod file;
mod folder;
mod manifest;
mod reader;
mod sound;
mod source;
mod weights;
mod writer;

pub(crate) use file::{WeightsFile, WeightsSource};
pub use folder::SaveTo;
pub(crate) use folder::{Claimed, part, whole};
pub use manifest::{FileEntry, LayerEntry, Manifest, TensorEntry};
pub use reader::Checkpoint;
pub use weights::{NamedTensor, Weights, weights_sha256};
pub(crate) use writer::{NodeFile, NotWritten, Written};
