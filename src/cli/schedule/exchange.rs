//! `brigade schedule export` and `import`: schedules from and for PyTorch.

use super::options::{FormatArg, ScheduleOptions};
use super::setting::Setting;
use super::simulate::{head, save_picture};
use crate::PlanError;
use crate::cli::failure::Failure;
use crate::cli::options::ScheduleArg;
use crate::cli::output::print;
use crate::files::write_whole;
use crate::schedule::csv::{Format, compute_comms, compute_only};
use serde_json::json;
use std::io::Write;

pub(super) fn export(options: &ScheduleOptions, to: &mut dyn Write) -> Result<(), Failure> {
    let setting = options.setting()?;
    save_picture(options, &setting)?;
    let text = text(options, &setting)?;
    if let Some(path) = &options.csv {
        write_whole(path, text.as_bytes())?;
    }
    if options.json {
        let rows = text.lines().map(|row| row.split(',').collect::<Vec<_>>());
        let mut object = head(&setting);
        object["rows"] = json!(rows.collect::<Vec<_>>());
        return print(to, &object.to_string());
    }
    match options.csv {
        Some(_) => Ok(()),
        None => print(to, text.trim_end()),
    }
}

/// As CSV: always the definition, or always what runs.
pub(super) fn text(options: &ScheduleOptions, setting: &Setting) -> Result<String, Failure> {
    let (defined, dialect) = (&setting.defined, options.dialect());
    let comms = |lowered| Ok(compute_comms(lowered, &defined.layout, dialect)?);
    match options.format.unwrap_or(FormatArg::ComputeOnly) {
        FormatArg::ComputeOnly => Ok(compute_only(&defined.definition, dialect)),
        FormatArg::ComputeComms if options.as_defined => {
            comms(&defined.proven(None).map_err(PlanError::from)?)
        }
        FormatArg::ComputeComms => comms(&setting.lowered),
    }
}

pub(super) fn import(options: &ScheduleOptions, to: &mut dyn Write) -> Result<(), Failure> {
    let usage = |problem: &str| Err(Failure::Usage(problem.to_owned()));
    let file = match (&options.csv, &options.schedule) {
        (Some(_), ScheduleArg::File(_)) => {
            return usage("import reads one file; give --csv FILE.csv or --schedule FILE.csv");
        }
        (Some(path), ScheduleArg::Kind(kind)) if *kind == Default::default() => path,
        (None, ScheduleArg::File(path)) => path,
        (_, ScheduleArg::Kind(_)) => return usage("import needs a file: --csv FILE.csv"),
    };
    let mut of_file = options.clone();
    (of_file.schedule, of_file.csv) = (ScheduleArg::File(file.clone()), None);
    let asked = of_file.asked()?;
    match (options.format, asked.format) {
        (Some(FormatArg::ComputeOnly), Some(Format::ComputeComms)) => {
            usage("--format is compute-only; the file has sends and receives: it is compute-comms")
        }
        (Some(FormatArg::ComputeComms), Some(Format::ComputeOnly)) => {
            usage("--format is compute-comms; the file has no sends: it is compute-only")
        }
        _ => super::prove::prove(&of_file, &asked, to),
    }
}
