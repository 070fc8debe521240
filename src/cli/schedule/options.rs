//! The options of `brigade schedule`, and what they describe.

use crate::cli::failure::Failure;
use crate::cli::options::{ScheduleArg, number, schedule as schedule_name};
use crate::schedule::csv::Dialect;
use crate::schedule::{Layout, StashLimit, Times};
use clap::{Args, ValueEnum, ValueHint};
use std::num::IntErrorKind;
use std::path::PathBuf;

/// What all subcommands take.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct ScheduleOptions {
    /// By name, or a CSV file as PyTorch writes it.
    #[arg(
        long, value_name = "NAME|FILE.csv", default_value = "1f1b",
        value_parser = schedule_name(), value_hint = ValueHint::FilePath
    )]
    pub(super) schedule: ScheduleArg,
    /// Pipeline nodes; 4, or as many as the file has.
    #[arg(
        long, value_name = "P",
        allow_negative_numbers = true, value_parser = count
    )]
    pub(super) nodes: Option<usize>,
    /// Stages per node; as many as the schedule needs unless given.
    #[arg(
        long, value_name = "V",
        allow_negative_numbers = true, value_parser = count
    )]
    pub(super) chunks: Option<usize>,
    /// Micro-batches of a step; 8, or as many as the file has.
    #[arg(
        long, value_name = "M",
        allow_negative_numbers = true, value_parser = count
    )]
    pub(super) micro_batches: Option<usize>,
    /// Time of F in any one unit: of a node's whole share, or a list with one number per stage.
    #[arg(
        long, value_name = "T", default_value = "1", value_parser = times,
        allow_hyphen_values = true, help_heading = "Costs"
    )]
    forward: TimesArg,
    /// Time of I, backward for inputs.
    #[arg(
        long, value_name = "T", default_value = "1", value_parser = times,
        allow_hyphen_values = true, help_heading = "Costs"
    )]
    backward_input: TimesArg,
    /// Time of W, backward for weights.
    #[arg(
        long, value_name = "T", default_value = "1", value_parser = times,
        allow_hyphen_values = true, help_heading = "Costs"
    )]
    backward_weight: TimesArg,
    /// Time from a send to when the message can be taken.
    #[arg(
        long, value_name = "T", default_value = "0", allow_negative_numbers = true,
        value_parser = number::<f64>, help_heading = "Costs"
    )]
    link_latency: f64,
    /// The most that a node may keep for backward, in micro-batches of its whole share.
    #[arg(
        long, value_name = "N", allow_negative_numbers = true,
        value_parser = number::<f64>, help_heading = "Costs"
    )]
    pub(super) memory_limit: Option<f64>,
    /// The part of it that I frees; W frees the rest.
    #[arg(
        long, value_name = "FRACTION", default_value = "0", allow_negative_numbers = true,
        value_parser = number::<f64>, help_heading = "Costs"
    )]
    pub(super) freed_at_input: f64,
    /// Show, simulate and compare the schedule as defined, not as it is lowered to run.
    #[arg(long)]
    pub(super) as_defined: bool,
    /// How a file is read and written: 2024 has B and BW for today's I and B; 2025 has no waits.
    #[arg(
        long, value_enum, default_value_t = DialectArg::Current, value_name = "YEAR",
        help_heading = "Output"
    )]
    dialect: DialectArg,
    /// For programs: one JSON object.
    #[arg(long, help_heading = "Output")]
    pub(super) json: bool,
    /// Write the picture to this file, as SVG.
    #[arg(
        long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Output"
    )]
    pub(super) svg: Option<PathBuf>,
    /// Write the schedule to this file, as CSV for PyTorch; import reads it.
    #[arg(
        long, value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = "Output"
    )]
    pub(super) csv: Option<PathBuf>,
    /// What the CSV has: the schedule as defined, as unless given, or what runs, with sends and
    /// receives. For import: what the file must be.
    #[arg(long, value_enum, value_name = "FORMAT", help_heading = "Output")]
    pub(super) format: Option<FormatArg>,
    /// Columns of the picture; as the terminal has room unless given.
    #[arg(
        long, value_name = "COLUMNS", allow_negative_numbers = true,
        value_parser = count, help_heading = "Output"
    )]
    pub(super) width: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum FormatArg {
    // Compute actions as defined.
    ComputeOnly,
    // The lowered plan, with sends and receives.
    ComputeComms,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum DialectArg {
    Current,
    #[value(name = "2025")]
    Year2025,
    #[value(name = "2024")]
    Year2024,
}

/// More would not be told from infinite once it is added up.
const MOST_TIME: f64 = 1e100;
/// Of micro-batches in memory.
const MOST_KEPT: f64 = 1e15;

/// How many of something. 0 is refused later, where it is known how many there may be.
fn count(text: &str) -> Result<usize, String> {
    text.parse::<usize>().map_err(|error| match error.kind() {
        IntErrorKind::PosOverflow => "this number is too large".to_owned(),
        _ => "give a whole number, 1 or more".to_owned(),
    })
}

/// A number as people write it.
fn short(number: f64) -> String {
    match (1e-6..1e15).contains(&number.abs()) || number == 0.0 {
        true => number.to_string(),
        false => format!("{number:e}"),
    }
}

/// One number, or one for each stage.
#[derive(Clone, Debug)]
struct TimesArg(Vec<f64>);

fn times(text: &str) -> Result<TimesArg, String> {
    let numbers = text.split(',').map(|number| number.trim().parse().ok());
    let numbers: Option<Vec<f64>> = numbers.collect();
    let fine = |numbers: &Vec<f64>| {
        numbers
            .iter()
            .all(|number| (0.0..=MOST_TIME).contains(number))
    };
    let problem = "give a number of 0 or more, up to 1e100, or one for each stage as 1,1.5,0.8,1";
    numbers
        .filter(fine)
        .map(TimesArg)
        .ok_or_else(|| problem.to_owned())
}

impl ScheduleOptions {
    /// How files are read and written.
    pub(super) fn dialect(&self) -> Dialect {
        match self.dialect {
            DialectArg::Current => Dialect::Current,
            DialectArg::Year2025 => Dialect::Year2025,
            DialectArg::Year2024 => Dialect::Year2024,
        }
    }

    /// What a subcommand has no use for is refused: nobody is to believe that it did something.
    pub(super) fn without(&self, command: &str, unused: &[&str]) -> Result<(), Failure> {
        let given = [
            ("svg", self.svg.is_some()),
            ("csv", self.csv.is_some()),
            ("json", self.json),
            ("width", self.width.is_some()),
            ("format", self.format.is_some()),
            ("as-defined", self.as_defined),
        ];
        let given = given.into_iter().filter(|(_, given)| *given);
        let found = given
            .map(|(name, _)| name)
            .find(|name| unused.contains(name));
        if let Some(name) = found {
            let problem = format!("schedule {command} has no use for --{name}; leave it out");
            return Err(Failure::Usage(problem));
        }
        if self.format.is_some() && self.csv.is_none() && !["export", "import"].contains(&command) {
            let problem = "--format says what --csv writes; give --csv FILE as well";
            return Err(Failure::Usage(problem.into()));
        }
        Ok(())
    }

    /// What a node may keep.
    pub(super) fn limit(&self) -> Result<Option<StashLimit>, Failure> {
        if !(0.0..=1.0).contains(&self.freed_at_input) {
            return Err(wrong(
                "freed-at-input",
                self.freed_at_input,
                "between 0 and 1",
            ));
        }
        let fine = |most: &f64| (0.0..=MOST_KEPT).contains(most);
        if let Some(most) = self.memory_limit.filter(|most| !fine(most)) {
            let allowed = "between 0 and 1e15 micro-batches";
            return Err(wrong("memory-limit", most, allowed));
        }
        let freed_at_input = self.freed_at_input;
        Ok(self.memory_limit.map(|most| StashLimit {
            most,
            freed_at_input,
        }))
    }

    /// Of every stage, and of the links.
    pub(super) fn times(&self, layout: &Layout) -> Result<Times, Failure> {
        let stages = layout.placement.stages();
        let of = |name: &str, TimesArg(list): &TimesArg| match list[..] {
            [share] => Ok((stages.iter())
                .map(|stage| {
                    let node = layout.placement.node_of(stage);
                    share / layout.placement.stages_on(node).len() as f64
                })
                .collect()),
            _ if list.len() == stages.index() => Ok(list.clone()),
            _ => Err(Failure::Usage(format!(
                "--{name} has {} numbers; give one, or {stages}: one for each stage",
                list.len()
            ))),
        };
        if !(0.0..=MOST_TIME).contains(&self.link_latency) {
            return Err(wrong(
                "link-latency",
                self.link_latency,
                "between 0 and 1e100",
            ));
        }
        let times = Times {
            forward: of("forward", &self.forward)?,
            input: of("backward-input", &self.backward_input)?,
            weight: of("backward-weight", &self.backward_weight)?,
            ..Times::default()
        };
        let all = [&times.forward, &times.input, &times.weight];
        if all.into_iter().flatten().all(|time| *time == 0.0) {
            let problem = "--forward, --backward-input and --backward-weight are all 0; \
                           one of them must take time";
            return Err(Failure::Usage(problem.into()));
        }
        Ok(times.with_latency(self.link_latency))
    }
}

fn wrong(option: &str, value: f64, allowed: &str) -> Failure {
    let value = short(value);
    Failure::Usage(format!("--{option} is {value}; it must be {allowed}"))
}
