//! Promise: nothing lost. A run that is killed at any moment, also while it saves, leaves whole
//! checkpoints only, goes on from the last one on any number of nodes, and ends with the weights of
//! a run that was never interrupted.
//!
//! `BRIGADE_KILLS=300 cargo test --test survival` kills more often.
#![cfg(all(feature = "cli", unix))]
#![allow(missing_docs, clippy::unwrap_used)]

mod program;

use program::killing::{kill_again_and_again, kills};
use program::{command, folder_with_text};

/// Nodes and schedules that starts take in turn.
const PIPELINES: [&str; 5] = [
    "--nodes 4",
    "--nodes 1 --schedule gpipe",
    "--nodes 2 --schedule zb-v",
    "--nodes 3 --schedule zb-h1 --save-memory 0",
    "--nodes 2 --schedule interleaved-1f1b --threads-per-node 2",
];

#[test]
fn a_killed_run_goes_on_as_if_nothing_had_been() {
    let folder = folder_with_text();
    let start = |number: usize, arguments: &str| {
        let arguments = format!("{arguments} {}", PIPELINES[number % PIPELINES.len()]);
        command(folder.path(), &arguments).spawn().unwrap()
    };
    let found = kill_again_and_again(folder.path(), kills(30), start, |_, child| {
        child.kill().unwrap();
    });
    assert!(found.ended > 0 && found.resumed > 0, "{found:?}");
}
