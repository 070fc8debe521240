//! What the data are, where they are no plain text.

use super::whole;
use crate::cli::failure::Failure;
use crate::cli::run_folder::TOKENIZER;
use crate::cli::tokenizer::Vocabulary;
use brigade_nn::NumberType;
use clap::{Args, ValueEnum, ValueHint};
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Data")]
pub(in crate::cli) struct TokenOptions {
    /// Turn text into tokens with this tokenizer.json of Hugging Face; that of --from, or bytes are
    /// the tokens unless given.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(in crate::cli) tokenizer: Option<PathBuf>,
    /// Numbers of a token file (.bin), little-endian; as its folder's tokens.json says, or u16,
    /// unless given.
    #[arg(long, value_enum, value_name = "NAME")]
    pub(in crate::cli) token_type: Option<TokenTypeArg>,
    /// Tokens are below N: for token files and arrays; as tokenizer, tokens.json or
    /// the network of --from say unless given.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole::<usize>)]
    pub(in crate::cli) vocab: Option<usize>,
}

impl TokenOptions {
    /// A run that goes on does so with the tokenizer that it keeps.
    pub(in crate::cli) fn go_on(&mut self, run: &Path) {
        let kept = run.join(TOKENIZER);
        if self.tokenizer.is_some() && kept.exists() {
            self.tokenizer = Some(kept);
        }
    }

    /// Another tokenizer than the one that a run keeps would make other tokens of its text.
    pub(in crate::cli) fn same(given: &Path, run: &Path) -> Result<(), Failure> {
        let Some(kept) = Vocabulary::of_folder(run)? else {
            return Ok(());
        };
        let given_sha256 = Vocabulary::open(given)?.sha256().unwrap_or_default();
        let kept_sha256 = kept.sha256().unwrap_or_default();
        match given_sha256 == kept_sha256 {
            true => Ok(()),
            false => Err(Failure::Usage(format!(
                "--tokenizer {} (SHA-256 {given_sha256}) is another one than that of the run that \
                 goes on, {} ({kept_sha256}); leave it out",
                given.display(),
                run.join(TOKENIZER).display()
            ))),
        }
    }

    /// Text for a model is turned into tokens with the model's own tokenizer.
    pub(in crate::cli) fn settle(&mut self, model: Option<&Path>) {
        let own = model.map(|model| model.join(TOKENIZER));
        if self.tokenizer.is_none() {
            self.tokenizer = own.filter(|own| own.is_file());
        }
    }
}

/// Types of tokens by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum TokenTypeArg {
    // As nanoGPT writes them.
    U16,
    // For vocabularies above 65,536.
    U32,
}

impl From<TokenTypeArg> for NumberType {
    fn from(number_type: TokenTypeArg) -> Self {
        match number_type {
            TokenTypeArg::U16 => Self::U16,
            TokenTypeArg::U32 => Self::U32,
        }
    }
}
