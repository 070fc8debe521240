//! Why the program ends without success, in one line.

use crate::{Error, PlanError, RunError, Standings};
use brigade_layer::LayerError;
use brigade_nn::DataError;
use std::io;
use std::path::Path;

/// Why the program ends without success.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Wrong usage: what to change on the command line or in the configuration file.
    #[error("{0}")]
    Usage(String),
    /// A node failed, for a reason that may not be there the next time. Where nothing moved any
    /// more, or somebody was lost, it is known where every node stood.
    #[error("{0}")]
    Node(Box<RunError>),
    /// Anything else.
    #[error("{0}")]
    Other(String),
    /// Whoever read the output has gone: nothing is wrong.
    #[error("the output was closed")]
    Closed,
}

impl Failure {
    /// 2 for wrong usage, 1 for the rest.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Node(_) | Self::Other(_) => 1,
            Self::Closed => 0,
        }
    }

    /// Where every node stood, if it matters.
    pub(super) fn standings(&self) -> Option<&Standings> {
        match self {
            Self::Node(error) => Some(&*error.root().standings).filter(|all| !all.is_empty()),
            _ => None,
        }
    }

    /// A file or folder that cannot be read or written.
    pub(super) fn file(verb: &str, path: &Path, error: &io::Error) -> Self {
        Self::Other(format!("cannot {verb} {}: {error}", path.display()))
    }

    /// What could not be printed.
    pub(super) fn printing(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Other(format!("cannot print: {error}")),
        }
    }
}

/// What the argument parser has to say, without the usage below it.
pub(super) fn in_one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines = lines.take_while(|line| {
        !line.starts_with("Usage:") && !line.starts_with("For more information")
    });
    let lines: Vec<_> = lines
        .map(|line| {
            let line = line.strip_prefix("error: ").unwrap_or(line);
            line.strip_prefix("tip: ").unwrap_or(line)
        })
        .collect();
    lines.join("; ").replace(":; ", ": ")
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            // Settings have the names of options, with dashes.
            Error::Plan(PlanError::Setting {
                setting,
                value,
                allowed,
            }) => Self::Usage(format!(
                "--{} is {value}; it must be {allowed}",
                setting.trim_end_matches("_s").replace('_', "-")
            )),
            Error::Plan(
                PlanError::BadCuts { .. }
                | PlanError::TooManyStages { .. }
                | PlanError::Illegal { .. }
                | PlanError::Layout { .. },
            ) => Self::Usage(error.to_string()),
            // Numbers that are not finite come out the same again.
            Error::Run(error) if !error.root().cause.is_of_numbers() => Self::Node(error),
            other => Self::Other(other.to_string()),
        }
    }
}

impl From<PlanError> for Failure {
    fn from(error: PlanError) -> Self {
        Error::from(error).into()
    }
}

impl From<LayerError> for Failure {
    fn from(error: LayerError) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<DataError> for Failure {
    fn from(error: DataError) -> Self {
        let option = match &error {
            DataError::Length { bytes, .. } if bytes % 2 == 0 => " (--token-type)",
            DataError::Vocabulary { .. } => " (--vocab, --token-type)",
            _ => "",
        };
        Self::Other(format!("{error}{option}"))
    }
}
