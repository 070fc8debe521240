//! The options that describe a run: of `brigade train`, `brigade plan`, `brigade profile` and
//! `brigade config`, and the keys of a configuration file. One definition for all of them.

use clap::{Args, ValueHint};
use std::path::PathBuf;

mod measuring;
mod network;
mod output;
mod pipeline;
mod planning;
mod saving;
mod tokens;
mod training;
mod tuning;
mod values;

pub(super) use measuring::ProfileOptions;
pub(super) use network::{NETWORK, NetworkOptions};
pub(super) use output::OutputOptions;
pub(super) use pipeline::PipelineOptions;
pub(super) use planning::{PlanOptions, TrainOptions};
pub(super) use saving::OnSaveError;
use saving::SavingOptions;
pub(super) use tokens::TokenOptions;
pub(super) use training::TrainingOptions;
use tuning::TuningOptions;
pub(super) use tuning::counted;
pub(super) use values::{
    MicroBatchArg, OrderArg, RecomputeArg, ScheduleArg, number, schedule, whole,
};

/// The options of a run.
#[derive(Clone, Debug, Args)]
#[command(args_override_self = true)]
pub(super) struct RunOptions {
    /// File or folder to train on: text, or token ids (.bin, .npy, a folder with train.bin and
    /// val.bin).
    #[arg(value_name = "DATA", default_value = ".", value_hint = ValueHint::AnyPath)]
    pub(super) data: PathBuf,

    /// Take options from a TOML file; what is on the command line counts more.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) config: Option<PathBuf>,

    #[command(flatten)]
    pub(super) tokens: TokenOptions,
    #[command(flatten)]
    pub(super) network: NetworkOptions,
    #[command(flatten)]
    pub(super) pipeline: PipelineOptions,
    #[command(flatten)]
    pub(super) training: TrainingOptions,
    #[command(flatten)]
    pub(super) tuning: TuningOptions,
    #[command(flatten)]
    pub(super) saving: SavingOptions,
    #[command(flatten)]
    pub(super) output: OutputOptions,
}
