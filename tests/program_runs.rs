//! Promise: nothing lost. Whatever ends a run, its folder can be read.
#![cfg(all(feature = "cli", unix))]
#![allow(missing_docs, clippy::unwrap_used)]

mod program;

use brigade::Weights;
use program::{SMALL, assert_fails, brigade, command, folder_with_text};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command};

/// Starts a long run and waits until it has taken this many steps.
fn running(folder: &Path, out: &str, steps: usize) -> (Child, Vec<String>) {
    let arguments =
        format!("train text.txt {SMALL} --steps 1000000 --eval-every 7 --json --out {out}");
    let mut child = command(folder, &arguments).spawn().unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let mut lines = Vec::new();
    let mut reader = stdout.lines();
    for line in reader.by_ref().take(steps) {
        lines.push(line.unwrap());
    }
    // The rest is read by whoever waits.
    std::thread::spawn(move || reader.for_each(drop));
    (child, lines)
}

/// Everything that is there is whole.
fn assert_readable(run: &Path, steps: usize) {
    let read = |name: &str| fs::read_to_string(run.join(name)).unwrap();
    assert!(
        read("config.toml")
            .parse::<toml::Table>()
            .unwrap()
            .contains_key("layers")
    );
    assert!(serde_json::from_str::<Value>(&read("plan.json")).unwrap()["layers"].is_array());
    let losses = read("losses.csv");
    assert!(
        losses.ends_with('\n') && losses.lines().count() > steps,
        "{losses}"
    );
    for line in losses.lines().skip(1) {
        assert_eq!(line.split(',').count(), 6, "{line}");
    }
    for name in ["trace.json", "plan.json"] {
        if run.join(name).exists() {
            serde_json::from_str::<Value>(&read(name)).unwrap();
        }
    }
    if run.join("weights.safetensors").exists() {
        assert!(
            !Weights::load(run.join("weights.safetensors"))
                .unwrap()
                .params
                .is_empty()
        );
    }
}

#[test]
fn a_killed_run_leaves_a_readable_folder() {
    let folder = folder_with_text();
    for steps in [1, 3, 9, 14, 30] {
        let out = format!("killed-{steps}");
        let (mut child, _) = running(folder.path(), &out, steps);
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success());
        assert_readable(&folder.path().join(&out), steps);
        let generate = brigade(folder.path(), &format!("generate {out}"));
        assert_fails(&generate, &out, 1, "ended before they were saved");
    }
}

/// Ctrl-C, and the polite way to end a program: after the step, weights saved, exit code 0.
#[test]
fn an_interrupted_run_ends_after_its_step_and_saves() {
    let folder = folder_with_text();
    for signal in ["INT", "TERM"] {
        let (child, _) = running(folder.path(), signal, 12);
        let process = child.id().to_string();
        let sent = Command::new("kill").args(["-s", signal, &process]).status();
        assert!(sent.unwrap().success());
        let output = child.wait_with_output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && errors.is_empty(), "{errors}");
        let run = folder.path().join(signal);
        assert_readable(&run, 12);
        assert!(run.join("weights.safetensors").exists());
        assert!(run.join("trace.json").exists());
        let text = brigade(folder.path(), &format!("generate {signal} --tokens 5"));
        assert!(text.status.success());
    }
}

/// A run that fails keeps what it had.
#[test]
fn a_failed_run_keeps_its_losses() {
    let folder = folder_with_text();
    let arguments = format!("train text.txt {SMALL} --lr 1e30 --warmup 0 --clip 0 --out failed");
    assert_fails(
        &brigade(folder.path(), &arguments),
        "diverges",
        1,
        "not finite",
    );
    assert_readable(&folder.path().join("failed"), 1);
}
