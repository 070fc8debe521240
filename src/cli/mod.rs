//! The program: one file per subcommand, nothing that a user of the library would need.

use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

mod failure;
mod options;
mod output;
mod run_folder;
mod text;
mod train;

use failure::Failure;

/// Pipeline-parallel training: one program, the same numbers bit for bit however many nodes it runs
/// on.
#[derive(Debug, Parser)]
#[command(name = "brigade", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Train(Box<options::TrainOptions>),
}

/// Runs the program with these arguments (the first is its name). Exit code 2 for wrong usage, 1
/// for other errors.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors; a closed pipe is nobody's.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    quiet_nodes();
    let done = match cli.command {
        Command::Train(options) => train::train(&options, &mut io::stdout().lock()),
    };
    match done {
        Ok(()) | Err(Failure::Closed) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

/// A panic on a node is caught and reported as an error with its place in the plan: its own text
/// would only be noise.
fn quiet_nodes() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let on_node = std::thread::current()
            .name()
            .is_some_and(|name| name.starts_with("brigade-node"));
        if !on_node {
            usual(info);
        }
    }));
}
