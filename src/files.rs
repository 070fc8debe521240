//! Files that are there whole or not at all, and JSON files read with the place of what is wrong.

use crate::error::{Error, PlanError};
use serde::de::{DeserializeOwned, Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::{self, BufWriter, Read, Write};
use std::marker::PhantomData;
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

/// Locks a file, made if it is not there, until it is dropped or the process ends: nothing if
/// somebody else has it. Where files cannot be locked, nobody is kept out.
pub(crate) fn lock(path: &Path) -> Result<Option<File>, Error> {
    let lock = File::create(path).map_err(|error| write_error(path, &error))?;
    match lock.try_lock() {
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(_)) | Ok(()) => Ok(Some(lock)),
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
        problem: brief(&problem.to_string()),
    }
}

/// All of a file that has at most so many bytes. No more of it is read, also of a pipe and of what
/// grows meanwhile.
pub(crate) fn read_up_to(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    let mut file = File::open(path)?.take(most.saturating_add(1));
    file.read_to_end(&mut content)?;
    if content.len() as u64 > most {
        let problem = format!("it is longer than {most} bytes, the most that is read");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, problem));
    }
    Ok(content)
}

/// As [`read_up_to`], of text.
pub(crate) fn read_text(path: &Path, most: u64) -> io::Result<String> {
    text_of(read_up_to(path, most)?)
}

fn text_of(content: Vec<u8>) -> io::Result<String> {
    String::from_utf8(content).map_err(|error| {
        let problem = format!("it is no text in UTF-8: {error}");
        io::Error::new(io::ErrorKind::InvalidData, problem)
    })
}

/// As [`read_up_to`], of what is found in a folder: opening what is no file may take forever.
pub(crate) fn read_found(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    match fs::metadata(path)?.is_file() {
        true => read_up_to(path, most),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file")),
    }
}

/// As [`read_found`], of text.
#[cfg(feature = "cli")]
pub(crate) fn read_found_text(path: &Path, most: u64) -> io::Result<String> {
    text_of(read_found(path, most)?)
}

/// Reads a list of at most `MOST`, for `deserialize_with`.
pub(crate) fn up_to<'de, D: Deserializer<'de>, T: Deserialize<'de>, const MOST: usize>(
    from: D,
) -> Result<Vec<T>, D::Error> {
    struct List<T, const MOST: usize>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for List<T, MOST> {
        type Value = Vec<T>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }
        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
            let mut list = Vec::new();
            while let Some(element) = seq.next_element()? {
                if list.len() == MOST {
                    let problem = format!("a list of more than {MOST}, the most that is read");
                    return Err(A::Error::custom(problem));
                }
                list.push(element);
            }
            Ok(list)
        }
    }
    from.deserialize_seq(List::<T, MOST>(PhantomData))
}

/// What a file is said to be wrong with, in one line: nothing that a terminal would obey, and of
/// long text both ends.
pub(crate) fn brief(text: &str) -> String {
    const ENDS: [usize; 2] = [300, 150];
    let count = text.chars().count();
    let harmless = |c: char| if c.is_control() { '?' } else { c };
    let ends = if count > ENDS[0] + ENDS[1] {
        ENDS
    } else {
        [count, 0]
    };
    let begin = text.chars().take(ends[0]).map(harmless);
    let end = text.chars().skip(count - ends[1]).map(harmless);
    let dots = if ends[1] > 0 { " ... " } else { "" };
    begin.chain(dots.chars()).chain(end).collect()
}

/// The most bytes of a JSON file.
const MOST_JSON_BYTES: u64 = 256 << 20;

/// Reads a JSON file. Checks that are made while it is read have the line and column in their
/// errors.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, PlanError> {
    json_of(path, read_up_to(path, MOST_JSON_BYTES))
}

/// As [`read_json`], of what is found in a folder.
#[cfg(feature = "cli")]
pub(crate) fn read_found_json<T: DeserializeOwned>(path: &Path) -> Result<T, PlanError> {
    json_of(path, read_found(path, MOST_JSON_BYTES))
}

fn json_of<T: DeserializeOwned>(path: &Path, read: io::Result<Vec<u8>>) -> Result<T, PlanError> {
    let name = path.display().to_string();
    match read {
        Ok(content) => parse_json(&name, &content),
        Err(error) => Err(PlanError::File {
            path: name,
            line: 0,
            column: 0,
            problem: format!("cannot be read: {error}"),
        }),
    }
}

/// As [`read_json`], of what is already in memory.
pub(crate) fn parse_json<T: DeserializeOwned>(name: &str, content: &[u8]) -> Result<T, PlanError> {
    serde_json::from_slice(content).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        // Where a line should not have ended, the reader is in the next one.
        let ended = column == 0 && line > 1 && !error.is_data();
        let mut lines = content.split(|byte| *byte == b'\n');
        let before = ended.then(|| lines.nth(line - 2)).flatten();
        let (at, of) = before.map_or((line, column), |before| (line - 1, before.len() + 1));
        let text = error.to_string();
        let end = format!(" at line {line} column {column}");
        let problem = brief(text.strip_suffix(&end).unwrap_or(&text));
        PlanError::File {
            path: name.to_owned(),
            line: at,
            column: of.max(1),
            problem,
        }
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

    #[test]
    fn no_more_is_read_than_allowed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("some");
        fs::write(&file, b"12345").unwrap();
        assert_eq!(read_up_to(&file, 5).unwrap(), b"12345");
        let error = read_up_to(&file, 4).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert!(error.to_string().contains("longer than 4 bytes"), "{error}");
        fs::write(&file, [b'a', 0xff]).unwrap();
        let error = read_text(&file, 5).unwrap_err();
        assert!(error.to_string().contains("index 1"), "{error}");
    }

    #[test]
    fn what_is_wrong_is_said_in_one_short_line() {
        let name = "\u{1b}[2J\n".repeat(10_000);
        let text = serde_json::to_string(&name).unwrap();
        let error = parse_json::<u8>("some.json", text.as_bytes()).unwrap_err();
        let error = error.to_string();
        assert!(error.starts_with("some.json, line 1, column"), "{error}");
        assert!(
            error.ends_with("expected u8") && error.len() < 600,
            "{error}"
        );
        assert!(!error.contains(char::is_control), "{error}");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_has_no_end_is_no_file() {
        let error = read_up_to(Path::new("/dev/zero"), 1 << 16).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }
}
