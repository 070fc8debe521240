//! What `brigade profile` has beside the options of a run.

use super::RunOptions;
use clap::{Args, ValueHint};
use std::str::FromStr;

/// The options of `brigade profile`.
#[derive(Clone, Debug, Args)]
#[command(args_override_self = true)]
#[command(mut_arg("out", |out| {
    out.help("Write what was measured to this file, for `brigade plan --profile`")
        .value_name("FILE")
        .value_hint(ValueHint::FilePath)
}))]
pub(in crate::cli) struct ProfileOptions {
    #[command(flatten)]
    pub(in crate::cli) run: RunOptions,
    /// Measure for micro-batches of so many sequences instead of --micro-batch-size.
    #[arg(long, value_name = "N,N,...", help_heading = "Measuring")]
    pub(in crate::cli) micro_batch_sizes: Option<SizesArg>,
}

/// Several sizes of micro-batch.
#[derive(Clone, Debug)]
pub(in crate::cli) struct SizesArg(pub(in crate::cli) Vec<usize>);

impl FromStr for SizesArg {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let size = |text: &str| text.trim().parse().ok().filter(|size| *size > 0);
        let sizes: Option<Vec<usize>> = text.split(',').map(size).collect();
        let sizes = sizes.ok_or("give whole numbers from 1, such as 1,2,4")?;
        Ok(Self(sizes))
    }
}
