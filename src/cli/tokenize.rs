//! `brigade tokenize`: text once made into token files, so that no training has to do it again.

use super::failure::Failure;
use super::output::Output;
use super::run_folder::TOKENIZER;
use super::text::{ABOUT, About, TRAINING, TextFiles, VALIDATION, training_part};
use super::tokenizer::Vocabulary;
use crate::process;
use brigade_nn::NumberType;
use clap::{Args, ValueHint};
use serde_json::json;
use std::fs::{self, File};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Options of `brigade tokenize`.
#[derive(Clone, Debug, Args)]
pub(super) struct TokenizeOptions {
    /// Text file, or folder with text files.
    #[arg(value_name = "DATA", default_value = ".", value_hint = ValueHint::AnyPath)]
    data: PathBuf,
    /// The tokenizer.json of Hugging Face that turns text into tokens.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    tokenizer: PathBuf,
    /// Folder for train.bin, val.bin, tokens.json and tokenizer.json; it must not be there yet.
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    out: PathBuf,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

pub(super) fn tokenize(options: &TokenizeOptions, to: &mut dyn Write) -> Result<(), Failure> {
    // One process is enough, and several would write the same folder.
    if !process::is_first() {
        return Ok(());
    }
    let vocabulary = Vocabulary::open(&options.tokenizer)?;
    let files = TextFiles::find(&options.data, &[Some(&options.out)], vocabulary.json())?;
    let folder = NewFolder::create(&options.out)?;
    let mut tokens = TokenFile::create(&folder.file(TRAINING), vocabulary.size())?;
    let source = files.each(|text| vocabulary.encode_all(text, |some| tokens.write(some)))?;
    let about = About {
        vocab: vocabulary.size(),
        number_type: tokens.number_type,
        train_tokens: Some(training_part(tokens.count) as u64),
        val_tokens: Some((tokens.count - training_part(tokens.count)) as u64),
        tokenizer_sha256: vocabulary.sha256(),
        source: Some(source.clone()),
    };
    if tokens.count < 20 {
        let problem = format!("{source} is too short: it has {} tokens", tokens.count);
        return Err(Failure::Other(format!(
            "{problem}, and at least 20 are needed"
        )));
    }
    tokens.split(&folder.file(VALIDATION))?;
    folder.write(TOKENIZER, vocabulary.json().unwrap_or_default())?;
    let text = serde_json::to_string_pretty(&about).unwrap_or_default() + "\n";
    folder.write(ABOUT, text.as_bytes())?;
    folder.finish()?;

    let (mut output, out) = (Output::new(to, options.json), options.out.display());
    output.tell(&json!({ "folder": out.to_string(), "about": about }))?;
    let [training, validation] =
        [about.train_tokens, about.val_tokens].map(Option::unwrap_or_default);
    output.say(&format!(
        "{source}\n{training} tokens to train on and {validation} to validate on, {} each, out of {}; \
         train with brigade train {out}",
        about.number_type, about.vocab
    ))
}

/// A file of tokens that is being written.
struct TokenFile {
    path: PathBuf,
    file: BufWriter<File>,
    number_type: NumberType,
    count: usize,
}

impl TokenFile {
    fn create(path: &Path, vocab: usize) -> Result<Self, Failure> {
        let mut options = File::options();
        let file = options.read(true).write(true).create_new(true).open(path);
        let file = file.map_err(|error| Failure::file("write", path, &error))?;
        Ok(Self {
            path: path.to_owned(),
            file: BufWriter::with_capacity(1 << 20, file),
            number_type: match vocab <= 1 << 16 {
                true => NumberType::U16,
                false => NumberType::U32,
            },
            count: 0,
        })
    }

    fn write(&mut self, tokens: &[i32]) -> Result<(), Failure> {
        let width = self.number_type.size_bytes();
        for token in tokens {
            let written = self.file.write_all(&token.to_le_bytes()[..width]);
            written.map_err(|error| Failure::file("write", &self.path, &error))?;
        }
        self.count += tokens.len();
        Ok(())
    }

    /// Moves the last tenth into a file of its own.
    fn split(self, validation: &Path) -> Result<(), Failure> {
        let at = (training_part(self.count) * self.number_type.size_bytes()) as u64;
        let fail = |error: io::Error| Failure::file("write", &self.path, &error);
        let mut training = self
            .file
            .into_inner()
            .map_err(|error| fail(error.into_error()))?;
        let mut move_tail = || {
            training.seek(SeekFrom::Start(at))?;
            let mut file = File::create_new(validation)?;
            io::copy(&mut training, &mut file)?;
            file.sync_all()?;
            training.set_len(at)?;
            training.sync_all()
        };
        move_tail().map_err(fail)
    }
}

/// A folder that is filled under a hidden name beside its own, and gets its own when it is whole.
struct NewFolder {
    path: PathBuf,
    part: PathBuf,
}

impl NewFolder {
    fn create(path: &Path) -> Result<Self, Failure> {
        let missing = || Failure::Usage(format!("--out is {}; give a new folder", path.display()));
        let name = path.file_name().ok_or_else(missing)?;
        if path.exists() {
            let problem = "is there already; give another folder, or remove it";
            return Err(Failure::Usage(format!("{} {problem}", path.display())));
        }
        let part = path.with_file_name(format!(".{}.part", name.to_string_lossy()));
        // What a run that was killed has left.
        if part.exists() {
            fs::remove_dir_all(&part).map_err(|error| Failure::file("remove", &part, &error))?;
        }
        fs::create_dir_all(&part).map_err(|error| Failure::file("make", path, &error))?;
        let path = path.to_owned();
        Ok(Self { path, part })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.part.join(name)
    }

    fn write(&self, name: &str, content: &[u8]) -> Result<(), Failure> {
        let path = self.file(name);
        let written = File::create_new(&path).and_then(|mut file| {
            file.write_all(content)?;
            file.sync_all()
        });
        written.map_err(|error| Failure::file("write", &path, &error))
    }

    fn finish(self) -> Result<(), Failure> {
        let renamed = fs::rename(&self.part, &self.path);
        renamed.map_err(|error| Failure::file("make", &self.path, &error))
    }
}

impl Drop for NewFolder {
    fn drop(&mut self) {
        // After an error a full disk is not to stay full because of us; renamed, it is not there.
        let _ = fs::remove_dir_all(&self.part);
    }
}
