//! What a run says and leaves behind.

use super::whole;
use clap::{ArgAction, Args, ValueHint};
use std::path::PathBuf;

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Output")]
pub(in crate::cli) struct OutputOptions {
    /// Run folder; the next of runs/1, runs/2, ... unless given.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(in crate::cli) out: Option<PathBuf>,
    /// Validate after every so many steps; 0 for only at the end.
    #[arg(
        long, default_value = "500", value_name = "N",
        allow_negative_numbers = true, value_parser = whole::<u64>
    )]
    pub(in crate::cli) eval_every: u64,
    /// Windows of a validation on the way, evenly spread; 0 for all. At the end it is always all.
    #[arg(
        long, default_value = "256", value_name = "N",
        allow_negative_numbers = true, value_parser = whole::<usize>
    )]
    pub(in crate::cli) eval_windows: usize,
    /// Tokens of text to generate at the end.
    #[arg(
        long, default_value = "200", value_name = "N",
        allow_negative_numbers = true, value_parser = whole::<usize>
    )]
    pub(in crate::cli) sample: usize,
    /// So many steps, from step 10 on, have their actions written to trace.json.
    #[arg(
        long, default_value = "5", value_name = "N",
        allow_negative_numbers = true, value_parser = whole::<u64>
    )]
    pub(in crate::cli) trace_steps: u64,
    /// Say at the end where the time of the traced steps went, by stage and kernel.
    #[arg(
        long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_value = "false", default_missing_value = "true", hide_possible_values = true,
        hide_default_value = true
    )]
    pub(in crate::cli) breakdown: bool,
    /// Print one JSON object a line and nothing else: one for each step, and a summary.
    #[arg(
        long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_value = "false", default_missing_value = "true", hide_possible_values = true,
        hide_default_value = true
    )]
    pub(in crate::cli) json: bool,
    /// Train on random tokens out of N instead of DATA, for measuring; no run folder unless --out
    /// is given.
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = whole::<usize>)]
    pub(in crate::cli) synthetic_vocab: Option<usize>,
}
