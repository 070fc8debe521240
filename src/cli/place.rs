//! Where checkpoints are: what a path on the command line means.

use super::failure::Failure;
use super::run_folder::{CHECKPOINTS, CONFIG, newest};
use crate::Checkpoint;
use crate::checkpoint::{MANIFEST, step_of, unfinished};
use std::fs;
use std::path::{Path, PathBuf};

/// The word for the newest run.
const LATEST: &str = "latest";

/// Where checkpoints are.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// As it was given.
    named: PathBuf,
    /// Where they lie.
    pub(super) folder: PathBuf,
    /// Which one of them, if one was given.
    pub(super) one: Option<PathBuf>,
}

impl Place {
    /// Of a run folder, a folder of checkpoints, a checkpoint, or `latest`, the newest run.
    pub(super) fn of(named: &Path) -> Result<Self, Failure> {
        let named = match named.to_str() == Some(LATEST) {
            true => newest(Path::new("runs"))?,
            false => named.to_owned(),
        };
        let kind = fs::metadata(&named).map_err(|error| Failure::file("read", &named, &error))?;
        if !kind.is_dir() {
            let problem = "is no folder; give a run folder, or the folder of a checkpoint";
            return Err(Failure::Other(format!("{} {problem}", named.display())));
        }
        // A run folder may be called step-5, too.
        let (folder, one) = if named.join(CHECKPOINTS).is_dir() {
            (named.join(CHECKPOINTS), None)
        } else if named.join(MANIFEST).exists() || step_of(&named).is_some() {
            (parent(&named), Some(named.clone()))
        } else {
            (named.clone(), None)
        };
        Ok(Self { named, folder, one })
    }

    /// The run that they are of, if they still lie there.
    pub(super) fn run(&self) -> Option<PathBuf> {
        let run = parent(&self.folder);
        run.join(CONFIG).is_file().then_some(run)
    }

    /// All that are meant, the newest last; at least one.
    pub(super) fn all(&self) -> Result<Vec<PathBuf>, Failure> {
        if let Some(one) = &self.one {
            return Ok(vec![one.clone()]);
        }
        let all = Checkpoint::list(&self.folder)?.into_iter();
        let all: Vec<_> = all.map(|(_, path)| path).collect();
        match all.is_empty() {
            true => Err(self.nothing()),
            false => Ok(all),
        }
    }

    /// That there is none.
    pub(super) fn nothing(&self) -> Failure {
        let named = self.named.display();
        let has = match self.named.join(CONFIG).is_file() {
            true => format!("the run {named} has no checkpoint"),
            false => format!("{named} has no checkpoint, which is a folder such as step-120"),
        };
        let half = match unfinished(&self.folder) {
            0 => String::new(),
            half => format!(" ({half} unfinished)"),
        };
        Failure::Other(format!(
            "{has}{half}; give a run folder, a folder of checkpoints, or one of them"
        ))
    }
}

/// The folder that a folder is in.
fn parent(path: &Path) -> PathBuf {
    match (path.file_name(), path.parent()) {
        (Some(_), Some(parent)) if parent.as_os_str().is_empty() => PathBuf::from("."),
        (Some(_), Some(parent)) => parent.to_owned(),
        _ => path.join(".."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_in_a_folder() {
        let wanted = [
            ("a/b", "a"),
            ("a/b/", "a"),
            ("a", "."),
            ("a/.", "."),
            (".", "./.."),
            ("..", "../.."),
            ("/a", "/"),
        ];
        for (path, wanted) in wanted {
            assert_eq!(parent(Path::new(path)), PathBuf::from(wanted), "{path}");
        }
    }
}
