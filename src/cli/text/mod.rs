//! What is trained on: text as tokens, or token ids.

mod files;
mod token_files;

use super::alike;
use super::failure::Failure;
use super::options::RunOptions;
use super::tokenizer::{BYTES, Vocabulary};
use crate::plan::hex;
use crate::process;
use brigade_layer::Random;
use brigade_nn::{TokenWindows, Tokens};
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use token_files::TokenFiles;

pub(super) use files::TextFiles;
pub(super) use token_files::{ABOUT, About, TRAINING, VALIDATION};

/// 64 windows of random tokens are made in memory.
const MOST_SYNTHETIC_CONTEXT: usize = 1 << 20;
/// So many tokens at a time go into a digest.
const DIGESTED: usize = 1 << 16;

/// Tokens to train on and tokens to validate on.
#[derive(Clone)]
pub(super) struct Corpus {
    pub(super) vocab: usize,
    training: Tokens,
    pub(super) validation: Tokens,
    /// Where they came from, in words.
    pub(super) source: String,
    /// What tokens are as text, if that is known.
    pub(super) vocabulary: Option<Arc<Vocabulary>>,
    digest: Arc<OnceLock<String>>,
}

impl Corpus {
    /// What the options say to train on: the same on all processes.
    pub(super) fn of(options: &RunOptions) -> Result<Self, Failure> {
        let (context, seed) = (options.network.context, options.training.seed);
        let corpus = match (options.output.synthetic_vocab, &*options.data) {
            (Some(vocab), _) => Self::synthetic(vocab, context, seed),
            (None, data) => match TokenFiles::find(data)? {
                Some(files) => Self::of_tokens(&files, options),
                None => Self::of_text(data, options),
            },
        }?;
        if process::count() > 1 {
            alike::data(&corpus.digest()?, options.checked_config()?.deadline())?;
        }
        Ok(corpus)
    }

    /// Where it came from, and its SHA-256. Whatever is wrong with a token is found here.
    pub(super) fn digest(&self) -> Result<String, Failure> {
        if let Some(known) = self.digest.get() {
            return Ok(known.clone());
        }
        let (mut hash, mut some, mut bytes) = (Sha256::new(), Vec::new(), Vec::new());
        for part in [&self.training, &self.validation] {
            for start in (0..part.len()).step_by(DIGESTED) {
                let range = start..part.len().min(start + DIGESTED);
                some.clear();
                part.read(range.clone(), &mut some)?;
                bytes.clear();
                bytes.extend(some.iter().flat_map(|token| token.to_le_bytes()));
                hash.update(&bytes);
                // Of a file larger than the memory no more is to stay than is used.
                part.release(range);
            }
        }
        let digest = format!("{}, SHA-256 {}", self.source, hex(&hash.finalize()));
        Ok(self.digest.get_or_init(|| digest).clone())
    }

    /// Mini-batches of its training part.
    pub(super) fn windows(&self, options: &RunOptions) -> Result<TokenWindows, Failure> {
        Ok(TokenWindows::random(
            self.training.clone(),
            options.network.context,
            options.training.batch_size,
            options.training.seed,
        )?)
    }

    /// Whether its tokens are others than bytes.
    pub(super) fn has_ids(&self) -> bool {
        !matches!(self.vocabulary.as_deref(), Some(Vocabulary::Bytes))
    }

    fn of_tokens(files: &TokenFiles, options: &RunOptions) -> Result<Self, Failure> {
        let read = files.read(&options.tokens, options.network.vocab_found())?;
        let source = (read.source, read.vocab, read.vocabulary);
        let context = options.network.context;
        match read.validation {
            Some(validation) => {
                let parts = [TRAINING, VALIDATION];
                Self::new((read.training, validation), parts, context, source)
            }
            None => Self::split(read.training, context, source),
        }
    }

    /// A file, or all text files of a folder.
    fn of_text(data: &Path, options: &RunOptions) -> Result<Self, Failure> {
        let given = &options.tokens;
        if given.token_type.is_some() {
            return Err(token_files::not_for("texts"));
        }
        let vocabulary = match (&given.tokenizer, given.vocab) {
            (Some(file), _) => Vocabulary::open(file)?,
            (None, None) => match options.network.vocab_found() {
                None | Some(BYTES) => Vocabulary::Bytes,
                Some(_) => {
                    let problem = "the model of --from has tokens of its own and no tokenizer.json: \
                                   give --tokenizer, or data of its tokens";
                    return Err(Failure::Usage(problem.into()));
                }
            },
            (None, Some(_)) => {
                let problem = "--vocab is for token ids; those of a text are bytes, or come from \
                               --tokenizer";
                return Err(Failure::Usage(problem.into()));
            }
        };
        let known = token_files::below(options.network.vocab_found(), vocabulary.size());
        let vocab = given.vocab_of(known)?;
        let besides = [&options.output.out, &options.network.from];
        let besides = besides.map(Option::as_deref);
        let files = TextFiles::find(data, &besides, vocabulary.json())?;
        let mut tokens: Vec<i32> = Vec::new();
        let source = files.each(|text| {
            vocabulary.encode_all(text, |some| {
                let outside = some.iter().position(|token| *token as usize >= vocab);
                if let Some(at) = outside {
                    return Err(Failure::Other(format!(
                        "{}: token {} is {} (of {}), the model knows {vocab}; give it data of its \
                         own tokens",
                        data.display(),
                        tokens.len() + at,
                        some[at],
                        vocabulary.size()
                    )));
                }
                tokens.extend_from_slice(some);
                Ok(())
            })
        })?;
        let source = match vocabulary {
            Vocabulary::Bytes => source,
            Vocabulary::Tokenizer(_) => format!("{source}, {} tokens out of {vocab}", tokens.len()),
        };
        let source = (source, vocab, Some(vocabulary));
        Self::split(tokens.into(), options.network.context, source)
    }

    /// Random tokens, for measuring.
    fn synthetic(vocab: usize, context: usize, seed: u64) -> Result<Self, Failure> {
        if vocab == 0 || vocab > i32::MAX as usize {
            return Err(Failure::Usage(format!(
                "--synthetic-vocab is {vocab}; it must be between 1 and {}",
                i32::MAX
            )));
        }
        if context == 0 || context > MOST_SYNTHETIC_CONTEXT {
            let most = MOST_SYNTHETIC_CONTEXT;
            let problem = format!("--context is {context}; it must be between 1 and {most}");
            return Err(Failure::Usage(problem));
        }
        let random = Random::named(seed, "synthetic tokens");
        let count = 64 * (context as u64 + 1);
        let tokens = (0..count)
            .map(|at| random.below(at, 0, vocab as u64) as i32)
            .collect::<Vec<_>>();
        let source = format!("{count} random tokens out of {vocab}");
        Self::split(tokens.into(), context, (source, vocab, None))
    }

    /// The last tenth is for validation.
    fn split(tokens: Tokens, context: usize, source: Source) -> Result<Self, Failure> {
        let training = training_part(tokens.len());
        let parts = (
            tokens.slice(0..training)?,
            tokens.slice(training..tokens.len())?,
        );
        let names = ["nine tenths of it", "one tenth"];
        Self::new(parts, names, context, source)
    }

    fn new(
        (training, validation): (Tokens, Tokens),
        [first, second]: [&str; 2],
        context: usize,
        (source, vocab, vocabulary): Source,
    ) -> Result<Self, Failure> {
        let needed = context.saturating_add(1);
        if training.len() < needed || validation.len() < 2 {
            let shorter = match (training.len(), validation.len()) {
                (2.., 2..) => format!(", or --context {} or less", training.len() - 1),
                // No context is short enough.
                _ => String::new(),
            };
            return Err(Failure::Other(format!(
                "{source} is too short: {first} must hold {needed} tokens and {second} 2; give \
                 more{shorter}"
            )));
        }
        Ok(Self {
            vocab,
            training,
            validation,
            source,
            vocabulary: vocabulary.map(Arc::new),
            digest: Arc::default(),
        })
    }
}

/// Where tokens came from in words, what they are below, and what they are as text.
type Source = (String, usize, Option<Vocabulary>);

/// How many of so many tokens are to train on: all but the last tenth.
pub(super) fn training_part(tokens: usize) -> usize {
    tokens - tokens / 10
}
