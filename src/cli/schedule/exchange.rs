//! `brigade schedule export` and `import`: schedules from and for PyTorch.

use super::options::{FormatArg, ScheduleOptions, Setting};
use crate::cli::failure::Failure;
use crate::cli::options::ScheduleArg;
use crate::cli::output::print;
use crate::files::write_whole;
use crate::schedule::csv::{compute_comms, compute_only};
use std::io::Write;

pub(super) fn export(options: &ScheduleOptions, to: &mut dyn Write) -> Result<(), Failure> {
    let setting = options.setting()?;
    let text = text(options, &setting)?;
    match &options.csv {
        Some(path) => Ok(write_whole(path, text.as_bytes())?),
        None => print(to, text.trim_end()),
    }
}

/// As CSV: the definition, or the lowered plan.
pub(super) fn text(options: &ScheduleOptions, setting: &Setting) -> Result<String, Failure> {
    match options.format {
        FormatArg::ComputeOnly => Ok(compute_only(&setting.definition, options.dialect())),
        FormatArg::ComputeComms => {
            let (lowered, layout) = (&setting.lowered, &setting.layout);
            Ok(compute_comms(lowered, layout, options.dialect())?)
        }
    }
}

pub(super) fn import(options: &ScheduleOptions, to: &mut dyn Write) -> Result<(), Failure> {
    let file = match (&options.csv, &options.schedule) {
        (Some(path), _) | (None, ScheduleArg::File(path)) => path.clone(),
        (None, ScheduleArg::Kind(_)) => {
            let problem = "import needs a file: --csv FILE.csv";
            return Err(Failure::Usage(problem.into()));
        }
    };
    super::prove::check(&options.with(ScheduleArg::File(file)), to)
}
