//! Promise: over MPI never stuck: a rank that is killed or stopped ends the job with a reason; one
//! that is merely slow does not.
//!
//! Needs an MPI library, as `tests/mpi.rs` says.
#![allow(missing_docs, clippy::unwrap_used)]

mod jobs;
mod program;

use jobs::{assert_gone, disturbed, errors, run, signal};
use program::{folder_with_text, lines};

#[test]
fn a_rank_that_is_killed_ends_the_job() {
    for rank in [0, 2] {
        let folder = folder_with_text();
        let kill = |pid| signal(pid, "-KILL");
        let (output, seconds) = disturbed(folder.path(), "", kill, rank);
        assert!(!output.status.success());
        assert!(seconds < 10.0, "{seconds}");
        assert_gone(folder.path());
    }
}

#[test]
fn a_rank_that_is_stopped_is_reported() {
    for rank in [0, 1] {
        let folder = folder_with_text();
        let stop = |pid| signal(pid, "-STOP");
        let (output, seconds) = disturbed(folder.path(), "--deadline 2", stop, rank);
        assert!(!output.status.success());
        assert!(seconds < 15.0, "{seconds}");
        let errors = errors(&output);
        let named = format!("from node {rank}; ");
        let wanted = |error: &String| error.contains(&named) && error.contains("silent for");
        assert!(errors.iter().any(wanted), "{errors:?}");
        assert_gone(folder.path());
    }
}

/// A polite request reaches one rank, and all stop after the same step and save.
#[test]
fn all_ranks_stop_together() {
    let folder = folder_with_text();
    let ask = |pid| signal(pid, "-INT");
    let (output, _) = disturbed(folder.path(), "", ask, 1);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(folder.path().join("run/weights.safetensors").exists());
}

/// An action far longer than the deadline, in a process that lives.
#[test]
fn slow_is_not_stuck() {
    let folder = folder_with_text();
    let slow = "train --synthetic-vocab 512 --layers 2 --width 512 --heads 8 --context 256 \
                --batch-size 16 --micro-batch-size 16 --nodes 2 --steps 2 --json --deadline 0.2";
    let output = run(folder.path(), 2, slow);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let slowest = lines(&output)[0]["step_ms"].as_f64().unwrap();
    assert!(
        slowest > 400.0,
        "a step is to take longer than the deadline: {slowest} ms"
    );
}
