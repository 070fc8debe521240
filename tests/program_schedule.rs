//! Promise: what the program says of schedules is what the library computes and PyTorch reads.
#![cfg(feature = "cli")]
#![allow(missing_docs, clippy::unwrap_used)]

mod program;

use program::{assert_fails, brigade, folder_with_text, lines, text};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;

const NAMES: [&str; 11] = [
    "gpipe",
    "1f1b",
    "interleaved-1f1b",
    "looped-bfs",
    "zb-h1",
    "interleaved-zb",
    "zb-v",
    "v-half",
    "v-min",
    "dualpipe-v",
    "zb-auto",
];

fn object(folder: &Path, arguments: &str) -> Value {
    let output = brigade(folder, &format!("schedule {arguments} --json"));
    let mut objects = lines(&output);
    assert_eq!(objects.len(), 1, "{arguments}");
    objects.remove(0)
}

fn near(value: &Value, wanted: f64) {
    let value = value.as_f64().unwrap();
    assert!((value - wanted).abs() < 1e-12, "{value} not {wanted}");
}

fn sum(list: &Value) -> f64 {
    list.as_array()
        .unwrap()
        .iter()
        .map(|x| x.as_f64().unwrap())
        .sum()
}

#[test]
fn a_schedule_is_drawn() {
    let folder = folder_with_text();
    let show = |arguments: &str| {
        text(&brigade(
            folder.path(),
            &format!("schedule show {arguments}"),
        ))
    };
    let picture = show("--schedule 1f1b --nodes 3 --micro-batches 4 --width 36");
    let rows = "\
node 0 |F0F1F2........B0  F3B1  ..B2  ..B3  | idle 33%
node 1 |..F0F1....B0  F2B1  F3B2  ..B3  ....| idle 33%
node 2 |....F0B0  F1B1  F2B2  F3B3  ........| idle 33%
";
    assert!(picture.contains(rows), "{picture}");
    assert!(picture.contains("by node: 3 2 1"), "{picture}");
    assert!(show("--schedule gpipe --nodes 3 --micro-batches 4").contains("by node: 4 4 4"));
    // In colour where it is asked for.
    let mut coloured = program::command(folder.path(), "schedule show");
    let output = coloured.env("CLICOLOR_FORCE", "1").output().unwrap();
    assert!(text(&output).contains("\u{1b}["));
    assert!(!show("").contains('\u{1b}'));
}

/// 1F1B: (P - 1)(F + B) idle; the last node starts at (P - 1) F and ends (P - 1) B before the
/// first, whose span is the whole step.
#[test]
fn a_simulation_in_figures() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &str| object(folder.path(), &format!("simulate {arguments}"));
    let plain = run("--schedule 1f1b --nodes 4 --micro-batches 8");
    for (name, wanted) in [("schedule", json!("1f1b")), ("nodes", json!(4))] {
        assert_eq!(plain[name], wanted);
    }
    near(&plain["makespan"], 33.0);
    near(&plain["span"], 33.0);
    near(&plain["bubble_makespan"], 9.0 / 33.0);
    near(&plain["bubble_span"], 9.0 / 33.0);
    assert_eq!(plain["peak_stash"], json!([4.0, 3.0, 2.0, 1.0]));
    assert_eq!(plain["idle"], json!([9.0, 9.0, 9.0, 9.0]));
    let path = plain["critical_path"].as_array().unwrap();
    near(&path[0]["start"], 0.0);
    near(&path.last().unwrap()["end"], 33.0);

    // A number is a node's whole share: two stages on a node take half of it each.
    let gone_round = run("--schedule interleaved-1f1b --nodes 4 --chunks 2 --micro-batches 8");
    near(&gone_round["makespan"], 24.0 + 4.5);
    // A list is of stages.
    let unequal = run(
        "--nodes 2 --micro-batches 3 --forward 1,4 --backward-input 0,4 \
                       --backward-weight 1,2",
    );
    near(&unequal["makespan"], 1.0 + 3.0 * 10.0 + 1.0);
    near(&unequal["idle"][0], 32.0 - 6.0);
    // GPipe on two nodes: the first and the last micro-batch wait for a message each way.
    let far = run("--schedule gpipe --nodes 2 --micro-batches 1 --link-latency 0.25");
    near(&far["makespan"], 6.0 + 2.0 * 0.25);
    // In zb-v no node waits between its first action and its last.
    let v = run("--schedule zb-v --nodes 4 --micro-batches 8");
    near(&v["bubble_span"], 0.0);
    near(&v["span"], 24.0);
    near(&v["bubble_makespan"], 1.5 / 25.5);
    // What I frees need not wait for W.
    let freed = run("--schedule zb-h1 --nodes 2 --micro-batches 4 --freed-at-input 0.75");
    let kept = run("--schedule zb-h1 --nodes 2 --micro-batches 4");
    assert!(sum(&freed["peak_stash"]) < sum(&kept["peak_stash"]));
    // The order as it is defined has no messages to wait for.
    let defined = run("--schedule gpipe --nodes 2 --micro-batches 1 --as-defined");
    near(&defined["makespan"], 6.0);
}

#[test]
fn all_schedules_are_compared_best_first() {
    let folder = tempfile::tempdir().unwrap();
    let setting = "--nodes 4 --micro-batches 8";
    let rows = object(folder.path(), &format!("compare {setting}"));
    let rows = rows.as_array().unwrap();
    let mut names: Vec<_> = rows
        .iter()
        .map(|row| row["schedule"].as_str().unwrap())
        .collect();
    let makespans = rows.iter().map(|row| row["makespan"].as_f64().unwrap());
    assert!(makespans.is_sorted());
    for row in rows {
        let name = row["schedule"].as_str().unwrap();
        let alone = object(
            folder.path(),
            &format!("simulate --schedule {name} {setting}"),
        );
        for figure in ["makespan", "bubble_span", "peak_stash", "idle", "chunks"] {
            assert_eq!(row[figure], alone[figure], "{figure} of {name}");
        }
    }
    names.sort_unstable();
    let mut all = NAMES;
    all.sort_unstable();
    assert_eq!(names, all);
    // What keeps more than the limit is not offered.
    let tight = object(
        folder.path(),
        &format!("compare {setting} --memory-limit 3"),
    );
    for row in tight.as_array().unwrap() {
        if row["makespan"].is_number() {
            let kept = row["peak_stash"].as_array().unwrap();
            assert!(
                kept.iter().all(|kept| kept.as_f64().unwrap() <= 3.0),
                "{row}"
            );
        }
    }
    let said = text(&brigade(folder.path(), "schedule compare --memory-limit 3"));
    assert!(said.contains("v-half") && said.contains("gpipe"), "{said}");
}

/// Exported, proven from the file, imported, and simulated: the same schedule.
#[test]
fn a_schedule_goes_round_through_a_file() {
    let folder = tempfile::tempdir().unwrap();
    for name in NAMES {
        let by_name = format!("--schedule {name} --nodes 4 --micro-batches 8");
        let alone = object(folder.path(), &format!("simulate {by_name}"));
        for format in ["compute-only", "compute-comms"] {
            let export = format!("export {by_name} --format {format} --csv a.csv");
            brigade(folder.path(), &format!("schedule {export}"));
            let said = object(folder.path(), "import --csv a.csv");
            assert_eq!(
                (&said["nodes"], &said["micro_batches"]),
                (&json!(4), &json!(8))
            );
            let proof = object(folder.path(), "check --schedule a.csv");
            assert_eq!(proof["sound"], json!(true), "{name}");
            let again = object(folder.path(), "simulate --schedule a.csv");
            for figure in ["makespan", "span", "peak_stash", "idle", "chunks"] {
                assert_eq!(again[figure], alone[figure], "{figure} of {name}, {format}");
            }
        }
        // What is printed is what is written.
        let printed = text(&brigade(
            folder.path(),
            &format!("schedule export {by_name}"),
        ));
        brigade(
            folder.path(),
            &format!("schedule export {by_name} --csv b.csv"),
        );
        assert_eq!(
            fs::read_to_string(folder.path().join("b.csv")).unwrap(),
            printed
        );
    }
}

#[test]
fn a_stuck_schedule_is_refused_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = "0F0,0B0,0F1,0B1\n1F1,1F0,1B0,1B1\n";
    fs::write(folder.path().join("stuck.csv"), file).unwrap();
    let check = "schedule check --schedule stuck.csv";
    let output = brigade(folder.path(), check);
    assert_fails(&output, check, 1, "node 0, entry 2");
    assert_fails(&output, check, 1, "deadlock");
    let timeline = String::from_utf8(output.stdout).unwrap();
    let rows = "\
node 0: 0F0 0SEND_F0>1@0 [0WAIT_B0<1@0] 0B0 0F1 0SEND_F1>1@0 0WAIT_B1<1@0 ...
node 1: [1WAIT_F1<0@0] 1F1 1WAIT_F0<0@0 1F0 1B0 ...
";
    assert_eq!(timeline, rows);
    let output = brigade(folder.path(), &format!("{check} --json"));
    assert_eq!(output.status.code(), Some(1));
    let object: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&object["sound"], &object["index"]),
        (&json!(false), &json!(2))
    );
    // Neither drawn nor simulated, and no text is trained with it.
    for command in ["schedule show", "schedule simulate", "schedule import"] {
        let command = format!("{command} --schedule stuck.csv");
        assert_fails(&brigade(folder.path(), &command), &command, 1, "deadlock");
    }
    let texts = folder_with_text();
    let file = "0F0,0B0,0F1,0B1,0F2,0B2\n1F1,1F0,1B0,1B1,1F2,1B2\n";
    fs::write(texts.path().join("stuck.csv"), file).unwrap();
    let train = format!(
        "train text.txt {} --nodes 2 --schedule stuck.csv",
        program::SMALL
    );
    assert_fails(&brigade(texts.path(), &train), &train, 1, "deadlock");
    assert!(!texts.path().join("runs/1/weights.safetensors").exists());
}

#[test]
fn pictures_for_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = "schedule show --schedule zb-v --nodes 2 --micro-batches 4 --svg a.svg";
    text(&brigade(folder.path(), arguments));
    let picture = fs::read_to_string(folder.path().join("a.svg")).unwrap();
    assert!(picture.starts_with("<svg") && picture.trim_end().ends_with("</svg>"));
    for words in ["zb-v", "forward", "node 1", "prefers-color-scheme: dark"] {
        assert!(picture.contains(words), "{words}");
    }
}
