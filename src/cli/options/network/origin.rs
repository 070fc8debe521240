//! A network that is taken from where it was trained before.

use super::{FamilyArg, NETWORK, NetworkOptions};
use crate::cli::config_file::Decided;
use crate::cli::failure::Failure;
use crate::cli::model::{Model, network_of};
use crate::cli::run_folder::NETWORK as NETWORK_FILE;
use brigade_nn::Decoder;
use clap::ValueEnum;
use std::path::Path;

impl NetworkOptions {
    /// Looks up the network that is to be taken from a folder, if so.
    pub(in crate::cli) fn settle(&mut self) -> Result<(), Failure> {
        let Some(folder) = &self.from else {
            return Ok(());
        };
        let model = Model::of(folder)?;
        let decoder = match self.context {
            0 => model.decoder,
            context => model.decoder.with_context(context).map_err(|error| {
                Failure::Usage(format!(
                    "--context, with --from {}: {error}",
                    folder.display()
                ))
            })?,
        };
        self.take(decoder);
        Ok(())
    }

    /// Goes on with the network of a run, where the options are those that describe it, or were
    /// left to what it was begun with; with another context, if so.
    pub(in crate::cli) fn go_on(&mut self, run: &Path) -> Result<(), Failure> {
        let file = run.join(NETWORK_FILE);
        if !file.exists() {
            return Ok(());
        }
        let decoder = network_of(&file)?;
        let left = self.from.is_some() && self.found.is_none();
        let mut described = self.clone();
        described.describe(&decoder);
        described.context = self.context;
        if !left && described != *self {
            return Ok(());
        }
        let decoder = match self.context {
            own if own == decoder.context() => decoder,
            context => decoder
                .with_context(context)
                .map_err(|error| Failure::Usage(format!("--context, with --resume: {error}")))?,
        };
        self.take(decoder);
        Ok(())
    }

    /// How many kinds of tokens the network knows, where it is taken from a folder.
    pub(in crate::cli) fn vocab_found(&self) -> Option<usize> {
        self.found.as_ref().map(Decoder::vocab)
    }

    /// It is this one; what is dropped is an option of the training.
    fn take(&mut self, mut decoder: Decoder) {
        match &mut decoder {
            Decoder::Gpt(gpt) => gpt.dropout = self.dropout,
            Decoder::Llama(llama) => llama.dropout = self.dropout,
            _ => {}
        }
        self.describe(&decoder);
        self.found = Some(decoder);
    }

    /// Says what these options can say of a network.
    pub(in crate::cli) fn describe(&mut self, decoder: &Decoder) {
        self.context = decoder.context();
        match decoder {
            Decoder::Gpt(gpt) => {
                self.family = FamilyArg::Gpt;
                self.kv_heads = None;
                self.inner = gpt.inner;
                (self.layers, self.width, self.heads) = (gpt.blocks, gpt.width, gpt.heads);
                (self.tied, self.biases) = (gpt.tied, gpt.biases);
            }
            Decoder::Llama(llama) => {
                self.family = FamilyArg::Llama;
                self.kv_heads = Some(llama.kv_heads);
                self.inner = Some(llama.inner);
                (self.layers, self.width, self.heads) = (llama.blocks, llama.width, llama.heads);
                (self.tied, self.biases) = (llama.tied, llama.attention_biases);
            }
            _ => {}
        }
    }

    /// Their values, for a configuration file.
    pub(in crate::cli) fn described(&self) -> Decided {
        let family = self.family.to_possible_value();
        Decided::from([
            ("family", family.map(|family| family.get_name().to_owned())),
            ("layers", Some(self.layers.to_string())),
            ("width", Some(self.width.to_string())),
            ("heads", Some(self.heads.to_string())),
            ("kv-heads", self.kv_heads.map(|heads| heads.to_string())),
            ("inner", self.inner.map(|inner| inner.to_string())),
            ("context", Some(self.context.to_string())),
            ("tied", Some(self.tied.to_string())),
            ("biases", Some(self.biases.to_string())),
        ])
    }

    /// With --from, what a configuration file leaves to that folder.
    pub(in crate::cli) fn left_to_its_origin(&self) -> Decided {
        let mut decided = Decided::new();
        if self.from.is_some() {
            decided.extend(NETWORK.map(|name| (name, None)));
            decided.insert("context", Some(self.context.to_string()));
        }
        decided
    }

    /// The network that was found, for so many kinds of tokens.
    pub(super) fn decoder_found(&self, vocab: usize) -> Result<Decoder, Failure> {
        let Some(decoder) = &self.found else {
            let problem = "--from is not looked up here; give it on the command line";
            return Err(Failure::Usage(problem.into()));
        };
        if vocab > decoder.vocab() {
            let known = decoder.vocab();
            return Err(Failure::Other(format!(
                "tokens are to be below {vocab}, the model knows {known}; leave --vocab out, and \
                 give it data of its own tokens"
            )));
        }
        Ok(decoder.clone())
    }
}
