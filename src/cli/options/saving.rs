//! What is saved on the way, and what happens when something fails.

use super::{RunOptions, whole};
use crate::planner::units::bytes;
use clap::{Args, ValueEnum};
use std::fmt;

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Checkpoints")]
pub(in crate::cli) struct SavingOptions {
    /// Save a checkpoint after every so many steps and at the end, next to training; 0 for only
    /// when the run is asked to end.
    #[arg(
        long, default_value = "500", value_name = "N",
        allow_negative_numbers = true, value_parser = whole::<u64>
    )]
    pub(in crate::cli) save_every: u64,
    /// Checkpoints that are kept; 0 for all.
    #[arg(
        long, default_value = "2", value_name = "K",
        allow_negative_numbers = true, value_parser = whole::<usize>
    )]
    pub(in crate::cli) keep: usize,
    /// Bytes that copies may take on every node while a checkpoint is written, or as many as its
    /// largest parameter has; 0 to wait until it is written.
    #[arg(long, default_value = "64MiB", value_name = "BYTES", value_parser = bytes)]
    pub(in crate::cli) save_memory: u64,
    /// What to do when a checkpoint cannot be written: go on with a warning, or stop.
    #[arg(long, value_enum, default_value_t = OnSaveError::GoOn, value_name = "NAME")]
    pub(in crate::cli) on_save_error: OnSaveError,
    /// Start again from the last checkpoint when a node fails, so many times.
    #[arg(
        long, default_value = "0", value_name = "N",
        allow_negative_numbers = true, value_parser = whole::<u32>
    )]
    pub(in crate::cli) retries: u32,
}

/// What becomes of a training whose checkpoint cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum OnSaveError {
    GoOn,
    Stop,
}

impl fmt::Display for OnSaveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::GoOn => "go-on",
            Self::Stop => "stop",
        })
    }
}

impl RunOptions {
    /// Whether the run leaves a folder behind.
    pub(in crate::cli) fn writes(&self) -> bool {
        self.output.out.is_some() || self.output.synthetic_vocab.is_none()
    }

    /// Whether a checkpoint is saved after so many steps. The last one is saved by itself.
    pub(in crate::cli) fn saves_after(&self, step: u64) -> bool {
        let every = self.saving.save_every;
        self.writes() && every > 0 && step.is_multiple_of(every) && step < self.training.steps
    }

    /// What copies may take: nothing where no checkpoint is saved on the way.
    pub(in crate::cli) fn saving_bytes(&self) -> u64 {
        let every = self.saving.save_every;
        match self.writes() && every > 0 && every < self.training.steps {
            true => self.saving.save_memory,
            false => 0,
        }
    }
}
