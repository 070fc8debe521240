//! Promise: over MPI the same numbers, and never stuck: whatever goes wrong on one rank ends the
//! job with a reason.
//!
//! Needs an MPI library: `cargo test --features mpi --test mpi`. `BRIGADE_MPIEXEC` names another
//! launcher than `mpirun` (`mpiexec.mpich` for a program built for MPICH).
#![allow(missing_docs, clippy::unwrap_used)]

mod program;

use program::{brigade, folder_with_text, lines, sha, summary};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A network with a tied head, cut into up to eight stages, dropout, batches that leave a rest.
const TIED: &str = "train text.txt --layers 4 --width 16 --heads 2 --context 8 --batch-size 13 \
                    --micro-batch-size 2 --dropout 0.1 --steps 6 --json --trace-steps 2 --seed 7";

fn launcher() -> String {
    std::env::var("BRIGADE_MPIEXEC").unwrap_or_else(|_| "mpirun".into())
}

fn is_open_mpi() -> bool {
    launcher() == "mpirun"
}

/// A job that is ended from outside if it hangs.
fn mpirun(folder: &Path, ranks: usize, more: &[&str], arguments: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args(["-k", "5", "90", &launcher()]);
    if is_open_mpi() {
        command.args(["--oversubscribe", "--bind-to", "none"]);
    }
    command
        .args(more)
        .args(["-n", &ranks.to_string(), env!("CARGO_BIN_EXE_brigade")])
        .args(arguments.split_whitespace())
        .current_dir(folder)
        .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
        .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn run(folder: &Path, ranks: usize, arguments: &str) -> Output {
    mpirun(folder, ranks, &[], arguments).output().unwrap()
}

/// Without what a launcher adds.
fn errors(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stderr);
    let lines = text.lines().filter(|line| line.starts_with("error: "));
    lines.map(str::to_owned).collect()
}

/// What does not depend on who trains.
fn figures(output: &Output) -> (String, Vec<(Value, Value)>, Value) {
    let steps: Vec<Value> = lines(output);
    let losses = steps.iter().filter(|line| line["step"].is_number());
    let losses = losses.map(|line| (line["loss"].clone(), line["grad_norm"].clone()));
    let losses = losses.collect();
    (sha(output), losses, summary(output)["val_loss"].clone())
}

#[test]
fn ranks_train_what_threads_train() {
    let folder = folder_with_text();
    let one = figures(&brigade(
        folder.path(),
        &format!("{TIED} --nodes 1 --out one"),
    ));
    let weights = |run: &str| fs::read(folder.path().join(run).join("weights.safetensors"));
    for (schedule, nodes) in [
        ("1f1b", 4),
        ("gpipe", 4),
        ("interleaved-1f1b", 3),
        ("zb-h1", 4),
        ("zb-v", 4),
        ("zb-auto", 4),
    ] {
        for ranks in [2, 3, 4] {
            if ranks > nodes {
                continue;
            }
            let out = format!("{schedule}-{ranks}");
            let arguments = format!("{TIED} --nodes {nodes} --schedule {schedule} --out {out}");
            let output = run(folder.path(), ranks, &arguments);
            assert_eq!(figures(&output), one, "{schedule} on {ranks} ranks");
            assert_eq!(weights(&out).unwrap(), weights("one").unwrap());
        }
    }
}
