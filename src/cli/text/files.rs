//! Text files, one after the other: of each no more is held than it has, and of a large one what is
//! being read.

use crate::cli::failure::Failure;
use brigade_layer::MappedFile;
use ignore::WalkBuilder;
use std::fs;
use std::path::{Path, PathBuf};

/// From here on files are mapped instead of being read.
const LARGE: u64 = 64 << 20;

/// A text file, or all text files of a folder in the order of their paths.
pub(in crate::cli) struct TextFiles<'a> {
    given: PathBuf,
    paths: Vec<PathBuf>,
    folder: bool,
    tokenizer: Option<&'a [u8]>,
}

impl<'a> TextFiles<'a> {
    /// In a folder a tokenizer, wherever it lies, is no text to train on, nor is what is in
    /// `besides`, an earlier run's folder or a model's, or in any other folder with weights.
    pub(in crate::cli) fn find(
        given: &Path,
        besides: &[Option<&Path>],
        tokenizer: Option<&'a [u8]>,
    ) -> Result<Self, Failure> {
        let kind = fs::metadata(given).map_err(|error| Failure::file("read", given, &error))?;
        let folder = kind.is_dir();
        let paths = match folder {
            true => files_of(given, besides)?,
            false => vec![given.to_owned()],
        };
        Ok(Self {
            given: given.to_owned(),
            paths,
            folder,
            tokenizer,
        })
    }

    /// Gives out each text, and says what they were. In a folder what is no text is passed over.
    pub(in crate::cli) fn each(
        &self,
        mut take: impl FnMut(&str) -> Result<(), Failure>,
    ) -> Result<String, Failure> {
        let (mut files, mut bytes) = (0, 0);
        for path in &self.paths {
            let content = Content::of(path)?;
            if self.folder && self.tokenizer == Some(content.bytes()) {
                continue;
            }
            let text = match text_of(content.bytes()) {
                Ok("") if self.folder => continue,
                Ok(text) => text,
                Err(_) if self.folder => continue,
                Err((at, what)) => {
                    return Err(Failure::Other(format!(
                        "{} is no text: {what} at byte {at}; give text in UTF-8",
                        path.display()
                    )));
                }
            };
            take(text)?;
            (files, bytes) = (files + 1, bytes + text.len());
        }
        let given = self.given.display();
        match files {
            0 => Err(Failure::Other(format!(
                "{given} has no text files to train on"
            ))),
            1 => Ok(format!("{given} (1 file, {bytes} bytes)")),
            _ => Ok(format!("{given} ({files} files, {bytes} bytes)")),
        }
    }
}

/// What is in a file.
enum Content {
    Read(Vec<u8>),
    Mapped(MappedFile),
}

impl Content {
    fn of(path: &Path) -> Result<Self, Failure> {
        let kind = fs::metadata(path);
        let large = kind.is_ok_and(|kind| kind.is_file() && kind.len() >= LARGE);
        let content = match large {
            true => MappedFile::open(path).map(Self::Mapped),
            false => fs::read(path).map(Self::Read),
        };
        content.map_err(|error| Failure::file("read", path, &error))
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Read(bytes) => bytes,
            Self::Mapped(file) => file.bytes(),
        }
    }
}

/// Bytes as text; or where they stop being text, and why.
fn text_of(bytes: &[u8]) -> Result<&str, (usize, &'static str)> {
    if let Some(at) = bytes.iter().position(|byte| *byte == 0) {
        return Err((at, "a zero"));
    }
    std::str::from_utf8(bytes).map_err(|error| (error.valid_up_to(), "no UTF-8"))
}

/// All files, skipping what git ignores and what is hidden.
fn files_of(folder: &Path, besides: &[Option<&Path>]) -> Result<Vec<PathBuf>, Failure> {
    let fail =
        |error: ignore::Error| Failure::Other(format!("cannot read {}: {error}", folder.display()));
    let mut paths = Vec::new();
    let besides = besides.iter().flatten();
    let besides: Vec<_> = besides.flat_map(|it| it.canonicalize()).collect();
    let mut walk = WalkBuilder::new(folder);
    walk.require_git(false)
        .sort_by_file_path(Path::cmp)
        .filter_entry(move |entry| {
            let is_folder = entry.file_type().is_some_and(|kind| kind.is_dir());
            let own = || entry.path().canonicalize();
            let beside = is_folder && own().is_ok_and(|own| besides.contains(&own));
            let model = is_folder && entry.depth() > 0 && is_model(entry.path());
            !(beside || model)
        });
    for entry in walk.build() {
        let entry = entry.map_err(fail)?;
        if entry.file_type().is_some_and(|kind| kind.is_file()) {
            paths.push(entry.into_path());
        }
    }
    Ok(paths)
}

/// Whether a folder has weights: a model's, or a run's.
fn is_model(folder: &Path) -> bool {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = files.map(|file| PathBuf::from(file.file_name()));
    names.into_iter().any(|name| {
        let kind = name.extension();
        kind.is_some_and(|kind| kind == "safetensors")
    })
}
