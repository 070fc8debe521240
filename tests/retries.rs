//! Promise: nothing lost. A run whose node fails starts again from its last checkpoint, as often as
//! asked, and ends with the weights of a run without a failure.
#![cfg(feature = "cli")]
#![allow(missing_docs, clippy::unwrap_used)]

mod program;

use program::killing::{RUN, sha};
use program::{assert_fails, brigade, command, folder_with_text};
use std::fs;
use std::path::Path;
use std::process::Output;

/// The link of a node is cut off after so many messages.
fn drilled(folder: &Path, drill: &str, arguments: &str) -> Output {
    let mut command = command(folder, arguments);
    command.env("BRIGADE_DRILL", drill).output().unwrap()
}

#[test]
fn a_run_whose_node_fails_starts_again() {
    let folder = folder_with_text();
    let whole = brigade(folder.path(), &format!("train {RUN} --nodes 3 --out whole"));
    let losses = |out: &str| {
        let text = fs::read_to_string(folder.path().join(out).join("losses.csv")).unwrap();
        let loss = |line: &str| line.split(',').take(4).collect::<Vec<_>>().join(",");
        text.lines().map(loss).collect::<Vec<_>>()
    };
    // Before the first checkpoint, on the way, and close to the end.
    for (number, drill) in ["1:9", "0:200", "2:480", "1:700"].into_iter().enumerate() {
        let out = format!("run-{number}");
        let arguments = format!("train {RUN} --nodes 3 --retries 1 --out {out}");
        let output = drilled(folder.path(), drill, &arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(sha(&output), sha(&whole), "{drill}: {said}");
        assert!(said.contains("lost the link"), "{drill}: {said}");
        let step = said.split("starting again after step ").nth(1).unwrap();
        let step: u64 = step.split(',').next().unwrap().parse().unwrap();
        assert_eq!(step == 0, number == 0, "{drill}: {said}");
        assert_eq!(losses(&out), losses("whole"), "{drill}");
        assert!(folder.path().join(&out).join("report.html").exists());
    }
}

#[test]
fn without_retries_it_ends_and_can_be_resumed() {
    let folder = folder_with_text();
    let whole = brigade(folder.path(), &format!("train {RUN} --nodes 2 --out whole"));
    let ended = drilled(
        folder.path(),
        "1:300",
        &format!("train {RUN} --nodes 2 --out run"),
    );
    assert_eq!(ended.status.code(), Some(1));
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(
        said.starts_with("error: ") && said.contains("lost the link"),
        "{said}"
    );
    let output = brigade(folder.path(), "train --resume run --nodes 4");
    assert_eq!(sha(&output), sha(&whole));
    // Once more: nothing is left to be done, and the weights are the same.
    let again = brigade(folder.path(), "train --resume run");
    assert_eq!(sha(&again), sha(&whole));
}

/// Numbers that are not finite would come again.
#[test]
fn what_would_come_again_is_not_tried_again() {
    let folder = folder_with_text();
    let arguments = format!("train {RUN} --lr 1e30 --warmup 0 --clip 0 --retries 5 --out run");
    let output = brigade(folder.path(), &arguments);
    assert_fails(&output, "diverges", 1, "not finite");
    let wrong = drilled(folder.path(), "9:1", &format!("train {RUN} --nodes 2"));
    assert_fails(
        &wrong,
        "drill",
        2,
        "BRIGADE_DRILL is 9:1; it must be a node below 2",
    );
}
