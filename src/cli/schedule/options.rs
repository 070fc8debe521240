//! The options of `brigade schedule`, and what they describe.

use crate::cli::failure::Failure;
use crate::cli::options::{ScheduleArg, number, schedule as schedule_name, whole};
use crate::ids::{MicroBatchCount, NodeCount};
use crate::schedule::csv::{CsvSchedule, Dialect};
use crate::schedule::{
    Costs, Definition, Layout, Lowered, Schedule, StashLimit, Task, Times, as_defined, check, lower,
};
use crate::{Config, PlanError};
use clap::{Args, ValueEnum, ValueHint};
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
        allow_negative_numbers = true, value_parser = whole::<usize>
    )]
    pub(super) nodes: Option<usize>,
    /// Stages per node; as many as the schedule needs unless given.
    #[arg(
        long, value_name = "V",
        allow_negative_numbers = true, value_parser = whole::<usize>
    )]
    pub(super) chunks: Option<usize>,
    /// Micro-batches of a step; 8, or as many as the file has.
    #[arg(
        long, value_name = "M",
        allow_negative_numbers = true, value_parser = whole::<usize>
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
    freed_at_input: f64,
    /// The schedule as defined, not as it is lowered to run.
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
    /// What the CSV has: the schedule as defined, or what runs, with sends and receives.
    #[arg(
        long, value_enum, default_value_t = FormatArg::ComputeOnly, value_name = "FORMAT",
        help_heading = "Output"
    )]
    pub(super) format: FormatArg,
    /// Columns of the picture; as the terminal has room unless given.
    #[arg(
        long, value_name = "COLUMNS", allow_negative_numbers = true,
        value_parser = whole::<usize>, help_heading = "Output"
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

/// One number, or one for each stage.
#[derive(Clone, Debug)]
struct TimesArg(Vec<f64>);

fn times(text: &str) -> Result<TimesArg, String> {
    let numbers = text.split(',').map(|number| number.trim().parse().ok());
    let numbers: Option<Vec<f64>> = numbers.collect();
    let fine = |numbers: &Vec<f64>| numbers.iter().all(|number| (0.0..1e100).contains(number));
    let problem = "give a number of 0 or more, or one for each stage as 1,1.5,0.8,1";
    numbers
        .filter(fine)
        .map(TimesArg)
        .ok_or_else(|| problem.to_owned())
}

/// More compute actions than this are a mistake: they take gigabytes.
const MOST_ACTIONS: usize = 1 << 24;
/// Of nodes, and of stages on a node.
const MOST_CHUNKS: usize = 1024;

/// A schedule in one setting, proven.
pub(super) struct Setting {
    pub(super) name: String,
    pub(super) layout: Layout,
    pub(super) micro_batches: MicroBatchCount,
    pub(super) times: Times,
    pub(super) definition: Definition,
    /// What runs; or, where it was asked for, the definition with its messages.
    pub(super) lowered: Lowered,
}

impl ScheduleOptions {
    /// The schedule that is asked for.
    pub(super) fn schedule(&self) -> Result<Box<dyn Schedule>, Failure> {
        match &self.schedule {
            ScheduleArg::Kind(kind) => Ok(Box::new(*kind)),
            ScheduleArg::File(path) => Ok(Box::new(self.file(path)?)),
        }
    }

    /// A schedule from a file.
    pub(super) fn file(&self, path: &std::path::Path) -> Result<CsvSchedule, Failure> {
        Ok(CsvSchedule::read(path, self.dialect())?)
    }

    /// How files are read and written.
    pub(super) fn dialect(&self) -> Dialect {
        match self.dialect {
            DialectArg::Current => Dialect::Current,
            DialectArg::Year2025 => Dialect::Year2025,
            DialectArg::Year2024 => Dialect::Year2024,
        }
    }

    /// The same options for another schedule.
    pub(super) fn with(&self, schedule: ScheduleArg) -> Self {
        Self {
            schedule,
            ..self.clone()
        }
    }

    /// Nodes and micro-batches: what is asked for, or what a file has.
    fn size(&self) -> Result<(usize, usize), Failure> {
        let (mut nodes, mut micro_batches) = (self.nodes, self.micro_batches);
        if let ScheduleArg::File(path) = &self.schedule {
            let file = self.file(path)?;
            nodes = nodes.or(Some(file.placement().nodes().index()));
            micro_batches = micro_batches.or(Some(file.micro_batches().index()));
        }
        let (nodes, micro_batches) = (nodes.unwrap_or(4), micro_batches.unwrap_or(8));
        let config = Config {
            nodes,
            ..Config::default()
        };
        config.validate()?;
        let wrong = |what: &str, value: usize, allowed: String| {
            Failure::Usage(format!("--{what} is {value}; it must be {allowed}"))
        };
        if micro_batches == 0 {
            return Err(wrong("micro-batches", 0, "at least 1".into()));
        }
        let chunks = self.chunks.unwrap_or(1);
        if !(1..=MOST_CHUNKS).contains(&chunks) {
            let allowed = format!("between 1 and {MOST_CHUNKS}");
            return Err(wrong("chunks", chunks, allowed));
        }
        if nodes * chunks * 2 > MOST_ACTIONS / micro_batches {
            let most = (MOST_ACTIONS / (nodes * chunks * 2)).max(1);
            let allowed = format!("at most {most} for {nodes} nodes");
            return Err(wrong("micro-batches", micro_batches, allowed));
        }
        Ok((nodes, micro_batches))
    }

    /// The schedule, placed and ordered, lowered and proven.
    pub(super) fn setting(&self) -> Result<Setting, Failure> {
        self.setting_within(self.limit()?)
    }

    /// The same under another limit than the schedule was told of.
    pub(super) fn setting_within(&self, limit: Option<StashLimit>) -> Result<Setting, Failure> {
        let (layout, micro_batches, definition, times, name) = self.defined()?;
        let lowered = match self.as_defined {
            true => as_defined(&definition, &layout, micro_batches),
            false => lower(&definition, &layout, micro_batches),
        };
        let lowered = lowered.map_err(PlanError::from)?;
        if !self.as_defined {
            check(&lowered, &layout, micro_batches, limit, &|lane| {
                lowered.slots.of(lane)
            })
            .map_err(PlanError::from)?;
        }
        Ok(Setting {
            name,
            layout,
            micro_batches,
            times,
            definition,
            lowered,
        })
    }

    #[allow(clippy::type_complexity)]
    pub(super) fn defined(
        &self,
    ) -> Result<(Layout, MicroBatchCount, Definition, Times, String), Failure> {
        let (nodes, micro_batches) = self.size()?;
        let schedule = self.schedule()?;
        let placement = schedule.place(NodeCount::new(nodes as u32), self.chunks)?;
        let micro_batches = MicroBatchCount::new(micro_batches as u32);
        let layout = Layout::chain(placement);
        let times = self.times(&layout)?;
        let kept = layout.placement.stages().iter().map(|stage| {
            let node = layout.placement.node_of(stage);
            let share = 1.0 / layout.placement.stages_on(node).len() as f64;
            [share, share * (1.0 - self.freed_at_input)]
        });
        let limit = self.limit()?.map(|limit| limit.most);
        let costs = Costs {
            times: times.clone(),
            kept: kept.collect(),
            limits: limit.map_or(Vec::new(), |most| vec![most; nodes]),
        };
        let task = Task::new(layout.placement.clone(), micro_batches).with_costs(costs);
        let definition = schedule.define(&task)?;
        let name = schedule.name().to_owned();
        Ok((layout, micro_batches, definition, times, name))
    }

    pub(super) fn limit(&self) -> Result<Option<StashLimit>, Failure> {
        if !(0.0..=1.0).contains(&self.freed_at_input) {
            let problem = format!(
                "--freed-at-input is {}; it must be between 0 and 1",
                self.freed_at_input
            );
            return Err(Failure::Usage(problem));
        }
        if let Some(most) = self.memory_limit.filter(|most| !(0.0..1e15).contains(most)) {
            let problem = format!("--memory-limit is {most}; it must be 0 or more micro-batches");
            return Err(Failure::Usage(problem));
        }
        let freed_at_input = self.freed_at_input;
        Ok(self.memory_limit.map(|most| StashLimit {
            most,
            freed_at_input,
        }))
    }

    /// The part of what F keeps that I frees.
    pub(super) fn freed_at_input(&self) -> f64 {
        self.freed_at_input
    }

    fn times(&self, layout: &Layout) -> Result<Times, Failure> {
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
        if !(0.0..1e100).contains(&self.link_latency) {
            let problem = format!(
                "--link-latency is {}; it must be 0 or more",
                self.link_latency
            );
            return Err(Failure::Usage(problem));
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
