//! The folder that a run leaves behind: `plan.json`, `losses.csv`, `weights.safetensors`.

use super::failure::Failure;
use super::output::StepLine;
use crate::{Plan, Weights};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// An open run folder. Losses are written step by step, so that they are there whatever happens.
pub(super) struct RunFolder {
    path: PathBuf,
    losses: BufWriter<File>,
}

impl RunFolder {
    /// Opens the folder, made if it is not there; without a name, the first free of `runs/1`,
    /// `runs/2`, ...
    pub(super) fn open(path: Option<&Path>, plan: &Plan) -> Result<Self, Failure> {
        let path = match path {
            Some(path) => {
                fs::create_dir_all(path).map_err(|error| Failure::file("make", path, &error))?;
                path.to_owned()
            }
            None => first_free(Path::new("runs"))?,
        };
        plan.save(&path.join("plan.json"))?;
        let file = path.join("losses.csv");
        let losses = File::create(&file).map_err(|error| Failure::file("write", &file, &error))?;
        let mut folder = Self {
            path,
            losses: BufWriter::new(losses),
        };
        folder.write("step,loss,grad_norm,lr,step_ms")?;
        Ok(folder)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a step.
    pub(super) fn step(&mut self, line: &StepLine) -> Result<(), Failure> {
        let StepLine {
            step,
            loss,
            grad_norm,
            lr,
            step_ms,
        } = line;
        self.write(&format!("{step},{loss},{grad_norm},{lr},{step_ms:.3}"))
    }

    /// Adds the weights: whole or not at all.
    pub(super) fn weights(&self, weights: &Weights) -> Result<(), Failure> {
        let (temporary, file) = (
            self.path.join(".weights.safetensors"),
            self.path.join("weights.safetensors"),
        );
        weights.save(&temporary)?;
        fs::rename(&temporary, &file).map_err(|error| Failure::file("write", &file, &error))
    }

    fn write(&mut self, line: &str) -> Result<(), Failure> {
        let written = writeln!(self.losses, "{line}").and_then(|()| self.losses.flush());
        written.map_err(|error| Failure::file("write", &self.path.join("losses.csv"), &error))
    }
}

fn first_free(runs: &Path) -> Result<PathBuf, Failure> {
    fs::create_dir_all(runs).map_err(|error| Failure::file("make", runs, &error))?;
    // Runs are neither to be committed nor to be trained on.
    let ignore = runs.join(".gitignore");
    if !ignore.exists() {
        fs::write(&ignore, "*\n").map_err(|error| Failure::file("write", &ignore, &error))?;
    }
    for number in 1u32.. {
        let path = runs.join(number.to_string());
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Failure::file("make", &path, &error)),
        }
    }
    Err(Failure::Other(format!(
        "no free number in {}; give --out",
        runs.display()
    )))
}
