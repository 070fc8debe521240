//! A model: a network, and where its weights are. Of a run folder, or of one of Hugging Face.

use super::failure::Failure;
use super::options::RunOptions;
use super::run_folder::{CONFIG, LOSSES, NETWORK, WEIGHTS};
use super::run_options::{default_options, options_of_run};
use super::tokenizer::BYTES;
use crate::files::{parse_json, read_found, read_found_text};
use crate::interchange::TensorFolder;
use crate::{Error, Trainer};
use brigade_nn::Decoder;
use std::path::{Path, PathBuf};

/// What describes a network of Hugging Face.
pub(super) const HUGGING_FACE: &str = "config.json";
/// More than any of these has.
const MOST_CONFIG_BYTES: u64 = 1 << 20;

/// A model.
#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) decoder: Decoder,
    pub(super) folder: PathBuf,
    /// The options of the run that trained it, or those of a run without any.
    pub(super) options: RunOptions,
    /// Whether it is a run's, with weights under our own keys.
    pub(super) is_run: bool,
}

impl Model {
    /// That of a folder.
    pub(super) fn of(folder: &Path) -> Result<Self, Failure> {
        let (config, network) = (folder.join(CONFIG), folder.join(NETWORK));
        let hugging_face = folder.join(HUGGING_FACE);
        // A config.toml may be of anything.
        let mut trained = [WEIGHTS, LOSSES].iter();
        let trained = config.exists() && trained.any(|name| folder.join(name).exists());
        let is_run = network.exists() || trained || !hugging_face.exists();
        let folder = folder.to_owned();
        if !is_run {
            let options = default_options()?;
            let decoder = hugging_face_decoder(&hugging_face)?;
            return Ok(Self {
                decoder,
                folder,
                options,
                is_run,
            });
        }
        let options = options_of_run(&config).map_err(|failure| match config.exists() {
            true => failure,
            false => Failure::Other(format!(
                "{failure}; a model is a run folder, or one of Hugging Face with {HUGGING_FACE}"
            )),
        })?;
        let decoder = match network.exists() {
            true => network_of(&network)?,
            // As runs were before they wrote it down.
            false => {
                let vocab = options.output.synthetic_vocab.unwrap_or(BYTES);
                options.network.decoder(vocab)?
            }
        };
        Ok(Self {
            decoder,
            folder,
            options,
            is_run,
        })
    }

    /// The file of a run's weights.
    pub(super) fn weights(&self) -> Result<PathBuf, Failure> {
        let file = self.folder.join(WEIGHTS);
        match file.exists() {
            true => Ok(file),
            false => Err(Failure::Other(format!(
                "{} has no weights: the run ended before they were saved",
                self.folder.display()
            ))),
        }
    }

    /// Gives them to a trainer of its network; every node reads its own.
    pub(super) fn load(&self, trainer: &mut Trainer) -> Result<(), Failure> {
        if !self.is_run {
            let names = self.decoder.hugging_face_names()?;
            return Ok(trainer.load_tensors(&TensorFolder::open(&self.folder)?, &names)?);
        }
        let file = self.weights()?;
        trainer
            .load_weights_file(&file)
            .map_err(|error| match error {
                Error::Plan(error) => {
                    let file = file.display();
                    Failure::Other(format!("{file} is not of this run's network: {error}"))
                }
                other => other.into(),
            })
    }
}

fn hugging_face_decoder(path: &Path) -> Result<Decoder, Failure> {
    let text = read_found_text(path, MOST_CONFIG_BYTES);
    let text = text.map_err(|error| Failure::file("read", path, &error))?;
    let decoder = Decoder::from_hugging_face(&text);
    decoder.map_err(|error| Failure::Other(format!("{}: {error}", path.display())))
}

/// The network that a run folder keeps in this file.
pub(super) fn network_of(file: &Path) -> Result<Decoder, Failure> {
    let content = read_found(file, MOST_CONFIG_BYTES);
    let content = content.map_err(|error| Failure::file("read", file, &error))?;
    Ok(parse_json(&file.display().to_string(), &content)?)
}

/// A network as a run folder keeps it.
pub(super) fn network_json(decoder: &Decoder) -> Result<String, Failure> {
    let text = serde_json::to_string_pretty(decoder);
    let text = text.map_err(|error| Failure::Other(error.to_string()))?;
    Ok(text + "\n")
}
