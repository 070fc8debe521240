//! One of a checkpoint's files, read and compared with what its manifest says.

use super::manifest::FileEntry;
use crate::error::Error;
use crate::files::read_error;
use crate::plan::hex;
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// So much is read at once.
const CHUNK: usize = 1 << 18;

/// A file of tensors, open; as long as it was.
pub(super) struct Source<'a> {
    entry: &'a FileEntry,
    path: PathBuf,
    file: File,
    some: Vec<u8>,
}

impl<'a> Source<'a> {
    pub(super) fn open(folder: &Path, entry: &'a FileEntry) -> Result<Self, Error> {
        let path = folder.join(&entry.name);
        let fail = |problem: &dyn ToString| read_error(&path, problem.to_string());
        // Opening what is no file may take forever.
        let found = fs::metadata(&path).map_err(|error| fail(&error))?;
        if !found.is_file() {
            return Err(fail(&"damaged: it is no file"));
        }
        let (found, written) = (found.len(), entry.bytes);
        if found != written {
            let problem = format!("damaged: it has {found} bytes where {written} were written");
            return Err(fail(&problem));
        }
        let file = File::open(&path).map_err(|error| fail(&error))?;
        let some = vec![0; CHUNK.min(usize::try_from(written).unwrap_or(CHUNK))];
        Ok(Self {
            entry,
            path,
            file,
            some,
        })
    }

    /// Compares all before the tensors with its checksum; the first tensor comes next.
    pub(super) fn header(&mut self) -> Result<(), Error> {
        match self.pass(self.entry.start, |_| {})? == self.entry.header_sha256 {
            true => Ok(()),
            false => Err(self.damaged("its header is not what was written")),
        }
    }

    /// Goes to where a tensor begins.
    pub(super) fn seek(&mut self, start: u64) -> Result<(), Error> {
        let sought = self.file.seek(SeekFrom::Start(start));
        sought.map_err(|error| read_error(&self.path, error))?;
        Ok(())
    }

    /// Reads the tensor that comes next, which is the one with this number, and compares it with
    /// its checksum.
    pub(super) fn tensor(&mut self, number: usize, on: impl FnMut(&[u8])) -> Result<(), Error> {
        let tensor = &self.entry.tensors[number];
        match self.pass(tensor.bytes().unwrap_or(0), on)? == tensor.sha256 {
            true => Ok(()),
            false => Err(self.damaged(&format!(
                "{} is not what its checksum says; use another checkpoint",
                tensor.name()
            ))),
        }
    }

    /// Reads the next so many bytes: their SHA-256.
    fn pass(&mut self, bytes: u64, mut on: impl FnMut(&[u8])) -> Result<String, Error> {
        let (mut hash, mut left) = (Sha256::new(), bytes);
        while left > 0 {
            let now = usize::try_from(left).unwrap_or(CHUNK).min(self.some.len());
            let read = self.file.read_exact(&mut self.some[..now]);
            read.map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => self.damaged("it is shorter than it was"),
                _ => read_error(&self.path, error),
            })?;
            hash.update(&self.some[..now]);
            on(&self.some[..now]);
            left -= now as u64;
        }
        Ok(hex(&hash.finalize()))
    }

    fn damaged(&self, problem: &str) -> Error {
        read_error(&self.path, format!("damaged: {problem}"))
    }
}
