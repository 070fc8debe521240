//! Promise: what is asked of `brigade schedule` is done, or refused with what to change.
#![cfg(feature = "cli")]
#![allow(missing_docs, clippy::unwrap_used)]

mod program;

use program::{assert_fails, brigade, command, lines, text};
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

fn schedule(folder: &Path, arguments: &str) -> String {
    text(&brigade(folder, &format!("schedule {arguments}")))
}

fn object(folder: &Path, arguments: &str) -> Value {
    let output = brigade(folder, &format!("schedule {arguments} --json"));
    let mut objects = lines(&output);
    assert_eq!(objects.len(), 1, "{arguments}");
    objects.remove(0)
}

fn fails(folder: &Path, arguments: &str, code: i32, wanted: &str) {
    let arguments = format!("schedule {arguments}");
    assert_fails(&brigade(folder, &arguments), &arguments, code, wanted);
}

/// A folder with the order of 1F1B on two nodes for five micro-batches, and a broken file.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let export = "export --nodes 2 --micro-batches 5 --csv mine.csv";
    schedule(folder.path(), export);
    let stuck = "0F0,0B0,0F1,0B1\n1F1,1F0,1B0,1B1\n";
    fs::write(folder.path().join("stuck.csv"), stuck).unwrap();
    fs::write(folder.path().join("bad.csv"), "0F0,0X0\n").unwrap();
    folder
}

#[test]
fn a_file_is_compared_with_the_others_in_its_own_size() {
    let folder = folder();
    let rows = object(folder.path(), "compare --schedule mine.csv");
    let rows = rows.as_array().unwrap();
    let by_name = |name: &str| rows.iter().find(|row| row["schedule"] == name).unwrap();
    for row in rows.iter().filter(|row| row["makespan"].is_number()) {
        assert_eq!(
            (&row["nodes"], &row["micro_batches"]),
            (&json!(2), &json!(5)),
            "{row}"
        );
    }
    assert_eq!(by_name("mine")["makespan"], by_name("1f1b")["makespan"]);
    let alone = object(
        folder.path(),
        "simulate --schedule zb-v --nodes 2 --micro-batches 5",
    );
    assert_eq!(by_name("zb-v")["makespan"], alone["makespan"]);
    // Fewer micro-batches for all of them.
    let said = schedule(
        folder.path(),
        "compare --schedule mine.csv --micro-batches 3",
    );
    assert!(said.starts_with("2 nodes, 3 micro-batches"), "{said}");
    let said = schedule(folder.path(), "compare --nodes 1 --micro-batches 1");
    assert!(said.starts_with("1 node, 1 micro-batch;"), "{said}");
}

#[test]
fn a_file_that_cannot_be_compared_is_an_error() {
    let folder = folder();
    for (name, code, wanted) in [
        ("missing.csv", 1, "cannot read missing.csv"),
        ("bad.csv", 1, "schedule file bad.csv, row 1, column 2"),
        ("stuck.csv", 1, "deadlock"),
        ("mine.csv --nodes 3", 2, "nearest is 2 nodes"),
        (
            "mine.csv --micro-batches 6",
            2,
            "nearest is 5 micro-batches",
        ),
    ] {
        fails(
            folder.path(),
            &format!("compare --schedule {name}"),
            code,
            wanted,
        );
    }
    // What it keeps is a figure to compare.
    let said = schedule(
        folder.path(),
        "compare --schedule mine.csv --memory-limit 1",
    );
    assert!(
        said.contains("mine.csv          keeps 2 and may keep 1"),
        "{said}"
    );
}

/// The definition, or what runs, as the format says; whatever a picture shows.
#[test]
fn an_export_is_what_its_format_says() {
    let folder = folder();
    let of = "--schedule looped-bfs --nodes 2 --micro-batches 3";
    let export = |more: &str| schedule(folder.path(), &format!("export {of} {more}"));
    for format in ["compute-only", "compute-comms"] {
        let plain = export(&format!("--format {format}"));
        assert_eq!(export(&format!("--format {format} --as-defined")), plain);
        for command in ["show", "simulate", "simulate --as-defined", "check"] {
            schedule(
                folder.path(),
                &format!("{command} {of} --format {format} --csv a.csv"),
            );
            let written = fs::read_to_string(folder.path().join("a.csv")).unwrap();
            assert_eq!(written, plain, "{command} {format}");
        }
    }
    // Lowered, its backwards come in another order.
    assert!(export("").contains("1B2,1B1,1B0") || export("").contains("3B2,3B1,3B0"));
    assert!(!export("--format compute-comms").contains("3B2"));
}

/// Every option with every subcommand: done, or refused.
#[test]
fn no_option_is_ignored() {
    const COMMANDS: [&str; 6] = ["show", "check", "simulate", "export", "import", "compare"];
    let folder = folder();
    let refused: [(&str, &[&str]); 6] = [
        ("--svg a.svg", &["compare"]),
        ("--csv a.csv", &["compare"]),
        ("--csv a.csv --format compute-comms", &["compare"]),
        ("--json", &[]),
        ("--width 60", &["check", "export", "import", "compare"]),
        ("--as-defined", &["check", "import"]),
    ];
    for (option, refused) in refused {
        for command in COMMANDS {
            for name in ["a.svg", "a.csv"] {
                let _ = fs::remove_file(folder.path().join(name));
            }
            let import = command == "import";
            let file = match (import, option.contains("--csv")) {
                (true, true) => "",
                _ => "--schedule mine.csv",
            };
            // It reads what the others write.
            let option = match import {
                true => option.replace("a.csv", "mine.csv").replace("comms", "only"),
                false => option.to_owned(),
            };
            let line = format!("{command} {file} {option}");
            if refused.contains(&command) {
                fails(folder.path(), &line, 2, "has no use for --");
                continue;
            }
            schedule(folder.path(), &line);
            for name in ["a.svg", "a.csv"]
                .into_iter()
                .filter(|name| option.contains(name))
            {
                let written = fs::read_to_string(folder.path().join(name)).unwrap();
                assert!(!written.is_empty(), "{line}");
            }
        }
    }
    for command in ["show", "check", "simulate"] {
        let line = format!("{command} --format compute-comms");
        fails(folder.path(), &line, 2, "give --csv FILE as well");
    }
    let comms = "import --csv mine.csv --format compute-comms";
    fails(folder.path(), comms, 2, "it is compute-only");
    schedule(
        folder.path(),
        "export --format compute-comms --csv comms.csv",
    );
    schedule(
        folder.path(),
        "import --format compute-comms --csv comms.csv",
    );
    let only = "import --format compute-only --csv comms.csv";
    fails(folder.path(), only, 2, "it is compute-comms");
    let exported = object(folder.path(), "export --nodes 1 --micro-batches 2");
    assert_eq!(exported["rows"], json!([["0F0", "0B0", "0F1", "0B1"]]));
    let both = "import --csv mine.csv --schedule mine.csv";
    fails(folder.path(), both, 2, "import reads one file");
    let name = "import --csv mine.csv --schedule zb-v";
    fails(folder.path(), name, 2, "import needs a file");
}

#[test]
fn a_limit_is_kept_and_says_what_it_would_have_to_be() {
    let folder = folder();
    let gpipe = "--schedule gpipe --memory-limit 2";
    for command in [
        "show",
        "check",
        "simulate",
        "simulate --as-defined",
        "export",
    ] {
        let line = format!("{command} {gpipe}");
        fails(
            folder.path(),
            &line,
            1,
            "keeps 8 micro-batches of its whole share",
        );
        fails(
            folder.path(),
            &line,
            1,
            "raise --memory-limit to 8, or use another schedule",
        );
        schedule(
            folder.path(),
            &format!("{command} --schedule gpipe --memory-limit 8"),
        );
    }
    // What is said is enough, also where it is no short number.
    let thirds = "check --schedule interleaved-1f1b --chunks 3 --nodes 2 --micro-batches 4";
    let output = brigade(
        folder.path(),
        &format!("schedule {thirds} --memory-limit 1"),
    );
    let said = String::from_utf8(output.stderr).unwrap();
    let (_, limit) = said.split_once("raise --memory-limit to ").unwrap();
    let (limit, _) = limit.split_once(',').unwrap();
    schedule(folder.path(), &format!("{thirds} --memory-limit {limit}"));
    fails(
        folder.path(),
        "compare --memory-limit 0.1",
        2,
        "--memory-limit is 0.1",
    );
    fails(
        folder.path(),
        "compare --memory-limit 0.1",
        2,
        "give 1 or more",
    );
    schedule(folder.path(), "compare --memory-limit 1");
}

/// ZB-H1 on two nodes, by hand: node 0 has two micro-batches before their I; node 1 one, and what
/// the I before it left.
#[test]
fn what_i_frees_is_not_kept() {
    let folder = folder();
    for (freed, kept) in [("0", [2.0, 2.0]), ("0.75", [2.0, 1.25]), ("1", [2.0, 1.0])] {
        let line = "--schedule zb-h1 --nodes 2 --micro-batches 4";
        let line = format!("simulate {line} --freed-at-input {freed}");
        assert_eq!(
            object(folder.path(), &line)["peak_stash"],
            json!(kept),
            "{freed}"
        );
    }
}

/// A pipe can be read once.
#[cfg(unix)]
#[test]
fn a_schedule_comes_through_a_pipe() {
    let folder = folder();
    for (text, code, wanted) in [
        (
            "0F0,0B0\n",
            0,
            "stdin, 1 node, 1 stage, 1 micro-batch: sound",
        ),
        ("\u{feff}0F0,0B0\r\n", 0, "sound"),
        (
            "0F0\n",
            1,
            "schedule file /dev/stdin, row 1, column 2: the row ends without 0B0",
        ),
    ] {
        for json in ["", " --json"] {
            let line = format!("schedule import --csv /dev/stdin{json}");
            let mut child = command(folder.path(), &line);
            let mut child = child.stdin(Stdio::piped()).spawn().unwrap();
            child
                .stdin
                .take()
                .unwrap()
                .write_all(text.as_bytes())
                .unwrap();
            let output = child.wait_with_output().unwrap();
            assert_eq!(output.status.code(), Some(code), "{output:?}");
            let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
            let wanted = if json.is_empty() || code != 0 {
                wanted
            } else {
                "\"sound\":true"
            };
            assert!(said.contains(wanted), "{said}");
        }
    }
}

#[test]
fn numbers_out_of_range_are_refused_with_the_range() {
    let folder = folder();
    for (option, wanted) in [
        (
            "--link-latency 1e200",
            "--link-latency is 1e200; it must be between 0 and 1e100",
        ),
        (
            "--link-latency -1",
            "--link-latency is -1; it must be between 0 and 1e100",
        ),
        (
            "--memory-limit inf",
            "--memory-limit is inf; it must be between 0 and 1e15 micro",
        ),
        (
            "--memory-limit 1e300",
            "--memory-limit is 1e300; it must be between 0 and 1e15",
        ),
        (
            "--freed-at-input nan",
            "--freed-at-input is NaN; it must be between 0 and 1",
        ),
        ("--nodes -1", "give a whole number, 1 or more"),
        ("--nodes 99999999999999999999", "this number is too large"),
        ("--micro-batches 1.5", "give a whole number, 1 or more"),
        ("--forward 1e101", "give a number of 0 or more, up to 1e100"),
    ] {
        fails(folder.path(), &format!("simulate {option}"), 2, wanted);
        let said = brigade(folder.path(), &format!("schedule simulate {option}")).stderr;
        assert!(said.len() < 160, "{}", String::from_utf8_lossy(&said));
    }
    fs::write(folder.path().join("one.csv"), "0F0,0B0\n").unwrap();
    let one = "show --schedule one.csv";
    fails(
        folder.path(),
        &format!("{one} --nodes 2"),
        2,
        "2 nodes: the file has 1 row; nearest is 1 node",
    );
    let two = format!("{one} --micro-batches 2");
    fails(
        folder.path(),
        &two,
        2,
        "2 micro-batches: the file has 1; nearest is 1 micro-batch",
    );
}

#[test]
fn what_is_too_large_to_draw_says_so() {
    let folder = folder();
    let large = "simulate --nodes 8 --micro-batches 40000";
    let said = schedule(folder.path(), large);
    assert!(said.contains("no picture and no critical path:"), "{said}");
    let object = object(folder.path(), large);
    assert_eq!(object["critical_path"], Value::Null);
    assert!(
        object["left_out"]
            .as_str()
            .unwrap()
            .contains("no critical path")
    );
}
