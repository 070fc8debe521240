//! The command line, and what it takes from configuration files and runs that go on.

use super::failure::{Failure, in_one_line};
use super::options::TokenOptions;
use super::origin::Origin;
use super::{Cli, config_file, run_folder};
use clap::error::ErrorKind;
use clap::{ArgMatches, CommandFactory, FromArgMatches};
use std::ffi::OsString;
use std::path::PathBuf;

/// The command line, with the options of a configuration file where it names one.
pub(super) fn parse(mut arguments: Vec<OsString>) -> Result<(Cli, ArgMatches), Failure> {
    let mut matches = matches(&arguments)?;
    let mut kept = false;
    if let Some((_, own)) = matches.subcommand() {
        keeps_its_tokenizer(own)?;
    }
    if let Some((name, own)) = matches.subcommand()
        && let Some(file) = config_of(own)?
    {
        kept = keeps_its_network(own)?;
        let command = Cli::command();
        let command = command.find_subcommand(name).expect("it was just matched");
        let more = config_file::arguments(&file, command, Some(own))?;
        let at = arguments.iter().position(|argument| argument == name);
        let at = at.map_or(arguments.len(), |at| at + 1);
        arguments.splice(at..at, more);
        matches = self::matches(&arguments)?;
    }
    let mut cli = Cli::from_arg_matches(&matches).map_err(usage)?;
    if let Some(run) = cli.command.run_options() {
        if !kept {
            run.network.settle()?;
        }
        run.tokens.settle(run.network.from.as_deref());
    }
    Ok((cli, matches))
}

/// A run that goes on is given no other tokenizer than its own.
fn keeps_its_tokenizer(own: &ArgMatches) -> Result<(), Failure> {
    let named = |name| own.try_get_one::<PathBuf>(name).ok().flatten();
    let (Some(from), Some(given)) = (named("resume"), named("tokenizer")) else {
        return Ok(());
    };
    match Origin::of(from)?.run {
        Some(run) => TokenOptions::same(given, &run),
        None => Ok(()),
    }
}

/// The configuration file that is named, or that of the run that goes on.
fn config_of(own: &ArgMatches) -> Result<Option<PathBuf>, Failure> {
    let named = |name| own.try_get_one::<PathBuf>(name).ok().flatten();
    match (named("config"), named("resume")) {
        (Some(file), _) => Ok(Some(file.clone())),
        (None, Some(from)) => {
            let run = Origin::of(from)?.run;
            Ok(run.map(|run| run.join(run_folder::CONFIG)))
        }
        (None, None) => Ok(None),
    }
}

/// Whether it is a run that goes on with the network in its folder: what it was begun with may be
/// gone.
fn keeps_its_network(own: &ArgMatches) -> Result<bool, Failure> {
    let given = |name| own.try_get_one::<PathBuf>(name).ok().flatten();
    let (Some(resume), None) = (given("resume"), given("from")) else {
        return Ok(false);
    };
    let run = Origin::of(resume)?.run;
    Ok(run.is_some_and(|run| run.join(run_folder::NETWORK).exists()))
}

pub(super) fn matches(arguments: &[OsString]) -> Result<ArgMatches, Failure> {
    Cli::command()
        .try_get_matches_from(arguments)
        .map_err(usage)
}

pub(super) fn usage(error: clap::Error) -> Failure {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => match error.print() {
            Ok(()) => Failure::Closed,
            Err(error) => Failure::printing(&error),
        },
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            Failure::Usage("a subcommand is missing; start with brigade train .".into())
        }
        _ => Failure::Usage(in_one_line(&error)),
    }
}
