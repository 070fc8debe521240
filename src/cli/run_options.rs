//! The options of `brigade train` where nobody gives them: those of a run folder, and those that
//! they have by themselves.

use super::command_line::{matches, usage};
use super::config_file::{self, Decided};
use super::failure::Failure;
use super::options::RunOptions;
use super::{Cli, Command};
use crate::files::read_found_text;
use clap::{CommandFactory, Parser};
use std::ffi::OsString;
use std::path::Path;

/// The options of a finished run, from its folder.
pub(super) fn options_of_run(file: &Path) -> Result<RunOptions, Failure> {
    let command = Cli::command();
    let command = command.find_subcommand("train").expect("it is above");
    let mut arguments: Vec<OsString> = vec!["brigade".into(), "train".into()];
    let text = read_found_text(file, config_file::MOST_BYTES);
    let text = text.map_err(|error| Failure::file("read", file, &error))?;
    arguments.extend(config_file::arguments_of((file, &text), command, None)?);
    match Cli::try_parse_from(arguments).map_err(usage)?.command {
        Command::Train(options) => Ok(options.run),
        _ => Err(Failure::Other("a run folder is of `brigade train`".into())),
    }
}

/// The options of a run that are not given.
pub(super) fn default_options() -> Result<RunOptions, Failure> {
    match Cli::try_parse_from(["brigade", "train"])
        .map_err(usage)?
        .command
    {
        Command::Train(options) => Ok(options.run),
        _ => Err(Failure::Other(
            "`brigade train` has options of a run".into(),
        )),
    }
}

/// The options of a run as a file, where only these were decided.
pub(super) fn settings_of_train(decided: &Decided) -> Result<String, Failure> {
    let matches = matches(&["brigade", "train"].map(OsString::from))?;
    let (name, own) = matches.subcommand().expect("it was just given");
    let command = Cli::command();
    let command = command.find_subcommand(name).expect("it was just matched");
    Ok(config_file::text(command, own, decided))
}
