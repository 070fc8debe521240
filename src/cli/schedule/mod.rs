//! `brigade schedule`: schedules drawn, proven, simulated, exchanged and compared, without a
//! network.

use super::failure::Failure;
use clap::Subcommand;
use std::io::Write;

mod compare;
mod exchange;
mod options;
mod prove;
mod setting;
mod simulate;

use options::ScheduleOptions;

#[derive(Clone, Debug, Subcommand)]
pub(super) enum ScheduleCommand {
    /// Draw the timeline of a schedule, in colour where the terminal has it
    #[command(after_help = "\
Examples:
  brigade schedule show
  brigade schedule show --schedule zb-v --nodes 4 --micro-batches 8 --svg zb-v.svg
  brigade schedule show --schedule 1f1b --forward 1 --backward-input 1.2 --width 120")]
    Show(Box<ScheduleOptions>),
    /// Prove a schedule complete, paired, free of deadlock, within memory; or say where it is not
    #[command(after_help = "\
Examples:
  brigade schedule check --schedule interleaved-1f1b --nodes 8 --chunks 4 --micro-batches 32
  brigade schedule check --schedule mine.csv --memory-limit 4")]
    Check(Box<ScheduleOptions>),
    /// What a step takes with given times: makespan, bubbles, memory, the critical path
    #[command(after_help = "\
Examples:
  brigade schedule simulate --schedule zb-h1 --nodes 8 --micro-batches 24
  brigade schedule simulate --schedule zb-auto --forward 3,4,4,5 --backward-input 3,4,4,5 --json")]
    Simulate(Box<ScheduleOptions>),
    /// Write a schedule as CSV for PyTorch
    #[command(after_help = "\
Examples:
  brigade schedule export --schedule zb-v --nodes 4 --csv zb-v.csv
  brigade schedule export --schedule 1f1b --format compute-comms")]
    Export(Box<ScheduleOptions>),
    /// Read a schedule from PyTorch's CSV, prove it, and say what it is
    #[command(after_help = "\
Examples:
  brigade schedule import --csv mine.csv
  brigade schedule import --csv old.csv --dialect 2024")]
    Import(Box<ScheduleOptions>),
    /// All schedules in one setting, best first
    #[command(after_help = "\
Examples:
  brigade schedule compare --nodes 8 --micro-batches 32
  brigade schedule compare --link-latency 0.3 --memory-limit 8 --json")]
    Compare(Box<ScheduleOptions>),
}

pub(super) fn schedule(command: &ScheduleCommand, to: &mut dyn Write) -> Result<(), Failure> {
    type Run = fn(&ScheduleOptions, &mut dyn Write) -> Result<(), Failure>;
    // What each has no use for.
    let (run, options, name, unused): (Run, _, _, &[&str]) = match command {
        ScheduleCommand::Show(options) => (simulate::show, options, "show", &[]),
        ScheduleCommand::Simulate(options) => (simulate::simulate, options, "simulate", &[]),
        ScheduleCommand::Check(options) => {
            (prove::check, options, "check", &["as-defined", "width"])
        }
        ScheduleCommand::Export(options) => (exchange::export, options, "export", &["width"]),
        ScheduleCommand::Import(options) => {
            let unused = &["as-defined", "width"];
            (exchange::import, options, "import", unused)
        }
        ScheduleCommand::Compare(options) => {
            let unused = &["svg", "csv", "width", "format"];
            (compare::compare, options, "compare", unused)
        }
    };
    options.without(name, unused)?;
    run(options, to)
}
