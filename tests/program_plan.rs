//! Promise: the program says what fits and is fastest before it trains, and trains what it said.
#![cfg(feature = "cli")]
#![allow(missing_docs, clippy::unwrap_used)]

use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn brigade(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_brigade"))
        .current_dir(folder)
        .args(arguments)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The last line of what a run printed as JSON.
fn json(output: &Output) -> Value {
    let text = text(&output.stdout);
    serde_json::from_str(text.lines().last().unwrap_or_default()).unwrap()
}

const LAYERS: &str = r#"[
  {"name": "a", "forward": 2, "backward_input": 2, "backward_weight": 1, "parameter_bytes": 400,
   "stash_bytes": 4000, "output_bytes": 100},
  {"name": "b", "forward": 1, "backward_input": 1, "backward_weight": 1, "parameter_bytes": 400,
   "stash_bytes": 4000, "output_bytes": 8},
  {"name": "c", "forward": 1, "backward_input": 1, "backward_weight": 1, "parameter_bytes": 400,
   "stash_bytes": 4000, "output_bytes": 100},
  {"name": "d", "forward": 2, "backward_input": 1, "backward_weight": 1, "parameter_bytes": 400,
   "stash_bytes": 4000, "output_bytes": 4}
]"#;

const NODES: &str = r#"[
  {"name": "left", "memory": "1MiB", "bandwidth": 10},
  {"name": "right", "memory": "1MiB", "bandwidth": 20, "speed": 2}
]"#;

#[test]
fn layers_and_nodes_of_files_are_planned() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("layers.json"), LAYERS).unwrap();
    fs::write(folder.path().join("nodes.json"), NODES).unwrap();
    let plan = |more: &[&str]| {
        let mut all = vec!["plan", "--layers-file", "layers.json", "--batch-size", "4"];
        all.extend(["--micro-batch-size", "1", "--json"]);
        all.extend(more);
        let output = brigade(folder.path(), &all);
        assert!(output.status.success(), "{}", text(&output.stderr));
        json(&output)
    };
    let plain = plan(&["--nodes", "2"]);
    assert_eq!(plain["cuts"], serde_json::json!([2]));
    assert_eq!(plain["bottleneck"], 8.0);
    assert_eq!(plain["feasible"], true);
    // The second node is twice as fast: one layer, and a message of 100 bytes in 10 seconds.
    let link = plan(&["--nodes-file", "nodes.json"]);
    assert_eq!(link["cuts"], serde_json::json!([2]));
    assert_eq!(link["bottleneck"], 10.0 * 0.8);
    let both = plan(&["--nodes-file", "nodes.json", "--cut-cost", "both"]);
    assert_eq!(both["cuts"], serde_json::json!([2]));
    assert_eq!(both["bottleneck"], 8.0 + 0.8);
    let cut = plan(&["--nodes", "2", "--layout", "l|l*3"]);
    assert_eq!(
        (&cut["cuts"], &cut["bottleneck"]),
        (&serde_json::json!([1]), &10.0.into())
    );
    let peaks = cut["peak_bytes"].as_array().unwrap();
    assert_eq!(peaks.len(), 2);
    let all = plan(&["--nodes", "2", "--schedule", "auto"]);
    assert!(all["candidates"].as_array().unwrap().len() > 3);
    assert!(all["step_time"].as_f64().unwrap() <= plain["step_time"].as_f64().unwrap());
}

#[test]
fn what_does_not_fit_is_said_with_what_would_do() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("layers.json"), LAYERS).unwrap();
    let all = [
        "plan",
        "--layers-file",
        "layers.json",
        "--nodes",
        "2",
        "--batch-size",
        "8",
    ];
    let more = [
        "--micro-batch-size",
        "1",
        "--schedule",
        "gpipe",
        "--node-memory",
        "40000",
    ];
    let output = brigade(folder.path(), &[&all[..], &more, &["--json"]].concat());
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(json(&output)["feasible"], false);
    let error = text(&output.stderr);
    for words in [
        "needs",
        "may hold 40000",
        "what would do",
        "nodes",
        "bytes more",
    ] {
        assert!(error.contains(words), "{words}: {error}");
    }
    let auto = ["--schedule", "auto", "--recompute", "auto"];
    let output = brigade(
        folder.path(),
        &[&all[..], &more, &auto, &["--json"]].concat(),
    );
    assert!(output.status.success(), "{}", text(&output.stderr));
    let peaks = json(&output)["peak_bytes"].as_array().unwrap().clone();
    assert!(
        peaks.iter().all(|peak| peak.as_u64().unwrap() <= 40_000),
        "{peaks:?}"
    );
}

const SMALL: [&str; 12] = [
    "--synthetic-vocab",
    "31",
    "--layers",
    "2",
    "--width",
    "16",
    "--heads",
    "2",
    "--context",
    "8",
    "--eval-every",
    "0",
];

/// A plan that was saved is trained as it says; the numbers are those of the same settings.
#[test]
fn a_saved_plan_is_trained() {
    let folder = tempfile::tempdir().unwrap();
    let batch = ["--batch-size", "8", "--micro-batch-size", "2"];
    let order = [
        "--nodes",
        "2",
        "--schedule",
        "zb-v",
        "--recompute",
        "always",
    ];
    let out = ["--out", "plan.json"];
    let planned = brigade(
        folder.path(),
        &[&["plan"][..], &SMALL, &batch, &order, &out].concat(),
    );
    assert!(planned.status.success(), "{}", text(&planned.stderr));
    let steps = ["--steps", "4", "--json"];
    let train = |more: &[&str]| {
        let output = brigade(
            folder.path(),
            &[&["train"][..], &SMALL, &steps, more].concat(),
        );
        assert!(output.status.success(), "{}", text(&output.stderr));
        json(&output)["summary"].clone()
    };
    let (planned, usual) = (train(&["--plan", "plan.json"]), train(&batch));
    assert_eq!(planned["weights_sha256"], usual["weights_sha256"]);
    assert_eq!(planned["peak_bytes"].as_array().unwrap().len(), 2);
    assert!(planned["predicted"]["step_ms"].as_f64().unwrap() > 0.0);

    // The run's configuration is the same run again, without the plan.
    let out = ["--plan", "plan.json", "--out", "run"];
    train(&out);
    let again = brigade(
        folder.path(),
        &["train", "--config", "run/config.toml", "--json"],
    );
    assert!(again.status.success(), "{}", text(&again.stderr));
    let again = &json(&again)["summary"];
    assert_eq!(again["weights_sha256"], planned["weights_sha256"]);
    assert_eq!(again["peak_bytes"].as_array().unwrap().len(), 2);

    let refused = |name: &str, more: &[&str]| {
        let arguments = [&["train"][..], &SMALL, &steps, &["--plan", name], more].concat();
        let output = brigade(folder.path(), &arguments);
        assert!(!output.status.success());
        text(&output.stderr)
    };
    let error = refused("plan.json", &["--width", "32"]);
    assert!(error.contains("another network"), "{error}");
    let saved = fs::read_to_string(folder.path().join("plan.json")).unwrap();
    let changed = saved.replacen("\"0F1\"", "\"0F2\"", 1);
    fs::write(folder.path().join("changed.json"), changed).unwrap();
    let error = refused("changed.json", &[]);
    assert!(
        error.contains("done before") || error.contains("plan again"),
        "{error}"
    );
    let lines = saved.lines().count();
    fs::write(folder.path().join("half.json"), &saved[..saved.len() / 2]).unwrap();
    let error = refused("half.json", &[]);
    assert!(error.contains("half.json, line") && lines > 10, "{error}");
}

/// What is left open is chosen, and what was chosen is trained.
#[test]
fn a_training_plans_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let auto = ["--nodes", "2", "--schedule", "auto", "--recompute", "auto"];
    let batch = ["--batch-size", "8", "--micro-batch-size", "auto"];
    let steps = ["--steps", "3"];
    let output = brigade(
        folder.path(),
        &[&["train"][..], &SMALL, &auto, &batch, &steps].concat(),
    );
    let said = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(
        said.contains("chosen: ") && said.contains("predicted"),
        "{said}"
    );
}

#[test]
fn bad_files_are_refused_with_their_line() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |option: &str, content: &str, line: &str| {
        fs::write(folder.path().join("bad.json"), content).unwrap();
        let arguments = ["plan", "--nodes", "2", "--layers-file", "good.json"];
        fs::write(folder.path().join("good.json"), LAYERS).unwrap();
        let all = match option {
            "--layers-file" => vec!["plan", "--nodes", "2", option, "bad.json"],
            _ => [&arguments[..1], &arguments[3..], &[option, "bad.json"]].concat(),
        };
        let output = brigade(folder.path(), &all);
        let error = text(&output.stderr);
        assert!(!output.status.success(), "{content}");
        assert!(
            error.contains(&format!("bad.json, line {line}")),
            "{content}: {error}"
        );
        assert!(!error.contains("bug"), "{error}");
    };
    refused(
        "--layers-file",
        &LAYERS.replacen("\"forward\": 1", "\"forward\": -1", 1),
        "4",
    );
    refused(
        "--layers-file",
        &LAYERS.replacen("\"name\": \"b\"", "\"name\": \"a\"", 1),
        "4",
    );
    refused(
        "--layers-file",
        &LAYERS.replacen("\"stash_bytes\": 4000", "\"s\": 4000", 1),
        "3",
    );
    refused("--nodes-file", &NODES.replacen("1MiB", "1 parsec", 1), "2");
    refused(
        "--nodes-file",
        &NODES.replacen("\"right\"", "\"left\"", 1),
        "3",
    );
    refused(
        "--nodes-file",
        &NODES.replacen("\"speed\": 2", "\"speed\": 0", 1),
        "3",
    );
}

/// The example of the documentation: each skip is a line below the table, and in JSON.
#[test]
fn skips_are_said() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let file = "docs/examples/unet.json";
    let options = ["--layers-file", file, "--nodes", "5", "--cuts", "uniform"];
    let all = [&["plan", "--schedule", "1f1b"][..], &options].concat();
    let output = brigade(here, &all);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    let line = "skip down 1 -> up 1: stage 0 -> stage 3, 64 MiB a micro-batch";
    assert!(said.contains(line), "{said}");
    let found = json(&brigade(here, &[&all[..], &["--json"]].concat()));
    assert_eq!(found["skips"][0]["bytes"], 32 << 20, "{found}");
}
