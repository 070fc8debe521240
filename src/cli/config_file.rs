//! Options in a TOML file: every option of `brigade train` by its long name.

use super::failure::{Failure, in_one_line};
use super::options::NETWORK;
use crate::files::read_text;
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, ValueHint};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write;
use std::path::Path;
use toml::Value;

/// Values that options have in the end, by name; none where they are left out.
pub(super) type Decided = BTreeMap<&'static str, Option<String>>;

/// More than any configuration has.
pub(super) const MOST_BYTES: u64 = 1 << 20;
/// Two words that are at least so much alike are taken for a slip.
const ALIKE: f64 = 0.7;

/// What a file says, as arguments for `command`; what was already given on the command line is left
/// out.
pub(super) fn arguments(
    path: &Path,
    command: &Command,
    given: Option<&ArgMatches>,
) -> Result<Vec<OsString>, Failure> {
    let text = read_text(path, MOST_BYTES).map_err(|error| Failure::file("read", path, &error))?;
    arguments_of((path, &text), command, given)
}

/// As [`arguments`], of the text of a file.
pub(super) fn arguments_of(
    (path, text): (&Path, &str),
    command: &Command,
    given: Option<&ArgMatches>,
) -> Result<Vec<OsString>, Failure> {
    let table = table(path, text)?;
    // Another pipeline has other cuts, and stages a node as its schedule wants them.
    let is_given = |name: &str| {
        given.is_some_and(|given| match given.try_contains_id(name) {
            Ok(true) => given.value_source(name) == Some(ValueSource::CommandLine),
            _ => false,
        })
    };
    let other = is_given("resume") && ["nodes", "schedule", "plan"].iter().any(|it| is_given(it));
    let mut all = vec![OsString::from(command.get_name())];
    let mut wanted = Vec::new();
    for (key, value) in &table {
        let name = key.replace('_', "-");
        let Some(option) = options(command).find(|option| name_of(option) == name) else {
            return Err(unknown(path, key, command));
        };
        // The folder of a run is no file for a profile.
        if name == "out" && command.get_name() == "profile" {
            continue;
        }
        // The network is that of the folder.
        if is_given("from") && NETWORK.contains(&name.as_str()) {
            continue;
        }
        if other && of_pipeline(&name, is_given("plan")) {
            continue;
        }
        let texts = texts_of(option, value).ok_or_else(|| {
            let problem = format!("{name} is a {}; give one value", value.type_str());
            Failure::Usage(format!("{}: {problem}", path.display()))
        })?;
        for text in texts {
            let argument = match option.get_long() {
                Some(long) => format!("--{long}={text}").into(),
                None => OsString::from(text),
            };
            all.push(argument.clone());
            if !is_given(option.get_id().as_str()) {
                wanted.push(argument);
            }
        }
    }
    // By itself first, so that what is wrong is said of the file.
    (command.clone().try_get_matches_from(all))
        .map_err(|error| Failure::Usage(format!("{}: {}", path.display(), in_one_line(&error))))?;
    Ok(wanted)
}

/// Options that do not go with another number of nodes or schedule, or with another plan.
fn of_pipeline(name: &str, plan: bool) -> bool {
    let planned = [
        "nodes",
        "schedule",
        "batch-size",
        "micro-batch-size",
        "precision",
        "wire",
    ];
    matches!(name, "cuts" | "chunks") || plan && (planned.contains(&name) || name == "recompute")
}

fn table(path: &Path, text: &str) -> Result<toml::Table, Failure> {
    text.parse().map_err(|error: toml::de::Error| {
        let start = error.span().map_or(0, |span| span.start.min(text.len()));
        let line = 1 + text.as_bytes()[..start]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count();
        let problem = error.message().trim_end().replace('\n', ", ");
        Failure::Usage(format!("{}, line {line}: {problem}", path.display()))
    })
}

fn unknown(path: &Path, key: &str, command: &Command) -> Failure {
    let alike = |option: &Arg| (strsim::jaro(key, &name_of(option)), name_of(option));
    let best = options(command)
        .map(alike)
        .max_by(|one, other| one.0.total_cmp(&other.0));
    let tip = match best {
        Some((alike, name)) if alike >= ALIKE => format!("did you mean {name}?"),
        _ => "`brigade config` prints all of them".to_owned(),
    };
    let (path, key) = (path.display(), key.escape_debug());
    Failure::Usage(format!("{path}: there is no option {key}; {tip}"))
}

/// A list for an option that may be repeated is one value for each time.
fn texts_of(option: &Arg, value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Array(list) if repeats(option) => list.iter().map(text_of).collect(),
        value => Some(vec![text_of(value)?]),
    }
}

fn repeats(option: &Arg) -> bool {
    matches!(option.get_action(), ArgAction::Append)
}

/// Lists are as on the command line, with commas.
fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => Some(value.to_string()),
        Value::Array(list) => {
            let items: Option<Vec<_>> = list.iter().map(text_of).collect();
            Some(items?.join(","))
        }
        Value::Datetime(_) | Value::Table(_) => None,
    }
}

/// The options that a file can have.
fn options(command: &Command) -> impl Iterator<Item = &Arg> {
    let outside = ["config", "resume", "help", "version", "verbose"];
    command
        .get_arguments()
        .filter(move |option| !outside.contains(&option.get_id().as_str()))
}

fn name_of(option: &Arg) -> String {
    (option.get_long()).map_or_else(|| option.get_id().to_string(), str::to_owned)
}

/// All options with their values, as a file that [`arguments`] reads; options without a value are
/// there as comments. What was decided otherwise counts more than what was given.
pub(super) fn text(command: &Command, matches: &ArgMatches, decided: &Decided) -> String {
    let mut text = String::new();
    let mut heading = None;
    for option in options(command) {
        if option.get_help_heading() != heading {
            heading = option.get_help_heading();
            let _ = writeln!(text, "\n## {}\n", heading.unwrap_or_default());
        }
        let name = name_of(option);
        let mut help = option
            .get_help()
            .map(ToString::to_string)
            .unwrap_or_default();
        let values = option.get_possible_values();
        let values: Vec<_> = values.iter().map(|value| value.get_name()).collect();
        if !values.is_empty() && values != ["true", "false"] {
            help += &format!(": {}", values.join(", "));
        }
        for line in help.lines() {
            let _ = writeln!(text, "# {line}");
        }
        let raw = matches.get_raw(option.get_id().as_str());
        let given: Vec<_> = raw.into_iter().flatten().collect();
        let given = given
            .into_iter()
            .map(|raw| raw.to_string_lossy().into_owned());
        let values = match decided.get(name.as_str()) {
            Some(decided) => decided.iter().cloned().collect(),
            None => given.collect::<Vec<_>>(),
        };
        let literals: Vec<_> = values.iter().map(|value| literal(option, value)).collect();
        let _ = match literals.first() {
            Some(_) if repeats(option) => writeln!(text, "{name} = [{}]", literals.join(", ")),
            Some(value) => writeln!(text, "{name} = {value}"),
            None => writeln!(text, "# {name} ="),
        };
    }
    text.trim_start().to_owned()
}

/// A value as TOML has it: numbers and truth values bare, the rest as a string.
fn literal(option: &Arg, text: &str) -> String {
    let path = option.get_value_hint() != ValueHint::Unknown;
    let bare = format!("value = {text}").parse::<toml::Table>();
    match bare.as_ref().map(|table| &table["value"]) {
        Ok(value @ (Value::Integer(_) | Value::Float(_) | Value::Boolean(_))) if !path => {
            value.to_string()
        }
        _ => Value::String(text.to_owned()).to_string(),
    }
}
