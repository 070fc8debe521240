//! Files that are there whole or not at all, and JSON files read with the place of what is wrong.

use crate::error::{Error, PlanError};
use serde::de::DeserializeOwned;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// Writes a file whole: whoever looks finds what was there before or all of it, also if the process
/// is killed meanwhile.
pub(crate) fn write_whole(path: &Path, content: &[u8]) -> Result<(), Error> {
    let mut file = WholeFile::create(path)?;
    file.write(content)?;
    file.finish()
}

/// A file that is written under a hidden name beside its own, and gets its own when it is finished.
#[derive(Debug)]
pub(crate) struct WholeFile {
    path: PathBuf,
    part: PathBuf,
    file: Option<BufWriter<File>>,
}

impl WholeFile {
    pub(crate) fn create(path: &Path) -> Result<Self, Error> {
        let part = part_of(path);
        let file = File::create(&part).map_err(|error| write_error(path, &error))?;
        let (path, file) = (path.to_owned(), Some(BufWriter::new(file)));
        Ok(Self { path, part, file })
    }

    pub(crate) fn write(&mut self, content: &[u8]) -> Result<(), Error> {
        let file = self.file.as_mut();
        let written = file.map_or(Ok(()), |file| file.write_all(content));
        written.map_err(|error| write_error(&self.path, &error))
    }

    pub(crate) fn finish(mut self) -> Result<(), Error> {
        let file = self.file.take();
        let written = file
            .map_or(Ok(()), |file| file.into_inner()?.sync_all())
            .and_then(|()| fs::rename(&self.part, &self.path));
        written.map_err(|error| {
            let _ = fs::remove_file(&self.part);
            write_error(&self.path, &error)
        })
    }
}

impl Drop for WholeFile {
    fn drop(&mut self) {
        if self.file.is_some() {
            // A full disk is not to stay full because of us.
            let _ = fs::remove_file(&self.part);
        }
    }
}

fn part_of(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".part");
    path.with_file_name(name)
}

pub(crate) fn write_error(path: &Path, error: &io::Error) -> Error {
    Error::Write {
        path: path.display().to_string(),
        problem: error.to_string(),
    }
}

pub(crate) fn read_error(path: &Path, problem: impl ToString) -> Error {
    Error::Read {
        path: path.display().to_string(),
        problem: problem.to_string(),
    }
}

/// The most bytes of a JSON file.
const MOST_JSON_BYTES: u64 = 256 << 20;

/// Reads a JSON file. Checks that are made while it is read have the line and column in their
/// errors.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, PlanError> {
    let fail = |line, column, problem| PlanError::File {
        path: path.display().to_string(),
        line,
        column,
        problem,
    };
    let mut content = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MOST_JSON_BYTES + 1).read_to_end(&mut content))
        .map_err(|error| fail(0, 0, format!("cannot be read: {error}")))?;
    if content.len() as u64 > MOST_JSON_BYTES {
        let problem = format!("longer than {MOST_JSON_BYTES} bytes, the most that is read");
        return Err(fail(0, 0, problem));
    }
    parse_json(&content).map_err(|(line, column, problem)| fail(line, column, problem))
}

/// Line, column and what is wrong there.
type Misplaced = (usize, usize, String);

/// As [`read_json`], of what is already in memory.
fn parse_json<T: DeserializeOwned>(content: &[u8]) -> Result<T, Misplaced> {
    serde_json::from_slice(content).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        // Where a line should not have ended, the reader is in the next one.
        let ended = column == 0 && line > 1 && !error.is_data();
        let mut lines = content.split(|byte| *byte == b'\n');
        let before = ended.then(|| lines.nth(line - 2)).flatten();
        let (at, of) = before.map_or((line, column), |before| (line - 1, before.len() + 1));
        let text = error.to_string();
        let end = format!(" at line {line} column {column}");
        let problem = text.strip_suffix(&end).unwrap_or(&text).to_owned();
        (at, of.max(1), problem)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_there_stays_until_all_of_the_new_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("some.json");
        write_whole(&file, b"one").unwrap();
        write_whole(&file, b"two").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"two");
        // The hidden file cannot be written: the old content stays.
        fs::create_dir(folder.path().join(".some.json.part")).unwrap();
        let error = write_whole(&file, b"three").unwrap_err();
        assert!(error.to_string().contains("some.json"), "{error}");
        assert_eq!(fs::read(&file).unwrap(), b"two");
    }
}
