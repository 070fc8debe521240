//! Promise: nothing lost, over MPI as between threads: a job of which a rank is killed at any moment
//! ends, leaves whole checkpoints only, and goes on with any number of ranks.
//!
//! Needs an MPI library, as `tests/mpi.rs` says. `BRIGADE_KILLS=300` kills more often.
#![allow(missing_docs, clippy::unwrap_used)]

mod jobs;
mod program;

use jobs::{find_pid, mpirun};
use program::killing::{RUN, kill_again_and_again, kills, sha};
use program::{brigade, folder_with_text};
use std::process::Command;
use std::time::Duration;

/// Ranks and nodes that starts take in turn.
const JOBS: [(usize, &str); 4] = [
    (3, "--nodes 3"),
    (2, "--nodes 4 --schedule zb-h1"),
    (4, "--nodes 4 --schedule gpipe"),
    (1, "--nodes 2"),
];

#[test]
fn a_job_with_a_killed_rank_goes_on_as_if_nothing_had_been() {
    let folder = folder_with_text();
    let whole = brigade(folder.path(), &format!("train {RUN} --nodes 1 --out whole"));
    let wanted = sha(&whole);
    let start = |number: usize, arguments: &str| {
        let (ranks, more) = JOBS[number % JOBS.len()];
        let arguments = format!("{arguments} {more}");
        mpirun(folder.path(), ranks, &[], &arguments)
            .spawn()
            .unwrap()
    };
    let within = (kills(8), Duration::from_millis(2500));
    let found = kill_again_and_again(folder.path(), within, &wanted, start, |number, child| {
        // The start before this number; any of its ranks, the first one now and then.
        let (ranks, _) = JOBS[(number - 1) % JOBS.len()];
        match find_pid(folder.path(), number % ranks) {
            Some(pid) => {
                // It may have ended by itself meanwhile.
                let _ = Command::new("kill")
                    .args(["-KILL", &pid.to_string()])
                    .status();
            }
            // Not yet started, or gone: the launcher is killed with all that it has started.
            None => child.kill().unwrap(),
        }
    });
    assert!(found.ended > 0 && found.resumed > 0, "{found:?}");
}
