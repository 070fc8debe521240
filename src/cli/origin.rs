//! What a training goes on from.

use super::failure::Failure;
use super::run_folder::{CHECKPOINTS, CONFIG, newest};
use crate::Checkpoint;
use std::path::{Path, PathBuf};

/// The word for the newest checkpoint of the newest run.
const LATEST: &str = "latest";

/// What a training goes on from.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub(super) checkpoint: Checkpoint,
    /// The run that it is of, if it still lies there.
    pub(super) run: Option<PathBuf>,
    /// Newer ones that are damaged, and how.
    pub(super) damaged: Vec<String>,
}

impl Origin {
    /// The newest whole checkpoint of a run, or one by itself.
    pub(super) fn of(wanted: &Path) -> Result<Self, Failure> {
        let wanted = match wanted.to_str() == Some(LATEST) {
            true => newest(Path::new("runs"))?,
            false => wanted.to_owned(),
        };
        let checkpoint = wanted.join("manifest.json").exists();
        let folder = match checkpoint {
            true => wanted.parent().unwrap_or(Path::new("")).to_owned(),
            false if wanted.join(CHECKPOINTS).is_dir() => wanted.join(CHECKPOINTS),
            false => wanted.clone(),
        };
        let run = folder.parent().map(Path::to_owned);
        let run = run.filter(|run| run.join(CONFIG).is_file());
        if checkpoint {
            let checkpoint = Checkpoint::open(&wanted)?;
            let damaged = Vec::new();
            return Ok(Self {
                checkpoint,
                run,
                damaged,
            });
        }
        let (checkpoint, damaged) = newest_whole(&folder)?;
        match checkpoint {
            Some(checkpoint) => Ok(Self {
                checkpoint,
                run,
                damaged,
            }),
            None => Err(Failure::Other(match damaged.is_empty() {
                true => format!(
                    "{} has no checkpoint; give a run folder, or a checkpoint",
                    wanted.display()
                ),
                false => damaged.join("; "),
            })),
        }
    }

    /// Later checkpoints of its folder: of what it was that this one is left for.
    pub(super) fn later(&self) -> Result<Option<u64>, Failure> {
        let folder = self.checkpoint.path().parent().unwrap_or(Path::new("."));
        let last = Checkpoint::list(folder)?.pop();
        let own = self.checkpoint.manifest().step;
        Ok(last.map(|(step, _)| step).filter(|step| *step > own))
    }
}

/// The newest checkpoint of a folder that is not damaged, as far as a look can tell, and what is
/// wrong with newer ones.
pub(super) fn newest_whole(folder: &Path) -> Result<(Option<Checkpoint>, Vec<String>), Failure> {
    let mut damaged = Vec::new();
    for (_, path) in Checkpoint::list(folder)?.into_iter().rev() {
        let looked = Checkpoint::open(path).and_then(|found| found.look().map(|()| found));
        match looked {
            Ok(found) => return Ok((Some(found), damaged)),
            Err(error) => damaged.push(error.to_string()),
        }
    }
    Ok((None, damaged))
}
