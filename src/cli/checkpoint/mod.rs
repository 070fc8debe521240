//! `brigade checkpoint`: what a run saved, listed, shown, read through, and removed.

use super::failure::Failure;
use super::options::whole;
use super::place::Place;
use crate::checkpoint::step_of;
use crate::process;
use crate::schedule::counted;
use crate::{Checkpoint, Error};
use clap::{Args, Subcommand, ValueHint};
use std::io::Write;
use std::path::{Path, PathBuf};

mod list;
mod prune;
mod show;
mod verify;

#[derive(Clone, Debug, Subcommand)]
pub(super) enum CheckpointCommand {
    /// All checkpoints, the newest last: step, size, when they were saved, whole or damaged
    #[command(after_help = "\
Examples:
  brigade checkpoint list
  brigade checkpoint list runs/3 --json

It looks at manifests, lengths and headers; `verify` reads everything. The exit code is 1 where one
is damaged. With --json each has checkpoint (its folder), step, bytes, saved_s (since 1970, UTC),
files, whole and problem.")]
    List(Options),
    /// What a checkpoint says of itself; of several the newest
    #[command(after_help = "\
Examples:
  brigade checkpoint show runs/3/checkpoints/step-500
  brigade checkpoint show --tensors --json

With --json it has checkpoint (its folder), step, saved_s (since 1970, UTC), version, layers,
parameters, settings, notes, weights_sha256, and files with name, bytes and tensors (how many). Then
with --tensors each tensor has tensor (its key), state, layer, shape, sha256 and file.")]
    Show(show::ShowOptions),
    /// Read everything and compare it with its checksums
    #[command(after_help = "\
Examples:
  brigade checkpoint verify
  brigade checkpoint verify runs/3/checkpoints/step-500

The exit code is 1 where one is damaged. With --json each has checkpoint (its folder), step, whole
and problem; where it is whole also bytes, seconds and gb_per_s.")]
    Verify(Options),
    /// Remove the oldest checkpoints
    #[command(after_help = "\
Examples:
  brigade checkpoint prune runs/3 --keep 2

Damaged ones do not count among those that are kept. With --json each that was removed has
checkpoint (its folder), step and freed_bytes; then a summary has removed, freed_bytes and kept.")]
    Prune(prune::PruneOptions),
}

#[derive(Clone, Debug, Args)]
pub(super) struct Options {
    /// Run folder, folder of checkpoints, or checkpoint; the newest of runs/1, runs/2, ... unless
    /// given.
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath, default_value = "latest",
          hide_default_value = true)]
    dir: PathBuf,
    /// For programs: one JSON object a line.
    #[arg(long)]
    json: bool,
}

pub(super) fn checkpoint(command: &CheckpointCommand, to: &mut dyn Write) -> Result<(), Failure> {
    // What others did at the same time would only be in the way.
    if !process::is_first() {
        return Ok(());
    }
    match command {
        CheckpointCommand::List(options) => list::list(options, to),
        CheckpointCommand::Show(options) => show::show(options, to),
        CheckpointCommand::Verify(options) => verify::verify(options, to),
        CheckpointCommand::Prune(options) => prune::prune(options, to),
    }
}

/// A checkpoint's step, by what it says or, where it says nothing, by its name.
fn step(path: &Path, found: Option<&Checkpoint>) -> Option<u64> {
    found.map_or(step_of(path), |found| Some(found.manifest().step))
}

/// That some are damaged, if so.
fn none_damaged(problems: &[Error], all: usize) -> Result<(), Failure> {
    let Some(first) = problems.first() else {
        return Ok(());
    };
    let (damaged, all) = (problems.len(), counted(all, "checkpoint"));
    Err(Failure::Other(format!(
        "{damaged} of {all} damaged: {first}"
    )))
}

/// A step for people.
fn named(step: Option<u64>) -> String {
    step.map_or("?".into(), |step| step.to_string())
}
