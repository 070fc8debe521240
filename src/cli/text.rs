//! Text as tokens: the bytes of a file, or of all text files of a folder.

use super::alike;
use super::failure::Failure;
use super::options::RunOptions;
use crate::plan::hex;
use crate::process;
use brigade_layer::Random;
use brigade_nn::TokenWindows;
use ignore::WalkBuilder;
use sha2::{Digest, Sha256};
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// 64 windows of random tokens are made in memory.
const MOST_SYNTHETIC_CONTEXT: usize = 1 << 20;

/// Bytes are the tokens.
pub(super) const BYTES: usize = 256;

/// Tokens to train on and tokens to validate on.
#[derive(Clone)]
pub(super) struct Corpus {
    pub(super) vocab: usize,
    training: Arc<[i32]>,
    pub(super) validation: Arc<[i32]>,
    /// Where they came from, in words.
    pub(super) source: String,
}

impl Corpus {
    /// What the options say to train on: the same on all processes.
    pub(super) fn of(options: &RunOptions) -> Result<Self, Failure> {
        let (context, seed) = (options.network.context, options.training.seed);
        let corpus = match options.output.synthetic_vocab {
            Some(vocab) => Self::synthetic(vocab, context, seed),
            None => Self::read(&options.data, context, options.output.out.as_deref()),
        }?;
        if process::count() > 1 {
            alike::data(&corpus.digest(), options.checked_config()?.deadline())?;
        }
        Ok(corpus)
    }

    /// Where it came from, and its SHA-256.
    pub(super) fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for part in [&self.training, &self.validation] {
            for tokens in part.chunks(1 << 14) {
                let bytes: Vec<u8> = tokens.iter().flat_map(|t| t.to_le_bytes()).collect();
                hash.update(&bytes);
            }
        }
        format!("{}, SHA-256 {}", self.source, hex(&hash.finalize()))
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

    /// Reads a file, or all text files of a folder in the order of their paths. What is in `run`,
    /// an earlier run's folder, is no text to train on.
    fn read(path: &Path, context: usize, run: Option<&Path>) -> Result<Self, Failure> {
        let kind = fs::metadata(path).map_err(|error| Failure::file("read", path, &error))?;
        let (bytes, files) = match kind.is_dir() {
            true => read_folder(path, run)?,
            false => (read_text(path)?, 1),
        };
        let source = format!("{} ({files} files, {} bytes)", path.display(), bytes.len());
        let source = if files == 1 {
            source.replace("1 files", "1 file")
        } else {
            source
        };
        Self::split(
            bytes.into_iter().map(i32::from).collect(),
            BYTES,
            context,
            source,
        )
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
            .collect();
        Self::split(
            tokens,
            vocab,
            context,
            format!("{count} random tokens out of {vocab}"),
        )
    }

    /// The last tenth is for validation.
    fn split(
        tokens: Vec<i32>,
        vocab: usize,
        context: usize,
        source: String,
    ) -> Result<Self, Failure> {
        let training = tokens.len() - tokens.len() / 10;
        let needed = context.saturating_add(1);
        if training < needed || tokens.len() - training < 2 {
            let most = training.saturating_sub(1).max(1);
            return Err(Failure::Other(format!(
                "{source} is too short: nine tenths of it must hold {needed} tokens and one tenth 2; \
                 give more text or --context {most} or less"
            )));
        }
        let (training, validation) = tokens.split_at(training);
        Ok(Self {
            vocab,
            training: training.into(),
            validation: validation.into(),
            source,
        })
    }
}

/// A file that is to be text.
fn read_text(path: &Path) -> Result<Vec<u8>, Failure> {
    let bytes = fs::read(path).map_err(|error| Failure::file("read", path, &error))?;
    match not_text(&bytes) {
        None => Ok(bytes),
        Some((at, what)) => Err(Failure::Other(format!(
            "{} is no text: {what} at byte {at}; give text in UTF-8",
            path.display()
        ))),
    }
}

/// Where these bytes stop being text, and why.
fn not_text(bytes: &[u8]) -> Option<(usize, &'static str)> {
    if let Some(at) = bytes.iter().position(|byte| *byte == 0) {
        return Some((at, "a zero"));
    }
    let error = std::str::from_utf8(bytes).err()?;
    Some((error.valid_up_to(), "no UTF-8"))
}

/// All text files, skipping what git ignores, what is hidden, and what is no text.
fn read_folder(folder: &Path, run: Option<&Path>) -> Result<(Vec<u8>, usize), Failure> {
    let fail =
        |error: ignore::Error| Failure::Other(format!("cannot read {}: {error}", folder.display()));
    let mut paths = Vec::new();
    let run = run.and_then(|run| run.canonicalize().ok());
    let mut walk = WalkBuilder::new(folder);
    walk.require_git(false)
        .sort_by_file_path(Path::cmp)
        .filter_entry(move |entry| run.is_none() || entry.path().canonicalize().ok() != run);
    for entry in walk.build() {
        let entry = entry.map_err(fail)?;
        if entry.file_type().is_some_and(|kind| kind.is_file()) {
            paths.push(entry.into_path());
        }
    }
    let (mut all, mut files) = (Vec::new(), 0);
    for path in paths {
        let bytes = fs::read(&path).map_err(|error| Failure::file("read", &path, &error))?;
        if !bytes.is_empty() && not_text(&bytes).is_none() {
            all.extend(bytes);
            files += 1;
        }
    }
    if files == 0 {
        return Err(Failure::Other(format!(
            "{} has no text files to train on",
            folder.display()
        )));
    }
    Ok((all, files))
}
