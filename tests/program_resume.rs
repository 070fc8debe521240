//! Promise: nothing lost. What `brigade train` saves, `brigade train --resume` goes on from: after
//! a polite request to end, with other nodes, past a damaged checkpoint, from an older one.
#![cfg(all(feature = "cli", unix))]
#![allow(missing_docs, clippy::unwrap_used)]

mod program;

use brigade::Checkpoint;
use program::killing::sha;
use program::{assert_fails, brigade, command, folder_with_text, lines, text};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Command;

const RUN: &str = "text.txt --tied --layers 4 --width 16 --heads 2 --context 8 --batch-size 6 \
                   --micro-batch-size 2 --dropout 0.1 --steps 24 --save-every 4 --nodes 4";

fn whole(folder: &Path) -> String {
    sha(&brigade(
        folder,
        &format!("train {RUN} --json --nodes 1 --out whole"),
    ))
}

fn steps_in(run: &Path) -> Vec<u64> {
    let losses = fs::read_to_string(run.join("losses.csv")).unwrap();
    let step = |line: &str| line.split(',').next().unwrap().parse().unwrap();
    losses.lines().skip(1).map(step).collect()
}

fn listed(run: &Path) -> Vec<u64> {
    let list = Checkpoint::list(run.join("checkpoints")).unwrap();
    list.into_iter().map(|(step, _)| step).collect()
}

/// Ctrl-C and SIGTERM: saved, exit code 0, and a line that says how to go on.
#[test]
fn a_run_that_is_asked_to_end_goes_on_later() {
    let folder = folder_with_text();
    let run = RUN
        .replace("--steps 24", "--steps 100000")
        .replace("--save-every 4", "");
    for signal in ["INT", "TERM"] {
        let arguments = format!("train {run} --save-every 0 --json --out {signal}");
        let mut child = command(folder.path(), &arguments).spawn().unwrap();
        let mut reader = BufReader::new(child.stdout.take().unwrap()).lines();
        reader.by_ref().take(5).for_each(drop);
        let sent = Command::new("kill")
            .args(["-s", signal, &child.id().to_string()])
            .status();
        assert!(sent.unwrap().success());
        let rest: Vec<String> = reader.map(Result::unwrap).collect();
        assert!(child.wait().unwrap().success());
        let summary: Value = serde_json::from_str(rest.last().unwrap()).unwrap();
        let (summary, out) = (&summary["summary"], folder.path().join(signal));
        let steps = summary["steps"].as_u64().unwrap();
        assert_eq!(listed(&out), [steps]);
        let path = format!("{signal}/checkpoints/step-{steps}");
        assert_eq!(summary["checkpoint"], path);
        // On another pipeline to where a run in one go is.
        let more = format!("--steps {} --lr 1e-3 --json", steps + 3);
        let gone_on = brigade(
            folder.path(),
            &format!("train --resume {signal} --nodes 2 {more}"),
        );
        let first = lines(&gone_on)[0].clone();
        assert_eq!(first["resumed"]["step"], steps);
        assert_eq!(steps_in(&out), (0..steps + 3).collect::<Vec<_>>());
    }
    let said = text(&brigade(
        folder.path(),
        &format!("train {RUN} --steps 3 --out few"),
    ));
    assert!(!said.contains("--resume"), "it is done: {said}");
}

#[test]
fn a_damaged_checkpoint_is_passed_over_and_said() {
    let folder = folder_with_text();
    let wanted = whole(folder.path());
    let half = format!("train {RUN} --json --out run");
    let mut drilled = command(folder.path(), &half);
    drilled.env("BRIGADE_DRILL", "0:230").output().unwrap();
    let run = folder.path().join("run");
    let list = listed(&run);
    let [older, newest] = list[..] else {
        panic!("{list:?}")
    };
    // A byte is missing at the end of a file.
    let file = run.join(format!("checkpoints/step-{newest}/node-1.safetensors"));
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
    let output = brigade(folder.path(), "train --resume run");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.starts_with("warning: cannot read run/checkpoints/step-"),
        "{said}"
    );
    assert!(said.contains("node-1.safetensors: damaged"), "{said}");
    assert!(
        said.contains(&format!("going on from run/checkpoints/step-{older}")),
        "{said}"
    );
    assert_eq!(sha(&output), wanted);
    assert_eq!(steps_in(&run), (0..24).collect::<Vec<_>>());
    brigade::Checkpoint::newest(run.join("checkpoints"))
        .unwrap()
        .unwrap()
        .verify()
        .unwrap();
}

#[test]
fn an_older_checkpoint_is_for_a_run_of_its_own() {
    let folder = folder_with_text();
    let wanted = sha(&brigade(
        folder.path(),
        &format!("train {RUN} --json --keep 0 --out run"),
    ));
    let run = folder.path().join("run");
    assert_eq!(listed(&run), [4, 8, 12, 16, 20, 24]);
    let refused = brigade(folder.path(), "train --resume run/checkpoints/step-8");
    assert_fails(
        &refused,
        "older",
        2,
        "up to step 24; give --out for a run of its own",
    );
    let output = brigade(
        folder.path(),
        "train --resume run/checkpoints/step-8 --out other",
    );
    assert_eq!(sha(&output), wanted);
    let other = folder.path().join("other");
    assert_eq!(steps_in(&other), (0..24).collect::<Vec<_>>());
    assert_eq!(listed(&other), [12, 16, 20, 24]);
    assert_eq!(listed(&run).len(), 6);
    // A run that is at its end gives way to another one; one that is not does not.
    fs::remove_dir_all(other.join("checkpoints/step-24")).unwrap();
    let refused = brigade(folder.path(), &format!("train {RUN} --out other"));
    assert_fails(
        &refused,
        "again",
        2,
        "other has a run that is not at its end",
    );
    assert_eq!(listed(&other), [12, 16, 20]);
    let again = brigade(
        folder.path(),
        &format!("train {RUN} --json --save-every 0 --out run"),
    );
    assert_eq!(sha(&again), wanted);
    assert_eq!(listed(&run), [0; 0]);
}

/// What differs is said; what cannot be is refused.
#[test]
fn what_differs_is_said() {
    let folder = folder_with_text();
    let done = brigade(
        folder.path(),
        &format!("train {RUN} --cuts 2,5,8 --json --out run"),
    );
    assert!(done.status.success());
    let warned = |more: &str, wanted: &str| {
        let out = format!("out-{}", fs::read_dir(folder.path()).unwrap().count());
        let from = "run/checkpoints/step-20 --schedule gpipe --nodes 2";
        let output = brigade(
            folder.path(),
            &format!("train --resume {from} {more} --out {out}"),
        );
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        assert_eq!(said.is_empty(), wanted.is_empty(), "{said}");
        assert!(said.contains(wanted), "{said}");
    };
    warned("", "");
    warned(
        "--seed 7",
        "warning: seed is 7, it was 1: the numbers are not those",
    );
    warned("--micro-batch-size 3", "micro_batch_size is 3, it was 2");
    warned("--clip 0", "clip is none, it was 1");
    let mut more = fs::read_to_string(folder.path().join("text.txt")).unwrap();
    more.push_str("one line more\n");
    fs::write(folder.path().join("text.txt"), more).unwrap();
    warned("", "data are text.txt");
    let refused = |more: &str, wanted: &str| {
        let output = brigade(folder.path(), &format!("train --resume {more}"));
        assert_fails(&output, more, 1, wanted);
    };
    refused("run --width 32", "is of another network");
    refused("run --heads 4", "is of another network");
    refused("run --optimizer sgd", "take the same optimizer");
    refused("nowhere", "cannot read nowhere");
    refused("text.txt", "is no folder");
    fs::create_dir(folder.path().join("empty")).unwrap();
    refused("empty", "empty has no checkpoint");
    refused("latest", "there are no runs in runs");
}

/// Without a name the newest run.
#[test]
fn the_newest_run_goes_on_by_itself() {
    let folder = folder_with_text();
    for _ in 0..2 {
        assert!(
            brigade(folder.path(), &format!("train {RUN} --steps 4 --json"))
                .status
                .success()
        );
    }
    let output = brigade(folder.path(), "train --resume --steps 9 --json");
    assert_eq!(
        lines(&output)[0]["resumed"]["checkpoint"],
        "runs/2/checkpoints/step-4"
    );
    assert_eq!(
        steps_in(&folder.path().join("runs/2")),
        (0..9).collect::<Vec<_>>()
    );
    assert_eq!(steps_in(&folder.path().join("runs/1")).len(), 4);
}

/// A run is alone in its folder, from its first file to its last.
#[test]
fn two_runs_do_not_share_a_folder() {
    let folder = folder_with_text();
    let run = RUN.replace("--steps 24", "--steps 1000000");
    let arguments = format!("train {run} --json --out step-5");
    let mut child = command(folder.path(), &arguments).spawn().unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap()).lines();
    reader.by_ref().take(40).for_each(drop);
    for second in [
        "train --resume step-5",
        &format!("train {RUN} --out step-5"),
    ] {
        let refused = brigade(folder.path(), second);
        assert_fails(&refused, second, 1, "another run is at work in step-5");
    }
    reader.by_ref().take(10).for_each(drop);
    child.kill().unwrap();
    child.wait().unwrap();
    let steps = steps_in(&folder.path().join("step-5"));
    assert!(steps.len() >= 50, "{}", steps.len());
    assert_eq!(steps, (0..steps.len() as u64).collect::<Vec<_>>());
    // Its name is that of a checkpoint, and it is none.
    let listed = text(&brigade(folder.path(), "checkpoint list step-5"));
    assert_eq!(listed.lines().count(), 2, "{listed}");
}

/// A checkpoint whose damage only reading it all can tell does not use up the retries.
#[test]
fn a_retry_takes_the_newest_that_is_whole() {
    let folder = folder_with_text();
    let wanted = whole(folder.path());
    let mut first = command(folder.path(), &format!("train {RUN} --json --out run"));
    first.env("BRIGADE_DRILL", "0:230").output().unwrap();
    let run = folder.path().join("run");
    let newest = *listed(&run).last().unwrap();
    let file = run.join(format!("checkpoints/step-{newest}/node-0.safetensors"));
    let mut bytes = fs::read(&file).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&file, bytes).unwrap();
    let refused = brigade(folder.path(), "train --resume run");
    assert_fails(&refused, "damaged", 1, "node-0.safetensors: damaged");
    let output = brigade(folder.path(), "train --resume run --retries 1");
    assert_eq!(sha(&output), wanted);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("node-0.safetensors: damaged"), "{said}");
    assert_eq!(steps_in(&run), (0..24).collect::<Vec<_>>());
}
