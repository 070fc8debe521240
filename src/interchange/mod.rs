//! Weights in and out, as other libraries have them: safetensors, in one file or in several with
//! an index, of f32, bf16 or f16, under names of their own.
//!
//! # Example
//! ```no_run
//! use brigade::interchange::{Export, TensorFolder, export};
//! use brigade::nn::{AdamW, Decoder};
//! use brigade::{Config, Trainer};
//!
//! let config = std::fs::read_to_string("gpt2/config.json")?;
//! let decoder = Decoder::from_hugging_face(&config)?.with_context(256)?;
//! let names = decoder.hugging_face_names()?;
//! let config = Config { nodes: 4, ..Config::default() };
//! let mut trainer = Trainer::start(&decoder.network()?, &config, AdamW::new(1e-4))?;
//! // Every node reads its own.
//! trainer.load_tensors(&TensorFolder::open("gpt2")?, &names)?;
//! // ... train ...
//! trainer.save_weights("tuned/weights.safetensors")?;
//! let tuned = TensorFolder::open("tuned/weights.safetensors")?;
//! export(&tuned, (&names, &decoder.network()?), "tuned", &Export::default())?;
//! std::fs::write("tuned/config.json", decoder.to_hugging_face("float32")?)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod convert;
mod export;
mod folder;
mod header;
mod import;
mod index;
mod matching;
mod source;

pub use convert::FloatType;
pub use export::{Export, Exported, export};
pub use folder::TensorFolder;
pub use import::{check, import};
pub(crate) use source::TensorSource;

use crate::error::{Error, TensorError};
use crate::files::brief;
use std::path::Path;

/// That a file is not what it should be.
fn damaged(path: &Path, problem: impl ToString) -> Error {
    Error::Tensor(Box::new(TensorError::Damaged {
        path: path.display().to_string(),
        problem: brief(&problem.to_string()),
    }))
}

/// For the fuzz target: what a header, or an index, says is read or refused.
pub(crate) mod outside {
    /// Names and bytes of the tensors of a safetensors file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn tensors(file: &[u8]) -> Result<Vec<(String, std::ops::Range<usize>)>, String> {
        let tensors = super::header::read(file)?.into_iter();
        Ok(tensors.map(|(name, tensor)| (name, tensor.bytes)).collect())
    }

    /// Tensors and their files of an index.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn index(text: &[u8]) -> Result<Vec<(String, String)>, String> {
        let index = super::index::Index::parse(text)?;
        Ok(index.into_files().into_iter().collect())
    }
}
