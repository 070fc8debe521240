//! The folder that a run leaves behind. Whatever ends the run, what is there can be read: losses
//! are written line by line, everything else whole or not at all.

use super::carried::CARRIED;
use super::failure::Failure;
use super::model::HUGGING_FACE;
use super::output::StepLine;
use crate::checkpoint::Claimed;
use crate::files::{lock, write_whole};
use crate::trace::{StepTrace, save_perfetto};
use crate::{Checkpoint, Plan};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

pub(super) const CONFIG: &str = "config.toml";
pub(super) const WEIGHTS: &str = "weights.safetensors";
pub(super) const TOKENIZER: &str = "tokenizer.json";
pub(super) const NETWORK: &str = "network.json";
pub(super) const CHECKPOINTS: &str = "checkpoints";
pub(super) const LOSSES: &str = "losses.csv";
/// Locked by whoever is at work there.
pub(super) const LOCK: &str = ".lock";
const HEADING: &str = "step,loss,grad_norm,lr,step_ms,val_loss";

/// What a run folder says of its run.
#[derive(Clone, Copy)]
pub(super) struct Texts<'a> {
    /// All options.
    pub(super) settings: &'a str,
    /// The network.
    pub(super) network: &'a str,
}

/// An open run folder.
pub(super) struct RunFolder {
    path: PathBuf,
    losses: File,
    /// Bytes of whole lines.
    written: u64,
    /// Lines that could not be written yet.
    waiting: String,
    /// Locked until this is dropped, also by the process's end.
    _lock: File,
}

impl RunFolder {
    /// Opens the folder, made if it is not there; without a name, the next of `runs/1`,
    /// `runs/2`, ...
    pub(super) fn open(
        path: Option<&Path>,
        plan: &Plan,
        texts: Texts<'_>,
        earlier: &[StepLine],
    ) -> Result<Self, Failure> {
        let (path, lock) = made(path)?;
        spare(&path)?;
        give_way(&path)?;
        if path.join(CONFIG).exists() {
            remove(&path, &CARRIED)?;
        }
        Self::write((path, lock), plan, texts, earlier)
    }

    /// Opens the folder of a run that goes on: `earlier` steps stay.
    pub(super) fn reopen(
        path: &Path,
        plan: &Plan,
        texts: Texts<'_>,
        earlier: &[StepLine],
    ) -> Result<Self, Failure> {
        Self::write(made(Some(path))?, plan, texts, earlier)
    }

    fn write(
        (path, lock): (PathBuf, File),
        plan: &Plan,
        texts: Texts<'_>,
        earlier: &[StepLine],
    ) -> Result<Self, Failure> {
        // Of an earlier run in the same folder nothing stays: it would pass for this one's.
        remove(&path, &[WEIGHTS, "trace.json", "report.html"])?;
        write_whole(&path.join(CONFIG), texts.settings.as_bytes())?;
        write_whole(&path.join(NETWORK), texts.network.as_bytes())?;
        plan.save(path.join("plan.json"))?;
        let file = path.join(LOSSES);
        let lines = earlier.iter().map(line);
        let lines: Vec<_> = std::iter::once(HEADING.to_owned()).chain(lines).collect();
        let text = lines.join("\n") + "\n";
        write_whole(&file, text.as_bytes())?;
        let losses = File::options().append(true).open(&file);
        let losses = losses.map_err(|error| Failure::file("write", &file, &error))?;
        Ok(Self {
            path,
            losses,
            written: text.len() as u64,
            waiting: String::new(),
            _lock: lock,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a step, handed over at once. Where it cannot be written, it comes with the next one.
    pub(super) fn step(&mut self, step: &StepLine) -> Result<(), Failure> {
        self.waiting += &(line(step) + "\n");
        match self.losses.write_all(self.waiting.as_bytes()) {
            Ok(()) => {
                self.written += self.waiting.len() as u64;
                self.waiting.clear();
                Ok(())
            }
            Err(error) => {
                // No half a line stays.
                let _ = self.losses.set_len(self.written);
                Err(Failure::file("write", &self.path.join(LOSSES), &error))
            }
        }
    }

    /// Adds traced steps.
    pub(super) fn traces(&self, plan: &Plan, traces: &[StepTrace]) -> Result<(), Failure> {
        Ok(save_perfetto(self.path.join("trace.json"), plan, traces)?)
    }

    /// Keeps a copy of the tokenizer, so that the run's text can be made from here.
    pub(super) fn tokenizer(&self, json: &[u8]) -> Result<(), Failure> {
        Ok(write_whole(&self.path.join(TOKENIZER), json)?)
    }

    /// Where the weights belong.
    pub(super) fn weights(&self) -> PathBuf {
        self.path.join(WEIGHTS)
    }
}

/// A folder, made if it is not there, where nobody else is at work; without a name, the next of
/// `runs/1`, `runs/2`, ...
fn made(path: Option<&Path>) -> Result<(PathBuf, File), Failure> {
    let path = match path {
        Some(path) => {
            fs::create_dir_all(path).map_err(|error| Failure::file("make", path, &error))?;
            path.to_owned()
        }
        None => next(Path::new("runs"))?,
    };
    let lock = alone(&path)?;
    Ok((path, lock))
}

/// As [`made`], where no run or model is yet.
pub(super) fn vacant(path: Option<&Path>) -> Result<(PathBuf, File), Failure> {
    let (path, lock) = made(path)?;
    let mut own = [CONFIG, NETWORK, WEIGHTS].iter();
    let mut others = CARRIED.iter().chain([&HUGGING_FACE]);
    let there = |name: &&&str| path.join(name).exists();
    if let Some(name) = others
        .find(there)
        .filter(|_| !own.clone().any(|it| there(&it)))
    {
        return Err(Failure::Usage(format!(
            "{} has {name} of another model; give another folder",
            path.display()
        )));
    }
    match own.find(there) {
        None => Ok((path, lock)),
        Some(name) => Err(Failure::Usage(format!(
            "{} has {name} of a run; give another folder",
            path.display()
        ))),
    }
}

/// A model that was not trained here could not be trained again.
fn spare(path: &Path) -> Result<(), Failure> {
    let trained = path.join(LOSSES).exists();
    let mut of_model = [WEIGHTS, HUGGING_FACE].iter();
    match of_model.find(|name| !trained && path.join(name).exists()) {
        None => Ok(()),
        Some(name) => Err(Failure::Usage(format!(
            "{} has {name} of a model that was not trained there; give another folder",
            path.display()
        ))),
    }
}

/// Removes these files, as far as they are there.
fn remove(folder: &Path, names: &[&str]) -> Result<(), Failure> {
    for name in names {
        let file = folder.join(name);
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Failure::file("remove", &file, &error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Of an earlier run in the same folder nothing stays, unless it may still go on.
fn give_way(path: &Path) -> Result<(), Failure> {
    let old = path.join(CHECKPOINTS);
    let Some((step, _)) = Checkpoint::list(&old)?.pop() else {
        return Ok(());
    };
    let config = fs::read_to_string(path.join(CONFIG)).unwrap_or_default();
    let steps = config.parse::<toml::Table>().ok();
    let steps = steps.and_then(|options| options.get("steps")?.as_integer());
    if steps.is_none_or(|steps| i64::try_from(step).is_ok_and(|step| step < steps)) {
        return Err(Failure::Usage(format!(
            "{} has a run that is not at its end, with a checkpoint of step {step}; go on with it \
             (--resume), give another folder, or remove it",
            path.display()
        )));
    }
    Ok(Claimed::new(&old)?.clear()?)
}

/// Nobody else is at work in this folder from here on.
fn alone(path: &Path) -> Result<File, Failure> {
    lock(&path.join(LOCK))?.ok_or_else(|| {
        Failure::Other(format!(
            "another run is at work in {}; wait for its end, or give another folder",
            path.display()
        ))
    })
}

fn line(step: &StepLine) -> String {
    let StepLine {
        step,
        loss,
        grad_norm,
        lr,
        step_ms,
        val_loss,
        ..
    } = step;
    let val_loss = val_loss.map_or(String::new(), |loss| loss.to_string());
    format!("{step},{loss},{grad_norm},{lr},{step_ms:.3},{val_loss}")
}

/// The steps that a run has taken before this one, as far as its folder has them.
pub(super) fn earlier(run: &Path, before: u64) -> Result<Vec<StepLine>, Failure> {
    let file = run.join(LOSSES);
    let text = match fs::read_to_string(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read.map_err(|error| Failure::file("read", &file, &error))?,
    };
    let step = |line: &str| {
        let mut fields = line.split(',');
        let step = fields.next()?.parse().ok()?;
        let mut number = || fields.next()?.parse().ok();
        Some(StepLine {
            loss: number()?,
            grad_norm: number()?,
            lr: number()?,
            step_ms: number()?,
            val_loss: number(),
            step,
            ..StepLine::default()
        })
    };
    // A line that was cut off is of a step that is taken again.
    let steps = text.lines().filter_map(step);
    Ok(steps.filter(|line| line.step < before).collect())
}

/// A new folder with a larger number than all before it.
fn next(runs: &Path) -> Result<PathBuf, Failure> {
    fs::create_dir_all(runs).map_err(|error| Failure::file("make", runs, &error))?;
    // Runs are neither to be committed nor to be trained on.
    let ignore = runs.join(".gitignore");
    if !ignore.exists() {
        fs::write(&ignore, "*\n").map_err(|error| Failure::file("write", &ignore, &error))?;
    }
    let first = largest(runs)?.map_or(1, |largest| largest.saturating_add(1));
    for number in first..=u32::MAX {
        let path = runs.join(number.to_string());
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            // Another run was quicker.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Failure::file("make", &path, &error)),
        }
    }
    Err(Failure::Other(format!(
        "no free number in {}; give --out",
        runs.display()
    )))
}

/// The newest of `runs/1`, `runs/2`, ...: the one with the largest number.
pub(super) fn newest(runs: &Path) -> Result<PathBuf, Failure> {
    let number = match runs.exists() {
        true => largest(runs)?,
        false => None,
    };
    let problem = format!(
        "there are no runs in {}; train first, or name one",
        runs.display()
    );
    let number = number.ok_or(Failure::Other(problem))?;
    Ok(runs.join(number.to_string()))
}

fn largest(runs: &Path) -> Result<Option<u32>, Failure> {
    let fail = |error| Failure::file("read", runs, &error);
    let mut largest = None;
    for entry in fs::read_dir(runs).map_err(fail)? {
        let name = entry.map_err(fail)?.file_name();
        let number = name.to_str().and_then(|name| name.parse::<u32>().ok());
        // 007 is somebody else's.
        let own = number.filter(|number| *name == *number.to_string());
        largest = largest.max(own);
    }
    Ok(largest)
}
