//! Promise: over MPI never stuck: a rank that is killed or stopped ends the job with a reason; one
//! that is merely slow does not.
//!
//! Needs an MPI library, as `tests/mpi.rs` says.
#![allow(missing_docs, clippy::unwrap_used)]

mod jobs;
mod program;

use jobs::{
    TIED, assert_gone, disturbed, disturbed_writing, errors, is_open_mpi, mpirun, pid, run, signal,
};
use program::{folder_with_text, lines};
use std::fs;
use std::time::{Duration, Instant};

#[test]
fn a_rank_that_is_killed_ends_the_job() {
    for rank in [0, 2] {
        let folder = folder_with_text();
        let kill = |pid| signal(pid, "-KILL");
        let (output, seconds) = disturbed(folder.path(), "", kill, rank);
        assert!(!output.status.success());
        assert!(seconds < 10.0, "{seconds}");
        if is_open_mpi() {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(said.contains(&format!("process rank {rank}")), "{said}");
        }
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
        // Missed inside a step, where a message of its node is waited for, or between two, where
        // the process itself is.
        let in_step = format!("from node {rank}; ");
        let between = format!("rank {rank} is silent for");
        let inside = |error: &String| error.contains(&in_step) && error.contains("silent for");
        let wanted = |error: &String| inside(error) || error.contains(&between);
        assert!(errors.iter().any(wanted), "{errors:?}");
        // One of the others says where every node stood, below its error.
        let text = String::from_utf8_lossy(&output.stderr);
        for node in 0..3 {
            let name = format!("node {node}, rank {node}  ");
            let lines: Vec<_> = text
                .lines()
                .filter(|line| line.starts_with(&name))
                .collect();
            let silent = lines.iter().any(|line| line.contains("  is silent  "));
            assert_eq!((lines.len(), silent), (1, node == rank), "{text}");
        }
        let why = format!("node {rank} is silent for ");
        let said = |line: &str| !line.starts_with("error: ") && line.contains(&why);
        assert_eq!(text.lines().filter(|line| said(line)).count(), 1, "{text}");
        assert_gone(folder.path());
    }
}

/// The same while the ranks generate, where they meet for every token.
#[test]
fn a_rank_that_is_lost_ends_a_text() {
    for (name, rank) in [("-KILL", 0), ("-KILL", 2), ("-STOP", 1)] {
        let folder = folder_with_text();
        let trained = run(
            folder.path(),
            3,
            &format!("{TIED} --nodes 3 --deadline 2 --out run"),
        );
        assert!(trained.status.success(), "{trained:?}");
        let (output, seconds) = disturbed_writing(folder.path(), |pid| signal(pid, name), rank);
        assert!(!output.status.success());
        assert!(seconds < 15.0, "{seconds}");
        let errors = errors(&output);
        let named = [format!("node {rank}"), format!("rank {rank}")];
        let wanted = |error: &String| named.iter().any(|name| error.contains(name));
        assert!(name == "-KILL" || errors.iter().any(wanted), "{errors:?}");
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

/// A batch system may stop a whole job and let it go on later: nobody was silent then.
#[test]
fn a_job_that_was_stopped_as_a_whole_goes_on() {
    let folder = folder_with_text();
    let (folder, losses) = (folder.path(), folder.path().join("run/losses.csv"));
    let steps = || fs::read_to_string(&losses).map_or(0, |text| text.lines().count());
    let stop_for_a_while = |_| {
        let pids = [0, 1, 2].map(|rank| pid(folder, rank));
        pids.iter().for_each(|pid| signal(*pid, "-STOP"));
        std::thread::sleep(Duration::from_secs(5));
        let before = steps();
        pids.iter().for_each(|pid| signal(*pid, "-CONT"));
        let resumed = Instant::now();
        while steps() < before + 5 {
            let waited = resumed.elapsed();
            assert!(waited < Duration::from_secs(20), "it does not go on");
            std::thread::sleep(Duration::from_millis(20));
        }
        signal(pids[0], "-INT");
    };
    let (output, _) = disturbed(folder, "--deadline 3", stop_for_a_while, 0);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
}

/// What is used for a message is given back: thousands of steps need no more memory than some.
#[test]
fn long_jobs_need_no_more_memory_than_short_ones() {
    let folder = folder_with_text();
    let mut grown = 0;
    let watch = |pid: u32| {
        let resident = || {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let line = status.lines().find(|line| line.starts_with("VmRSS:"));
            let kib = line.and_then(|line| line.split_whitespace().nth(1));
            kib.and_then(|kib| kib.parse::<u64>().ok()).unwrap() * 1024
        };
        let steps = || {
            let losses = folder.path().join("run/losses.csv");
            fs::read_to_string(losses).map_or(0, |text| text.lines().count())
        };
        let started = Instant::now();
        let until = |wanted| {
            while steps() < wanted {
                let waited = started.elapsed();
                assert!(waited < Duration::from_secs(75), "only {} steps", steps());
                std::thread::sleep(Duration::from_millis(20));
            }
        };
        until(300);
        let before = resident();
        until(1500);
        grown = resident().saturating_sub(before);
        signal(pid, "-INT");
    };
    // Few and small micro-batches: it is about the messages.
    // Checkpoints come before, too, so that what the first one takes is there.
    let quick =
        "--layers 1 --width 8 --heads 1 --batch-size 8 --micro-batch-size 1 --save-every 100";
    let (output, _) = disturbed(folder.path(), quick, watch, 1);
    assert!(output.status.success());
    // Some 40 messages a step: 16 bytes each would be more.
    println!("{grown} bytes in 1200 steps");
    assert!(grown < 3 << 18, "{grown} bytes in 1200 steps");
}

/// A rank that never starts MPI, and another that waits for it.
#[test]
fn who_does_not_come_is_waited_for_with_an_end() {
    let folder = folder_with_text();
    let arguments = format!("{TIED} --nodes 2 --out run --deadline 1.5");
    let mut job = mpirun(folder.path(), 1, &[], &arguments);
    job.args([":", "-n", "1", "sleep", "60"]);
    let started = Instant::now();
    let output = job.output().unwrap();
    let errors = errors(&output);
    assert!(!output.status.success() && errors.len() == 1, "{errors:?}");
    assert!(
        errors[0].contains("MPI does not start within 3"),
        "{errors:?}"
    );
    assert!(started.elapsed() < Duration::from_secs(20));
}
