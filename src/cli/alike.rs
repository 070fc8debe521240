//! Several processes run the same command, with the same options, on the same data: compared before
//! anything is built, refused with what differs.

use super::failure::Failure;
use crate::process::{Processes, count};
use std::time::Duration;

/// Subcommand and options, one a line.
pub(super) fn options(text: &str, deadline: Duration) -> Result<(), Failure> {
    compare("options", text, deadline, |first, other| {
        let said = |text: &str| {
            let lines = text.lines().map(str::trim);
            let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        let (first, other) = (said(first), said(other));
        let own = other.iter().find(|line| !first.contains(line));
        let instead = first.iter().find(|line| !other.contains(line));
        let or_none = |line: Option<&String>| line.map_or("nothing".to_owned(), Clone::clone);
        let (own, instead) = (or_none(own), or_none(instead));
        format!("was started with {own} where rank 0 was with {instead}; start all alike")
    })
}

/// What was read to train on, or its digest.
pub(super) fn data(text: &str, deadline: Duration) -> Result<(), Failure> {
    compare("data", text, deadline, |first, other| {
        format!("reads other data: {other} where rank 0 has {first}; give all the same files")
    })
}

/// What tokens are, and those that a text begins with.
pub(super) fn tokens(text: &str, deadline: Duration) -> Result<(), Failure> {
    compare("tokens", text, deadline, |first, other| {
        format!("has other tokens: {other} where rank 0 has {first}; give all the same files")
    })
}

fn compare(
    what: &'static str,
    mine: &str,
    deadline: Duration,
    difference: impl Fn(&str, &str) -> String,
) -> Result<(), Failure> {
    if count() == 1 {
        return Ok(());
    }
    // All programs begin with this.
    let meeting = deadline.saturating_mul(2);
    let all = Processes::meet(meeting)?.share(what, mine.to_owned(), deadline);
    let all = all.map_err(|cause| Failure::Other(cause.to_string()))?;
    match all.iter().position(|other| *other != all[0]) {
        None => Ok(()),
        Some(rank) => Err(Failure::Other(format!(
            "rank {rank} {}",
            difference(&all[0], &all[rank])
        ))),
    }
}
