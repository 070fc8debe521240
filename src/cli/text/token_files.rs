//! Data that are token ids: a file of them, an array, or a folder with `train.bin` and `val.bin`
//! as `brigade tokenize` and nanoGPT write it.

use crate::cli::failure::Failure;
use crate::cli::options::TokenOptions;
use crate::cli::tokenizer::Vocabulary;
use crate::files::read_found_json;
use brigade_nn::{NumberType, Tokens};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

pub(in crate::cli) const TRAINING: &str = "train.bin";
pub(in crate::cli) const VALIDATION: &str = "val.bin";
pub(in crate::cli) const ABOUT: &str = "tokens.json";
const MOST_VOCAB: usize = i32::MAX as usize;

/// What a folder of tokens says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::cli) struct About {
    /// Tokens are below this.
    pub(in crate::cli) vocab: usize,
    #[serde(rename = "type", default = "nano_gpt")]
    pub(in crate::cli) number_type: NumberType,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) train_tokens: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) val_tokens: Option<u64>,
    /// Of the tokenizer.json that made them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) tokenizer_sha256: Option<String>,
    /// Which text they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) source: Option<String>,
}

impl About {
    fn read(path: &Path) -> Result<Self, Failure> {
        let about: Self = read_found_json(path)?;
        match (1..=MOST_VOCAB).contains(&about.vocab) {
            true => Ok(about),
            false => Err(Failure::Other(format!(
                "{}: vocab is {}; it must be between 1 and {MOST_VOCAB}",
                path.display(),
                about.vocab
            ))),
        }
    }
}

fn nano_gpt() -> NumberType {
    NumberType::U16
}

/// Data that are token ids.
pub(super) enum TokenFiles {
    Bin(PathBuf),
    Npy(PathBuf),
    Folder(PathBuf, Option<About>),
}

/// What was read of them.
pub(super) struct Read {
    pub(super) training: Tokens,
    /// Nothing: a part of the others.
    pub(super) validation: Option<Tokens>,
    pub(super) vocab: usize,
    pub(super) vocabulary: Option<Vocabulary>,
    pub(super) source: String,
}

impl TokenFiles {
    /// Nothing where the data are to be text.
    pub(super) fn find(data: &Path) -> Result<Option<Self>, Failure> {
        let is = |wanted: &str| {
            let found = data.extension();
            found.is_some_and(|found| found.eq_ignore_ascii_case(wanted)) && !data.is_dir()
        };
        if is("bin") || is("npy") {
            let file = data.to_owned();
            return Ok(Some(match is("bin") {
                true => Self::Bin(file),
                false => Self::Npy(file),
            }));
        }
        let [training, validation, about] = [TRAINING, VALIDATION, ABOUT].map(|it| data.join(it));
        match (training.exists(), validation.exists()) {
            (false, false) => Ok(None),
            (true, true) => {
                let about = about.exists().then(|| About::read(&about)).transpose()?;
                Ok(Some(Self::Folder(data.to_owned(), about)))
            }
            (has, _) => {
                let (has, lacks) = match has {
                    true => (&training, VALIDATION),
                    false => (&validation, TRAINING),
                };
                let data = data.display();
                Err(Failure::Other(format!(
                    "{data} has no {lacks} beside its {}; to train on that file alone, give {}",
                    has.file_name().unwrap_or_default().display(),
                    has.display()
                )))
            }
        }
    }

    /// Reads them; `network` is how many kinds of tokens the network knows, where it is a given
    /// one.
    pub(super) fn read(
        &self,
        options: &TokenOptions,
        network: Option<usize>,
    ) -> Result<Read, Failure> {
        let about = match self {
            Self::Folder(_, about) => about.as_ref(),
            _ => None,
        };
        let vocabulary = self.vocabulary(options, about)?;
        let known = about.map(|about| about.vocab);
        let known = known.max(vocabulary.as_ref().map(Vocabulary::size));
        let known = known.map(|known| below(network, known)).or(network);
        let vocab = self.vocab(options, known)?;
        let (training, validation) = match self {
            Self::Npy(_) if options.token_type.is_some() => return Err(not_for("arrays")),
            Self::Npy(file) => (Tokens::open_npy(file)?, None),
            Self::Bin(file) => (Tokens::open(file, number_type(options, about)?)?, None),
            Self::Folder(folder, about) => {
                let number_type = number_type(options, about.as_ref())?;
                let open = |file: &str, counted: Option<u64>| {
                    let tokens = Tokens::open(folder.join(file), number_type)?;
                    let has = tokens.len() as u64;
                    match counted.filter(|counted| *counted != has) {
                        None => Ok(tokens),
                        Some(counted) => Err(Failure::Other(format!(
                            "{} says that {file} has {counted} tokens; it has {has} of \
                             {number_type}",
                            folder.join(ABOUT).display()
                        ))),
                    }
                };
                let about = about.as_ref();
                let training = open(TRAINING, about.and_then(|about| about.train_tokens))?;
                let validation = open(VALIDATION, about.and_then(|about| about.val_tokens))?;
                (training, Some(validation))
            }
        };
        let count = training.len() + validation.as_ref().map_or(0, Tokens::len);
        Ok(Read {
            source: format!("{} ({count} tokens out of {vocab})", self.path().display()),
            training: training.within(vocab),
            validation: validation.map(|tokens| tokens.within(vocab)),
            vocab,
            vocabulary,
        })
    }

    fn path(&self) -> &Path {
        match self {
            Self::Bin(path) | Self::Npy(path) | Self::Folder(path, _) => path,
        }
    }

    /// The tokenizer, if there is one, which made these tokens.
    fn vocabulary(
        &self,
        options: &TokenOptions,
        about: Option<&About>,
    ) -> Result<Option<Vocabulary>, Failure> {
        let vocabulary = match (&options.tokenizer, self) {
            (Some(file), _) => Some(Vocabulary::open(file)?),
            (None, Self::Folder(folder, _)) => Vocabulary::of_folder(folder)?,
            (None, _) => None,
        };
        let made_with = about.and_then(|about| about.tokenizer_sha256.as_ref());
        let has = vocabulary.as_ref().and_then(Vocabulary::sha256);
        match (made_with, has) {
            (Some(wanted), Some(has)) if *wanted != has => Err(Failure::Other(format!(
                "{} was written with another tokenizer.json (SHA-256 {wanted}) than the one that \
                 is used now ({has})",
                self.path().join(ABOUT).display()
            ))),
            _ => Ok(vocabulary),
        }
    }

    fn vocab(&self, options: &TokenOptions, known: Option<usize>) -> Result<usize, Failure> {
        match known {
            Some(known) => options.vocab_of(known),
            None if options.vocab.is_some() => options.vocab_of(1),
            None => Err(Failure::Usage(format!(
                "{} has token ids: give --vocab N, which all are below, or --tokenizer FILE",
                self.path().display()
            ))),
        }
    }
}

impl TokenOptions {
    /// The vocabulary, where so many tokens are known.
    pub(super) fn vocab_of(&self, known: usize) -> Result<usize, Failure> {
        let vocab = self.vocab.unwrap_or(known);
        match vocab >= known && (1..=MOST_VOCAB).contains(&vocab) {
            true => Ok(vocab),
            false => Err(Failure::Usage(format!(
                "--vocab is {vocab}; it must be between {known} and {MOST_VOCAB}"
            ))),
        }
    }
}

/// So many tokens are known, of which a given network may know fewer: then those that occur decide.
pub(super) fn below(network: Option<usize>, known: usize) -> usize {
    network.map_or(known, |network| network.min(known))
}

/// The type of the numbers in token files.
fn number_type(options: &TokenOptions, about: Option<&About>) -> Result<NumberType, Failure> {
    let given = options.token_type.map(NumberType::from);
    match (given, about.map(|about| about.number_type)) {
        (Some(given), Some(said)) if given != said => Err(Failure::Usage(format!(
            "--token-type is {given}; {ABOUT} says {said}: leave it out"
        ))),
        (given, said) => Ok(given.or(said).unwrap_or_else(nano_gpt)),
    }
}

pub(super) fn not_for(data: &str) -> Failure {
    let problem = format!("--token-type is for token files (.bin); {data} have one of their own");
    Failure::Usage(problem)
}
