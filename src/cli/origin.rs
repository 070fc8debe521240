//! What a training goes on from.

use super::failure::Failure;
use super::place::Place;
use crate::{Checkpoint, Error};
use std::path::{Path, PathBuf};

/// What a training goes on from.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    pub(super) checkpoint: Checkpoint,
    /// Where it lies, with others.
    folder: PathBuf,
    /// The run that it is of, if it still lies there.
    pub(super) run: Option<PathBuf>,
    /// Newer ones that are damaged, and how.
    pub(super) damaged: Vec<String>,
}

impl Origin {
    /// The newest whole checkpoint of a run, or one by itself.
    pub(super) fn of(wanted: &Path) -> Result<Self, Failure> {
        let place = Place::of(wanted)?;
        let (checkpoint, damaged) = match &place.one {
            Some(one) => (Some(Checkpoint::open(one)?), Vec::new()),
            None => newest_whole(&place.folder, Checkpoint::look)?,
        };
        let run = place.run();
        match checkpoint {
            Some(checkpoint) => Ok(Self {
                checkpoint,
                folder: place.folder,
                run,
                damaged,
            }),
            None if damaged.is_empty() => Err(place.nothing()),
            None => Err(Failure::Other(damaged.join("; "))),
        }
    }

    /// Later checkpoints of its folder: of what it was that this one is left for.
    pub(super) fn later(&self) -> Result<Option<u64>, Failure> {
        let last = Checkpoint::list(&self.folder)?.pop();
        let own = self.checkpoint.manifest().step;
        Ok(last.map(|(step, _)| step).filter(|step| *step > own))
    }
}

/// The newest checkpoint of a folder that stands this examination, and what is wrong with newer
/// ones.
pub(super) fn newest_whole(
    folder: &Path,
    examine: fn(&Checkpoint) -> Result<(), Error>,
) -> Result<(Option<Checkpoint>, Vec<String>), Failure> {
    let mut damaged = Vec::new();
    for (_, path) in Checkpoint::list(folder)?.into_iter().rev() {
        let looked = Checkpoint::open(path).and_then(|found| examine(&found).map(|()| found));
        match looked {
            Ok(found) => return Ok((Some(found), damaged)),
            Err(error) => damaged.push(error.to_string()),
        }
    }
    Ok((None, damaged))
}
