//! What is planned, and what for.

use super::{MicroBatchArg, OrderArg, RecomputeArg, RunOptions, ScheduleArg};
use crate::Config;
use crate::partition::CutCost;
use crate::plan::Plan;
use clap::{Args, ValueEnum, ValueHint};
use std::path::PathBuf;

/// The options of `brigade train`.
#[derive(Clone, Debug, Args)]
#[command(args_override_self = true)]
pub(in crate::cli) struct TrainOptions {
    #[command(flatten)]
    pub(in crate::cli) run: RunOptions,
    /// Train as this file of `brigade plan --out` or of a run folder says: it has nodes, cuts,
    /// schedule, batch, micro-batch, precision and recomputation.
    #[arg(
        long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Planning",
        conflicts_with_all = [
            "nodes", "chunks", "cuts", "schedule", "batch_size", "micro_batch_size", "precision",
            "wire", "recompute"
        ]
    )]
    pub(in crate::cli) plan: Option<PathBuf>,
    /// Go on from a checkpoint: the newest of a run folder, a checkpoint by itself, or, without a
    /// value, the newest of the newest run. Options are those of that run unless given.
    #[arg(
        long, value_name = "RUN|CHECKPOINT|latest", value_hint = ValueHint::DirPath,
        num_args = 0..=1, default_missing_value = "latest", help_heading = "Checkpoints"
    )]
    pub(in crate::cli) resume: Option<PathBuf>,
}

/// The options of `brigade plan`.
#[derive(Clone, Debug, Args)]
#[command(args_override_self = true)]
#[command(mut_arg("out", |out| {
    out.help("Write the plan to this file, for `brigade train --plan`")
        .value_name("FILE")
        .value_hint(ValueHint::FilePath)
}))]
pub(in crate::cli) struct PlanOptions {
    #[command(flatten)]
    pub(in crate::cli) run: RunOptions,
    /// Take what layers and links take from a file of `brigade profile` instead of measuring.
    #[arg(
        long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Planning"
    )]
    pub(in crate::cli) profile: Option<PathBuf>,
    /// Plan layers that a JSON file describes instead of a decoder (docs/planner.md).
    #[arg(
        long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Planning",
        conflicts_with = "profile"
    )]
    pub(in crate::cli) layers_file: Option<PathBuf>,
    /// Nodes that a JSON file describes, with memory, speed and links (docs/planner.md).
    #[arg(
        long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Planning",
        conflicts_with = "nodes"
    )]
    pub(in crate::cli) nodes_file: Option<PathBuf>,
    /// Whether the transfer of an output is added to the stages on both sides of a cut, or is a
    /// link of its own beside them.
    #[arg(
        long, value_enum, default_value_t = CutCostArg::Link, value_name = "NAME",
        help_heading = "Planning"
    )]
    pub(in crate::cli) cut_cost: CutCostArg,
    /// Where to cut, as Megatron-LM writes it: stages apart by |, E what is before the blocks, t a
    /// block, L what is after them, l any one layer, t*3 for ttt.
    #[arg(
        long,
        value_name = "STAGES",
        help_heading = "Planning",
        conflicts_with = "cuts"
    )]
    pub(in crate::cli) layout: Option<String>,
}

/// Where transfers are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum CutCostArg {
    Both,
    Link,
}

impl From<CutCostArg> for CutCost {
    fn from(cost: CutCostArg) -> Self {
        match cost {
            CutCostArg::Both => Self::Both,
            CutCostArg::Link => Self::Link,
        }
    }
}

impl RunOptions {
    /// Whether something is to be chosen.
    pub(in crate::cli) fn leaves_open(&self) -> bool {
        matches!(self.pipeline.schedule, OrderArg::Auto)
            || self.training.micro_batch_size.0.is_none()
            || self.pipeline.recompute.is_auto()
    }

    /// As it was decided: for whoever reads the options of a run.
    pub(in crate::cli) fn decided(&self, config: &Config, plan: &Plan) -> Self {
        let mut run = self.clone();
        let (pipeline, training) = (&mut run.pipeline, &mut run.training);
        pipeline.nodes = config.nodes;
        pipeline.chunks = config.chunks;
        if let Ok(kind) = plan.schedule.parse() {
            pipeline.schedule = OrderArg::Given(ScheduleArg::Kind(kind));
        }
        training.batch_size = config.batch_size;
        training.micro_batch_size = MicroBatchArg(Some(config.micro_batch_size));
        training.precision = config.precision.into();
        pipeline.wire = config.wire.into();
        let ranges = plan.recomputed.iter();
        let ranges = ranges.map(|range| format!("{}-{}", range.start, range.end - 1));
        let ranges: Vec<_> = ranges.collect();
        let text = match ranges.is_empty() {
            true => "never".to_owned(),
            false => ranges.join(","),
        };
        pipeline.recompute = RecomputeArg::chosen(config.recompute.clone(), text);
        run
    }
}
