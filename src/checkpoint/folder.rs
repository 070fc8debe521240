//! The folder of a run's checkpoints: `step-120`, `step-140`, ... A checkpoint is made under a
//! hidden name and gets its own when it is whole; it loses that again before it is removed.
//!
//! ```text
//! checkpoints/.step-120.part/   node-0.safetensors node-1.safetensors, then manifest.json
//!             step-120/         the same, renamed: it exists wholly or not at all
//!             .step-100.gone/   on its way out
//!             .step-120.old/    gives way to another one of the same step
//! ```

use super::manifest::{MANIFEST, Manifest};
use crate::error::Error;
use crate::files::{lock, write_error};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

const PREFIX: &str = "step-";
const PART: &str = ".part";
const GONE: &str = ".gone";
const OLD: &str = ".old";
const LOCK: &str = ".lock";

/// Where checkpoints go.
///
/// # Example
/// ```
/// use brigade::checkpoint::SaveTo;
/// let to = SaveTo::new("checkpoints").keep(3).note("data", "tiny shakespeare");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SaveTo {
    /// The folder; made if it is not there.
    pub folder: PathBuf,
    /// After each the older ones are removed until so many are left; 0, as it is at first, for
    /// all.
    pub keep: usize,
    /// What is to be noted down in each, by name.
    pub notes: BTreeMap<String, String>,
}

impl SaveTo {
    /// All checkpoints into this folder.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            ..Self::default()
        }
    }

    /// Only the last so many.
    #[must_use]
    pub fn keep(mut self, keep: usize) -> Self {
        self.keep = keep;
        self
    }

    /// With this noted down.
    #[must_use]
    pub fn note(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.notes.insert(name.into(), value.into());
        self
    }
}

impl<P: Into<PathBuf>> From<P> for SaveTo {
    fn from(folder: P) -> Self {
        Self::new(folder)
    }
}

/// Steps and folders of the checkpoints in a folder, in the order of their steps, also of one that
/// lost its manifest; none where there is no folder.
pub(super) fn list(folder: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let Some(step) = step_of(&path) else { continue };
        match fs::metadata(&path) {
            Ok(kind) if kind.is_dir() => found.push((step, path)),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            // No folder, or removed meanwhile.
            _ => {}
        }
    }
    found.sort();
    Ok(found)
}

/// The step of a checkpoint whose folder has this path.
pub(crate) fn step_of(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    let step = name.strip_prefix(PREFIX)?.parse::<u64>().ok()?;
    // step-007 is somebody else's.
    (name == format!("{PREFIX}{step}")).then_some(step)
}

/// Whether it is a checkpoint on its way in or out.
fn is_half(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let half = [PART, GONE, OLD].iter().any(|end| name.ends_with(end));
    half && name.starts_with(&format!(".{PREFIX}"))
}

/// How many checkpoints in a folder are on their way in or out, or were when their run was killed.
#[cfg(feature = "cli")]
pub(crate) fn unfinished(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|entry| is_half(&entry.path())).count()
}

/// Bytes of the files in a folder.
pub(super) fn bytes_in(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let kind = entry?.metadata()?;
        bytes += if kind.is_file() { kind.len() } else { 0 };
    }
    Ok(bytes)
}

/// A folder that this run saves its checkpoints to, and nobody else at the same time.
#[derive(Debug)]
pub(crate) struct Claimed {
    folder: PathBuf,
    /// Locked until it is dropped, also by the process's end.
    _lock: File,
}

impl Claimed {
    /// Makes the folder if it is not there, claims it, and tidies up what killed runs left half
    /// done.
    pub(crate) fn new(folder: &Path) -> Result<Self, Error> {
        let fail = |path: &Path, error: &io::Error| write_error(path, error);
        make(folder).map_err(|error| fail(folder, &error))?;
        let lock = lock(&folder.join(LOCK))?.ok_or_else(|| Error::Write {
            path: folder.display().to_string(),
            problem: "another run saves its checkpoints there; give another folder".into(),
        })?;
        for entry in fs::read_dir(folder).map_err(|error| fail(folder, &error))? {
            let path = entry.map_err(|error| fail(folder, &error))?.path();
            if is_half(&path) {
                tidy(&path).map_err(|error| fail(&path, &error))?;
            }
        }
        Ok(Self {
            folder: folder.to_owned(),
            _lock: lock,
        })
    }

    pub(crate) fn is_of(&self, folder: &Path) -> bool {
        self.folder == folder
    }

    /// Makes the folder of a checkpoint that is not whole yet.
    pub(crate) fn begin(&self, step: u64) -> Result<(), Error> {
        let part = part(&self.folder, step);
        let made = match part.exists() {
            true => fs::remove_dir_all(&part).and_then(|()| fs::create_dir(&part)),
            false => fs::create_dir(&part),
        };
        made.map_err(|error| write_error(&part, &error))
    }

    /// All files are there: writes the manifest, gives the checkpoint its name, and removes older
    /// ones until `keep` are left with it (0 for all).
    pub(crate) fn finish(&self, manifest: &Manifest, keep: usize) -> Result<PathBuf, Error> {
        let step = manifest.step;
        let (part, path) = (part(&self.folder, step), whole(&self.folder, step));
        for file in &manifest.files {
            let there = part.join(&file.name);
            let found = fs::metadata(&there).map_err(|error| write_error(&there, &error))?;
            if found.len() != file.bytes {
                let path = there.display().to_string();
                let problem = format!(
                    "it has {} bytes where {} were written; the folder must be one that all \
                     machines see",
                    found.len(),
                    file.bytes
                );
                return Err(Error::Write { path, problem });
            }
        }
        manifest.save(&part)?;
        let renamed = sync(&part).and_then(|()| self.replace(step));
        renamed.map_err(|error| write_error(&path, &error))?;
        // This one is whole, whether an older one can be removed or not.
        if let Err(error) = self.keep(keep, step) {
            tracing::warn!(folder = %self.folder.display(), %error, "an old checkpoint stays");
        }
        Ok(path)
    }

    /// Gives a checkpoint its name. One that was saved before, by a run that this one repeats, is
    /// removed when the new one is there.
    fn replace(&self, step: u64) -> io::Result<()> {
        let (part, path) = (part(&self.folder, step), whole(&self.folder, step));
        let old = hidden(&self.folder, step, OLD);
        if path.exists() {
            // What could not be removed before.
            let _ = fs::remove_dir_all(&old);
            fs::rename(&path, &old)?;
        }
        fs::rename(&part, &path).inspect_err(|_| {
            // The one before is better than none.
            let _ = fs::rename(&old, &path);
        })?;
        sync(&self.folder)?;
        // What cannot be removed now is removed by the next run.
        let _ = fs::remove_dir_all(&old);
        Ok(())
    }

    /// Removes the oldest checkpoints until so many are left of those up to this step; 0 for all.
    fn keep(&self, keep: usize, step: u64) -> io::Result<()> {
        let mut all = list(&self.folder)?;
        all.retain(|(other, path)| *other <= step && path.join(MANIFEST).is_file());
        let oldest = keep
            .checked_sub(1)
            .and_then(|keep| all.iter().rev().nth(keep));
        let removed = oldest.map(|(oldest, _)| self.remove_before(*oldest));
        removed.transpose().map(drop)
    }

    /// Removes the checkpoints of earlier steps: which ones. What has no manifest may be somebody
    /// else's.
    pub(super) fn remove_before(&self, step: u64) -> io::Result<Vec<PathBuf>> {
        let mut all = list(&self.folder)?;
        all.retain(|(other, path)| *other < step && path.join(MANIFEST).is_file());
        let dismissed = |(step, path)| self.dismiss(step).map(|()| path);
        all.into_iter().map(dismissed).collect()
    }

    /// What there is of a checkpoint that was not finished is of no use.
    pub(crate) fn give_up(&self, step: u64) {
        // A full disk is not to stay full because of us.
        let _ = fs::remove_dir_all(part(&self.folder, step));
    }

    /// Removes all checkpoints.
    #[cfg(feature = "cli")]
    pub(crate) fn clear(&self) -> Result<(), Error> {
        let all = list(&self.folder).map(|all| all.into_iter().map(|(step, _)| step));
        let cleared = all.and_then(|mut all| all.try_for_each(|step| self.dismiss(step)));
        cleared.map_err(|error| write_error(&self.folder, &error))
    }

    /// Removes a checkpoint, if it is there: nobody finds half of it.
    fn dismiss(&self, step: u64) -> io::Result<()> {
        let path = whole(&self.folder, step);
        let gone = hidden(&self.folder, step, GONE);
        match fs::rename(&path, &gone) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            renamed => renamed.and_then(|()| fs::remove_dir_all(&gone)),
        }
    }
}

/// Where it is when it is whole.
pub(crate) fn whole(folder: &Path, step: u64) -> PathBuf {
    folder.join(format!("{PREFIX}{step}"))
}

/// Where a checkpoint is made.
pub(crate) fn part(folder: &Path, step: u64) -> PathBuf {
    hidden(folder, step, PART)
}

fn hidden(folder: &Path, step: u64, end: &str) -> PathBuf {
    folder.join(format!(".{PREFIX}{step}{end}"))
}

/// Makes a folder, and has its name on the disk.
fn make(folder: &Path) -> io::Result<()> {
    if !folder.is_dir() {
        fs::create_dir_all(folder)?;
        // A relative path ends where this process is.
        let above = folder.ancestors().skip(1);
        let named = above.filter(|above| !above.as_os_str().is_empty());
        named.take(2).try_for_each(sync)?;
    }
    Ok(())
}

/// Removes what is half done; what was to give way to another that never came gets its name back.
fn tidy(path: &Path) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let name = name
        .strip_prefix('.')
        .and_then(|name| name.strip_suffix(OLD));
    match name.map(|name| path.with_file_name(name)) {
        Some(whole) if !whole.exists() => fs::rename(path, whole),
        _ => fs::remove_dir_all(path),
    }
}

/// What was made or renamed in a folder is on the disk.
fn sync(folder: &Path) -> io::Result<()> {
    match cfg!(unix) {
        true => File::open(folder)?.sync_all(),
        // Elsewhere a folder cannot be opened as a file.
        false => Ok(()),
    }
}
