//! Promise: nothing lost. Where the disk is full, training goes on or ends as asked, the error says
//! how much is missing, and the checkpoint before stays whole.
//!
//! Needs a small file system of its own: one in memory, where this user may mount one.
#![cfg(all(feature = "cli", target_os = "linux"))]
#![allow(missing_docs, clippy::unwrap_used)]

mod program;

use brigade::Checkpoint;
use program::{command, folder_with_text, lines};
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Checkpoints of 400 kB: one fits the disk, a second one does not.
const RUN: &str = "text.txt --layers 2 --width 48 --heads 2 --context 8 --batch-size 4 \
                   --micro-batch-size 2 --nodes 2 --steps 24 --save-every 6 --json --trace-steps 0";
const DISK: &str = "1400k";

/// Runs the program with a small disk mounted at `disk`; what was on it is in `kept` afterwards.
fn on_small_disk(folder: &Path, arguments: &str) -> Option<Output> {
    in_small_disk(
        folder,
        &format!("{} {arguments}", env!("CARGO_BIN_EXE_brigade")),
    )
}

/// Runs a command with a small disk.
fn in_small_disk(folder: &Path, command: &str) -> Option<Output> {
    fs::create_dir_all(folder.join("disk")).unwrap();
    let script = format!(
        "mount -t tmpfs -o size={DISK} tmpfs disk || exit 77; \
         {command}; code=$?; rm -rf kept; cp -a disk kept; exit $code"
    );
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let refused = output.status.code() == Some(77)
        || String::from_utf8_lossy(&output.stderr).contains("unshare");
    if refused {
        println!(
            "no small disk here: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    (!refused).then_some(output)
}

fn whole(run: &Path) -> Vec<u64> {
    let list = Checkpoint::list(run.join("checkpoints")).unwrap();
    for (_, path) in &list {
        Checkpoint::open(path).unwrap().verify().unwrap();
    }
    list.iter().map(|(step, _)| *step).collect()
}

fn error_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_full_disk_costs_a_checkpoint_not_the_run() {
    let folder = folder_with_text();
    // Older ones are kept, so that the disk fills up.
    let arguments = format!("train {RUN} --keep 0 --out disk/run");
    let Some(output) = on_small_disk(folder.path(), &arguments) else {
        return;
    };
    let said = error_of(&output);
    assert!(
        said.contains("warning: no checkpoint: cannot write"),
        "{said}"
    );
    assert!(said.contains("bytes more are needed"), "{said}");
    assert!(said.contains("training goes on"), "{said}");
    let steps = lines_of(&output);
    assert_eq!(steps, 24, "{said}");
    let kept = whole(&folder.path().join("kept/run"));
    assert!(
        !kept.is_empty() && kept.iter().all(|step| step % 6 == 0),
        "{kept:?}"
    );
    let names = fs::read_dir(folder.path().join("kept/run/checkpoints")).unwrap();
    let names: Vec<_> = names.map(|name| name.unwrap().file_name()).collect();
    let half = names
        .iter()
        .any(|name| name.to_string_lossy().ends_with(".part"));
    assert!(
        !half,
        "what is half written does not fill the disk: {names:?}"
    );
}

#[test]
fn a_full_disk_ends_the_run_where_that_is_asked_for() {
    let folder = folder_with_text();
    let arguments = format!("train {RUN} --keep 0 --on-save-error stop --out disk/run");
    let Some(output) = on_small_disk(folder.path(), &arguments) else {
        return;
    };
    let said = error_of(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.starts_with("error: cannot write"), "{said}");
    assert!(said.contains("bytes more are needed"), "{said}");
    assert!(lines_of(&output) < 24);
    assert!(!whole(&folder.path().join("kept/run")).is_empty());
}

/// Others fill the disk, and make room again: no line of what the run writes down is lost.
#[test]
fn a_disk_that_is_full_for_a_while_costs_nothing() {
    let folder = folder_with_text();
    let steps = "--steps 4000 --save-every 0 --trace-steps 0 --nodes 1";
    let network = "--layers 1 --width 8 --heads 1 --context 4 --batch-size 2";
    let program = env!("CARGO_BIN_EXE_brigade");
    let filled = format!(
        "sh -c '{program} train text.txt {network} {steps} --json --out disk/run & \\
         while ! test -s disk/run/losses.csv; do sleep 0.01; done; \\
         dd if=/dev/zero of=disk/filler bs=4k 2>/dev/null; sleep 0.3; rm disk/filler; wait $!'"
    );
    let Some(output) = in_small_disk(folder.path(), &filled) else {
        return;
    };
    let said = error_of(&output);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("losses.csv: No space left"), "{said}");
    assert_eq!(
        said.matches("training goes on").count(),
        1,
        "said once: {said}"
    );
    let losses = fs::read_to_string(folder.path().join("kept/run/losses.csv")).unwrap();
    let step = |line: &str| line.split(',').next().unwrap().parse::<u64>().unwrap();
    let found: Vec<_> = losses.lines().skip(1).map(step).collect();
    assert_eq!(found, (0..4000).collect::<Vec<_>>());
}

/// Steps that were told.
fn lines_of(output: &Output) -> usize {
    let text = String::from_utf8_lossy(&output.stdout);
    let objects = text.lines().map(serde_json::from_str::<serde_json::Value>);
    { objects }
        .filter(|object| object.as_ref().unwrap().get("loss").is_some())
        .count()
}

/// The folder vanishes on the way, and a file stands in its place.
#[test]
fn a_folder_that_vanishes_costs_a_checkpoint_not_the_run() {
    let folder = folder_with_text();
    let network = "--layers 1 --width 8 --heads 1 --context 4 --batch-size 2 --nodes 2";
    let arguments =
        format!("train text.txt {network} --steps 3000 --save-every 20 --json --out run");
    let child = command(folder.path(), &arguments).spawn().unwrap();
    let checkpoints = folder.path().join("run/checkpoints");
    let started = Instant::now();
    while Checkpoint::list(&checkpoints)
        .unwrap_or_default()
        .is_empty()
    {
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "it does not get going"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
    fs::rename(&checkpoints, folder.path().join("elsewhere")).unwrap();
    fs::write(&checkpoints, "in the way").unwrap();
    let output = child.wait_with_output().unwrap();
    let said = error_of(&output);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("warning: no checkpoint: cannot write run/checkpoints"),
        "{said}"
    );
    assert!(said.contains("training goes on"), "{said}");
    assert_eq!(lines(&output).last().unwrap()["summary"]["steps"], 3000);
    // What was there is whole.
    for (_, path) in Checkpoint::list(folder.path().join("elsewhere")).unwrap() {
        Checkpoint::open(path).unwrap().verify().unwrap();
    }
}
