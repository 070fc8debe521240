//! `brigade schedule`.

use super::failure::Failure;
use super::options::{schedule as schedule_name, whole};
use super::output::{picture, picture_width, print};
use crate::ids::{MicroBatchCount, NodeCount};
use crate::placement::Placement;
use crate::schedule::{
    Layout, Schedule, ScheduleKind, Task, Times, check, lower, simulate, stash_peaks,
};
use crate::{Config, PlanError};
use clap::{Args, Subcommand};
use std::io::Write;
use std::str::FromStr;

#[derive(Clone, Debug, Subcommand)]
pub(super) enum ScheduleCommand {
    /// Draw the timeline of a schedule, in colour where the terminal has it
    #[command(after_help = "\
Examples:
  brigade schedule show
  brigade schedule show gpipe --nodes 3 --micro-batches 6
  brigade schedule show 1f1b --times 1,1.2,0.8 --width 120")]
    Show(ShowOptions),
}

#[derive(Clone, Debug, Args)]
pub(super) struct ShowOptions {
    /// Which schedule.
    #[arg(value_name = "NAME", default_value = "1f1b", value_parser = schedule_name())]
    name: ScheduleKind,
    /// Pipeline nodes.
    #[arg(
        long, value_name = "P", default_value = "4",
        allow_negative_numbers = true, value_parser = whole::<usize>
    )]
    nodes: usize,
    /// Micro-batches of a step.
    #[arg(
        long, value_name = "M", default_value = "8",
        allow_negative_numbers = true, value_parser = whole::<usize>
    )]
    micro_batches: usize,
    /// What F, I and W of a stage take, in any one unit; B is an I and a W.
    #[arg(
        long,
        value_name = "F,I,W",
        default_value = "1,1,1",
        allow_hyphen_values = true
    )]
    times: TimesArg,
    /// Columns of the picture; as the terminal has room unless given.
    #[arg(
        long, value_name = "COLUMNS",
        allow_negative_numbers = true, value_parser = whole::<usize>
    )]
    width: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
struct TimesArg([f64; 3]);

impl FromStr for TimesArg {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let numbers: Option<Vec<f64>> = text
            .split(',')
            .map(|number| number.trim().parse().ok())
            .collect();
        let fine = |numbers: &Vec<f64>| {
            numbers.iter().all(|n| (0.0..1e100).contains(n)) && numbers.iter().sum::<f64>() > 0.0
        };
        let three = numbers
            .filter(fine)
            .and_then(|numbers| numbers.try_into().ok());
        let problem = "give three numbers of 0 or more, not all 0, such as 1,1,1";
        three.map(Self).ok_or_else(|| problem.to_owned())
    }
}

/// Beyond this a picture is none any more.
const MOST_WIDTH: usize = 10_000;
const MOST_ACTIONS: usize = 1 << 20;

pub(super) fn schedule(command: &ScheduleCommand, to: &mut dyn Write) -> Result<(), Failure> {
    match command {
        ScheduleCommand::Show(options) => show(options, to),
    }
}

fn show(options: &ShowOptions, to: &mut dyn Write) -> Result<(), Failure> {
    let (nodes, micro_batches) = (options.nodes, options.micro_batches);
    let wrong = |what: &str, value: usize, allowed: String| {
        Failure::Usage(format!("--{what} is {value}; it must be {allowed}"))
    };
    if micro_batches == 0 {
        return Err(wrong("micro-batches", 0, "at least 1".into()));
    }
    Config {
        nodes,
        ..Config::default()
    }
    .validate()?;
    if nodes.saturating_mul(micro_batches) > MOST_ACTIONS {
        let allowed = format!("at most {} for {nodes} nodes", MOST_ACTIONS / nodes);
        return Err(wrong("micro-batches", micro_batches, allowed));
    }
    let width = options.width.unwrap_or_else(picture_width);
    if !(1..=MOST_WIDTH).contains(&width) {
        let allowed = format!("between 1 and {MOST_WIDTH}");
        return Err(wrong("width", width, allowed));
    }
    let nodes = NodeCount::new(nodes as u32);
    let micro_batches = MicroBatchCount::new(micro_batches as u32);
    let layout = Layout::chain(Placement::straight(nodes));
    let task = Task::new(layout.placement.clone(), micro_batches);
    let definition = options.name.define(&task)?;
    let lowered = lower(&definition, &layout, micro_batches).map_err(PlanError::from)?;
    let slots = |lane| lowered.slots.of(lane);
    check(&lowered, &layout, micro_batches, None, &slots).map_err(PlanError::from)?;
    let [forward, input, weight] = options.times.0;
    let times = Times::equal(nodes.index(), forward, input, weight);
    let timeline = simulate(&lowered, &layout, micro_batches, &times).map_err(PlanError::from)?;
    let name = options.name;
    print(
        to,
        &format!("{name}, {nodes} nodes, {micro_batches} micro-batches"),
    )?;
    print(to, picture(&timeline, width).trim_end())?;
    let kept: Vec<_> = (stash_peaks(&lowered, &layout).iter())
        .map(ToString::to_string)
        .collect();
    let bubble = 100.0 * timeline.bubble();
    print(
        to,
        &format!(
            "F forward, B backward (I for inputs, then W for weights), . idle\n\
             bubble {bubble:.1}%; micro-batches kept for backward, by node: {}",
            kept.join(" ")
        ),
    )
}
