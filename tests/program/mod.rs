//! Runs the program as a user would.
#![allow(dead_code, missing_docs, unreachable_pub)]

pub mod killing;
pub mod models;

use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// A network that trains in no time.
pub const SMALL: &str =
    "--layers 2 --width 16 --heads 2 --context 8 --batch-size 6 --micro-batch-size 2";

pub fn command(folder: &Path, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_brigade"));
    command
        .current_dir(folder)
        .args(arguments.split_whitespace())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

pub fn brigade(folder: &Path, arguments: &str) -> Output {
    command(folder, arguments).output().unwrap()
}

/// What it printed, when nothing went wrong.
pub fn text(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// One JSON object a line.
pub fn lines(output: &Output) -> Vec<Value> {
    let object = |line| serde_json::from_str(line).expect("one JSON object a line");
    text(output).lines().map(object).collect()
}

pub fn summary(output: &Output) -> Value {
    lines(output).last().unwrap()["summary"].clone()
}

pub fn sha(output: &Output) -> String {
    summary(output)["weights_sha256"]
        .as_str()
        .unwrap()
        .to_owned()
}

/// A folder with a small text in it.
pub fn folder_with_text() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let text: String = (0..400)
        .map(|n| format!("line {n} of a small text\n"))
        .collect();
    fs::write(folder.path().join("text.txt"), text).unwrap();
    folder
}

/// One line that says what is wrong, the right exit code, and no trace of a panic.
pub fn assert_fails(output: &Output, what: &str, code: i32, wanted: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{what}: {text}");
    assert_eq!(text.lines().count(), 1, "{what}: {text}");
    assert!(text.starts_with("error: "), "{what}: {text}");
    assert!(text.contains(wanted), "{what}: {text}");
    let noise = ["panicked", "RUST_BACKTRACE", "a bug in brigade"];
    assert!(
        !noise.iter().any(|word| text.contains(word)),
        "{what}: {text}"
    );
}
