//! Files mapped into memory: what is read of them is there, what is not is not.
//!
//! The one place that maps files. Nothing else of this crate is unsafe.
#![allow(unsafe_code)]

use memmap2::Mmap;
use std::fs::{self, File};
use std::io::{Error, ErrorKind, Result};
use std::ops::Range;
use std::path::Path;

/// A file mapped into memory, to be read.
///
/// Nobody is to write into the file or shorten it meanwhile: a part that is no longer there ends
/// the process (`SIGBUS`). Replacing it by another file of the same name does no harm.
///
/// # Example
/// ```
/// use brigade_layer::MappedFile;
/// let path = std::env::temp_dir().join(format!("mapped-{}", std::process::id()));
/// std::fs::write(&path, b"some bytes")?;
/// let file = MappedFile::open(&path)?;
/// assert_eq!(&file.bytes()[5..], b"bytes");
/// file.release(0..5);
/// # drop(file);
/// # std::fs::remove_file(&path)?;
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct MappedFile(Option<Mmap>);

impl MappedFile {
    /// Maps a file.
    ///
    /// # Errors
    /// When it cannot be opened or mapped, or is no ordinary file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        // Opening what is no file may take forever.
        if !fs::metadata(path)?.is_file() {
            return Err(Error::new(ErrorKind::InvalidInput, "it is no file"));
        }
        let file = File::open(path)?;
        if file.metadata()?.len() == 0 {
            return Ok(Self(None));
        }
        // SAFETY: the map is only read, as bytes. That nobody changes the file meanwhile is what
        // this type's documentation asks of its user, as everyone does who maps files.
        Ok(Self(Some(unsafe { Mmap::map(&file) }?)))
    }

    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }

    /// Says that these bytes will not be read again soon: they need not stay in memory. Reading
    /// them nevertheless reads the file again.
    pub fn release(&self, range: Range<usize>) {
        let end = range.end.min(self.bytes().len());
        #[cfg(unix)]
        if let Some(map) = self.0.as_ref().filter(|_| range.start < end) {
            let advice = memmap2::UncheckedAdvice::DontNeed;
            // SAFETY: the map is of a file and never written: pages that are dropped come back
            // from the file as they were.
            // What cannot be dropped stays, which does no harm.
            let _ = unsafe { map.unchecked_advise_range(advice, range.start, end - range.start) };
        }
    }
}
