//! Promise: nothing lost, over MPI as between threads: a job of which a rank is killed at any
//! moment ends, leaves whole checkpoints only, and goes on with any number of ranks.
//!
//! Needs an MPI library, as `tests/mpi.rs` says. `BRIGADE_KILLS=300` kills more often.
#![allow(missing_docs, clippy::unwrap_used)]

mod jobs;
mod program;

use jobs::{find_pid, is_open_mpi, mpirun};
use program::killing::{RUN, kill_again_and_again, kills, sha};
use program::{brigade, folder_with_text};
use std::fs;
use std::path::Path;
use std::process::Command;

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
    let start = |number: usize, arguments: &str| {
        let (ranks, more) = JOBS[number % JOBS.len()];
        let arguments = format!("{arguments} {more}");
        mpirun(folder.path(), ranks, &[], &arguments)
            .spawn()
            .unwrap()
    };
    let found = kill_again_and_again(folder.path(), kills(8), start, |number, child| {
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

/// The documented wrapper: one machine does not answer, a rank fails again and again, and the job
/// ends with the weights of a run in one go.
#[test]
fn the_wrapper_starts_again_with_what_is_left() {
    if !is_open_mpi() {
        return;
    }
    let folder = folder_with_text();
    let whole = brigade(folder.path(), &format!("train {RUN} --nodes 1 --out whole"));
    let hosts = "localhost\n127.0.0.1\nnowhere.invalid\n";
    fs::write(folder.path().join("hosts"), hosts).unwrap();
    let wrapper = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/launch/again");
    let output = Command::new("timeout")
        .args(["-k", "5", "200"])
        .arg(wrapper)
        .args(["hosts", "9", "run"])
        .args(RUN.split_whitespace())
        .current_dir(folder.path())
        .env("BRIGADE", env!("CARGO_BIN_EXE_brigade"))
        .env("MPIRUN", "mpirun --oversubscribe --bind-to none")
        .env("WAIT", "20")
        .env("BRIGADE_DRILL", "1:250")
        .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
        .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("again: nowhere.invalid does not answer"),
        "{said}"
    );
    assert!(
        said.contains("again: attempt 0 ended with 1 on 2 machines"),
        "{said}"
    );
    let text = String::from_utf8_lossy(&output.stdout);
    let summary = text
        .lines()
        .rfind(|line| line.contains("weights_sha256"))
        .unwrap();
    assert!(summary.contains(&sha(&whole)), "{summary}");
}
