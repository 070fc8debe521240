//! Why the program ends without success, in one line.

use crate::{Error, PlanError};
use brigade_layer::LayerError;
use std::io;
use std::path::Path;

/// Why the program ends without success.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Wrong usage: what to change on the command line.
    #[error("{0}")]
    Usage(String),
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
            Self::Other(_) => 1,
            Self::Closed => 0,
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
                setting.replace('_', "-")
            )),
            Error::Plan(PlanError::BadCuts { .. } | PlanError::TooManyStages { .. }) => {
                Self::Usage(error.to_string())
            }
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
