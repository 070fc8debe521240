//! The program: one file per subcommand, nothing that a user of the library would need.

use clap::{ArgAction, ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};
use std::ffi::OsString;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

mod alike;
mod breakdown;
mod carried;
mod checkpoint;
mod command_line;
mod config_file;
mod ending;
mod export;
mod failure;
mod generate;
mod import;
mod interrupt;
mod logging;
mod model;
mod options;
mod ordering;
mod origin;
mod output;
mod place;
mod plan;
mod profile;
mod run_folder;
mod run_options;
mod schedule;
mod starting;
mod subject;
mod summary;
mod text;
mod tokenize;
mod tokenizer;
mod train;

use crate::process;
use command_line::{matches, parse, usage};
use config_file::Decided;
use failure::Failure;
use options::{PlanOptions, ProfileOptions, RunOptions, TrainOptions};

/// Pipeline-parallel training: one program, the same numbers bit for bit however many nodes it runs
/// on.
#[derive(Debug, Parser)]
#[command(
    name = "brigade",
    version,
    about,
    max_term_width = 100,
    propagate_version = true,
    after_help = "\
Start with:
  brigade train .                      train on the text files of this folder
  brigade generate                     text from the newest run
  brigade schedule compare             all schedules, best first
  brigade train --help                 all options"
)]
struct Cli {
    /// Say what happens inside: -v plans and nodes, -vv passes, -vvv every action.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train a GPT or a Llama on text, through a pipeline of nodes
    #[command(after_help = "\
Examples:
  brigade train .
  brigade train book.txt --nodes 2 --layers 6 --width 192 --steps 3000
  brigade train book.txt --nodes 4 --schedule gpipe --micro-batch-size 1 --json
  brigade train book.txt --tokenizer tokenizer.json
  brigade train --config run.toml --lr 5e-4
  brigade train book.txt --from runs/3 --lr 1e-4

Of a folder, git-ignored, hidden and non-text files are skipped. Tokens are bytes unless there is a
tokenizer; the last tenth is kept for validation. Token ids come as a file (.bin, as nanoGPT writes
it), an array (.npy), or a folder with train.bin and val.bin, which `brigade tokenize` writes.

The run folder has config.toml, network.json, plan.json, losses.csv, weights.safetensors, trace.json
(for ui.perfetto.dev or chrome://tracing), report.html, and the tokenizer.json, if there is one.
Ctrl-C ends after the step and saves.")]
    Train(Box<TrainOptions>),
    /// Turn text into token files, for `brigade train FOLDER`
    #[command(after_help = "\
Examples:
  brigade tokenize book.txt --tokenizer tokenizer.json --out tokens
  brigade train tokens

The folder has train.bin, val.bin (the last tenth), tokens.json and a copy of the tokenizer.json.
Tokens are u16 where the vocabulary allows it, else u32. It is there whole or not at all.")]
    Tokenize(tokenize::TokenizeOptions),
    /// Say who would do what, how long it would take and what it would hold; trains nothing
    #[command(after_help = "\
Examples:
  brigade plan book.txt --layers 12 --width 512 --nodes 4
  brigade plan --config run.toml --node-memory 512MiB --json
  brigade plan book.txt --nodes 2 --profile profile.json

It measures each distinct layer for a moment, unless --profile says what they take.")]
    Plan(Box<PlanOptions>),
    /// Measure what every layer and the links take on this machine; trains nothing
    #[command(after_help = "\
Examples:
  brigade profile book.txt --layers 12 --width 512 --nodes 4
  brigade profile book.txt --micro-batch-sizes 1,2,4 --out profile.json
  brigade plan book.txt --profile profile.json --micro-batch-size 4

As many layers are at work at once as there are nodes, with caches as the rest of a node leaves
them. A profile is of one network, one precision and one number of threads a node.")]
    Profile(Box<ProfileOptions>),
    /// Text from a trained run
    #[command(after_help = "\
Examples:
  brigade generate
  brigade generate runs/3 --prompt 'ROMEO:' --tokens 500 --temperature 0.8
  brigade generate --top-p 0.9 --stop '.' --json")]
    Generate(generate::GenerateOptions),
    /// A model of Hugging Face as a run folder
    #[command(after_help = "\
Examples:
  brigade import gpt2
  brigade import llama --out runs/llama --json

FOLDER has config.json (GPT-2 or Llama) and model.safetensors, or several files with
model.safetensors.index.json; files of tokenizers are carried along. Without importing it first,
`brigade train --from FOLDER` reads it, too.")]
    Import(import::ImportOptions),
    /// A run as a folder that Hugging Face's transformers reads
    #[command(after_help = "\
Examples:
  brigade export --out tuned
  brigade export runs/3 --out tuned --dtype bf16 --shard-size 2GB

The folder has config.json and model.safetensors, or several files with
model.safetensors.index.json, and the files of tokenizers that the run has.")]
    Export(export::ExportOptions),
    /// Schedules drawn, proven, simulated, exchanged with PyTorch and compared
    #[command(subcommand_required = true)]
    Schedule {
        #[command(subcommand)]
        command: schedule::ScheduleCommand,
    },
    /// Checkpoints of a run listed, shown, verified and removed
    #[command(subcommand_required = true)]
    Checkpoint {
        #[command(subcommand)]
        command: checkpoint::CheckpointCommand,
    },
    /// Print a configuration file: all options with what they mean and their values
    #[command(after_help = "\
Examples:
  brigade config > run.toml
  brigade config --layers 12 --width 512 > run.toml")]
    Config(Box<RunOptions>),
    /// Print completions for a shell
    #[command(after_help = "\
Examples:
  brigade completions bash > ~/.local/share/bash-completion/completions/brigade
  brigade completions zsh > ~/.zfunc/_brigade")]
    Completions {
        /// For which shell.
        shell: clap_complete::Shell,
    },
}

impl Command {
    /// The options of a run, where it has any.
    fn run_options(&mut self) -> Option<&mut RunOptions> {
        match self {
            Self::Train(options) => Some(&mut options.run),
            Self::Plan(options) => Some(&mut options.run),
            Self::Profile(options) => Some(&mut options.run),
            Self::Config(options) => Some(options),
            _ => None,
        }
    }
}

/// Runs the program with these arguments (the first is its name). Exit code 2 for wrong usage, 1
/// for other errors.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    silence_panics();
    let arguments = arguments.into_iter().collect();
    let done = catch_unwind(AssertUnwindSafe(|| parse(arguments).and_then(obey)));
    let failure = match done {
        Ok(Ok(())) | Ok(Err(Failure::Closed)) => None,
        Ok(Err(failure)) => Some(failure),
        Err(panic) => {
            let text = crate::error::panic_text(panic.as_ref());
            let text = format!("a bug in brigade: {text}; please report it");
            Some(Failure::Other(text))
        }
    };
    // Where errors cannot be printed, the exit code has to do. Each is written at once, so that
    // nothing of other processes comes in between.
    for text in ending::texts(failure.as_ref()) {
        let text = format!("error: {}\n", output::printable(&text));
        let _ = io::stderr().write_all(text.as_bytes());
    }
    failure.map_or(ExitCode::SUCCESS, |failure| {
        ExitCode::from(failure.exit_code())
    })
}

/// A panic on a node becomes an error with its place in the plan, any other one a line that says
/// that this is a bug: the text that Rust prints would only be noise.
fn silence_panics() {
    std::panic::set_hook(Box::new(|_| {}));
}

fn obey((cli, matches): (Cli, ArgMatches)) -> Result<(), Failure> {
    logging::start(cli.verbose);
    let (mut stdout, mut nowhere) = (io::stdout().lock(), io::sink());
    let to: &mut dyn Write = if process::is_first() {
        &mut stdout
    } else {
        &mut nowhere
    };
    // The options of a run as a file: what `config` prints and a run folder keeps.
    let settings = |decided: &Decided| {
        let command = Cli::command();
        let (name, own) = matches.subcommand()?;
        let command = command.find_subcommand(name)?;
        Some(config_file::text(command, own, decided))
    };
    let deadline = match &cli.command {
        Command::Train(options) => Some(options.run.checked_config()?.deadline()),
        Command::Plan(options) => Some(options.run.checked_config()?.deadline()),
        Command::Profile(options) => Some(options.run.checked_config()?.deadline()),
        Command::Generate(_) => Some(crate::Config::default().deadline()),
        _ => None,
    };
    if let Some(deadline) = deadline {
        let name = matches.subcommand_name().unwrap_or_default();
        let options = settings(&Decided::new()).unwrap_or_default();
        alike::options(&format!("brigade {name}\n{options}"), deadline)?;
    }
    match &cli.command {
        Command::Train(options) => {
            let settings = |decided: &Decided| settings(decided).unwrap_or_default();
            train::train(options, &settings, to)
        }
        Command::Tokenize(options) => tokenize::tokenize(options, to),
        Command::Plan(options) => plan::plan(options, to),
        Command::Profile(options) => profile::profile(options, to),
        Command::Generate(options) => generate::generate(options, to),
        Command::Import(options) => import::import(options, to),
        Command::Export(options) => export::export(options, to),
        Command::Schedule { command } => schedule::schedule(command, to),
        Command::Checkpoint { command } => checkpoint::checkpoint(command, to),
        Command::Config(options) => {
            checked(options)?;
            let decided = options.network.left_to_its_origin();
            output::print(to, settings(&decided).unwrap_or_default().trim_end())
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "brigade", &mut script);
            output::print(to, String::from_utf8_lossy(&script).trim_end())
        }
    }
}

/// Whether all that is asked for can be had.
fn checked(options: &RunOptions) -> Result<(), Failure> {
    options.checked_config()?;
    options.optimizer()?;
    // Of which tokens is not known yet.
    let vocab = options.tokens.vocab.unwrap_or(1);
    options.tuned(&options.network.decoder(vocab)?)?;
    Ok(())
}

/// What one of the commands that take a configuration file makes of one with this text, and the
/// file that it is then: for the fuzz target `config`.
///
/// # Errors
/// The line that the program would end with.
#[doc(hidden)]
pub fn configuration(command: &str, text: &str) -> Result<String, String> {
    let read = || -> Result<String, Failure> {
        let all = Cli::command();
        let missing = || Failure::Usage(format!("there is no command {command}"));
        let own = all.find_subcommand(command).ok_or_else(missing)?;
        let file = (std::path::Path::new("config.toml"), text);
        let more = config_file::arguments_of(file, own, None)?;
        let name = ["brigade", command].map(OsString::from);
        let matches = matches(&name.into_iter().chain(more).collect::<Vec<_>>())?;
        let cli = Cli::from_arg_matches(&matches).map_err(usage)?;
        match &cli.command {
            Command::Train(options) => checked(&options.run),
            Command::Plan(options) => checked(&options.run),
            Command::Profile(options) => checked(&options.run),
            Command::Config(options) => checked(options),
            _ => Err(missing()),
        }?;
        let own_matches = matches.subcommand_matches(command).ok_or_else(missing)?;
        Ok(config_file::text(own, own_matches, &Decided::new()))
    };
    read().map_err(|failure| failure.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_fit_together() {
        Cli::command().debug_assert();
    }
}
