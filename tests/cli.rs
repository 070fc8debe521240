//! The program, as a user would run it.
#![cfg(feature = "cli")]
#![allow(missing_docs, clippy::unwrap_used)]

use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const SMALL: &str =
    "--layers 2 --width 16 --heads 2 --context 8 --batch-size 6 --micro-batch-size 2";

fn brigade(folder: &Path, arguments: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_brigade"));
    command
        .current_dir(folder)
        .args(arguments.split_whitespace())
        .output()
        .unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).expect("one JSON object a line"))
        .collect()
}

fn folder_with_text() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let text: String = (0..400)
        .map(|n| format!("line {n} of a small text\n"))
        .collect();
    fs::write(folder.path().join("text.txt"), text).unwrap();
    folder
}

fn sha(output: &Output) -> String {
    lines(output).last().unwrap()["summary"]["weights_sha256"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[test]
fn json_is_one_object_a_line_and_a_summary() {
    let folder = folder_with_text();
    let output = brigade(
        folder.path(),
        &format!("train text.txt {SMALL} --steps 5 --nodes 2 --json"),
    );
    let lines = lines(&output);
    assert_eq!(lines.len(), 6);
    for (step, line) in lines[..5].iter().enumerate() {
        assert_eq!(line["step"], step);
        let keys: Vec<_> = line
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(keys, ["grad_norm", "loss", "lr", "step", "step_ms"]);
        assert!(
            line.as_object()
                .unwrap()
                .values()
                .all(|value| value.as_f64().is_some_and(f64::is_finite))
        );
    }
    let summary = lines[5]["summary"].as_object().unwrap();
    assert_eq!(summary["final_loss"], lines[4]["loss"]);
    assert!(summary["tokens_per_s"].as_f64().unwrap() > 0.0);
    assert!((1.0..8.0).contains(&summary["val_loss"].as_f64().unwrap()));
    assert_eq!(summary["weights_sha256"].as_str().unwrap().len(), 64);
}

#[test]
fn the_run_folder_has_plan_losses_and_weights_and_the_string_follows_from_them() {
    let folder = folder_with_text();
    let run = |out: &str, more: &str| {
        brigade(
            folder.path(),
            &format!(
                "train text.txt {SMALL} --tied --dropout 0.1 --steps 4 --out {out} --json {more}"
            ),
        )
    };
    let output = run("one", "--nodes 1");
    let plan: Value =
        serde_json::from_str(&fs::read_to_string(folder.path().join("one/plan.json")).unwrap())
            .unwrap();
    let losses = fs::read_to_string(folder.path().join("one/losses.csv")).unwrap();
    assert_eq!(
        losses.lines().next().unwrap(),
        "step,loss,grad_norm,lr,step_ms"
    );
    assert_eq!(losses.lines().count(), 5);
    let file = fs::read(folder.path().join("one/weights.safetensors")).unwrap();

    // The plan names the layers in order; the parameters of each follow in the order in which it
    // names them.
    assert_eq!(plan["layers"][0], "embed");
    let tensors = safetensors::SafeTensors::deserialize(&file).unwrap();
    let digest = |key: &str| Sha256::digest(tensors.tensor(key).unwrap().data());
    let mut all = Sha256::new();
    let block = |n: usize| {
        let keys = [
            "ln_1",
            "attn.c_attn",
            "attn.c_proj",
            "ln_2",
            "mlp.c_fc",
            "mlp.c_proj",
        ];
        keys.map(|key| format!("h.{n}.{key}.weight"))
    };
    let keys = ["wte.weight".to_owned(), "wpe.weight".to_owned()].into_iter();
    for key in keys
        .chain(block(0))
        .chain(block(1))
        .chain(["ln_f.weight".to_owned()])
    {
        all.update(digest(&key));
    }
    let string: String = all
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(string, sha(&output));

    for more in [
        "--nodes 4",
        "--nodes 3 --schedule gpipe",
        "--nodes 2 --cuts 1 --threads-per-node 2",
        "--nodes 8",
    ] {
        let other = run("other", more);
        assert_eq!(sha(&other), string, "{more}");
        assert_eq!(
            fs::read(folder.path().join("other/weights.safetensors")).unwrap(),
            file,
            "{more}"
        );
        let loss = |output: &Output| lines(output).last().unwrap()["summary"]["val_loss"].clone();
        assert_eq!(loss(&other), loss(&output), "{more}");
    }
    assert_ne!(sha(&run("seed", "--seed 2")), string);
}

#[test]
fn runs_are_numbered_unless_named() {
    let folder = folder_with_text();
    for number in ["runs/1", "runs/2"] {
        let output = brigade(folder.path(), &format!("train {SMALL} --steps 2"));
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(
            folder
                .path()
                .join(number)
                .join("weights.safetensors")
                .exists()
        );
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            text.contains("validation loss") && text.contains(number),
            "{text}"
        );
    }
    let measured = brigade(
        folder.path(),
        &format!("train --synthetic-vocab 100 {SMALL} --steps 2 --json"),
    );
    assert_eq!(lines(&measured).len(), 3);
    assert!(
        !folder.path().join("runs/3").exists(),
        "measuring leaves nothing"
    );
}

/// Git-ignored, hidden and non-text files do not change what is read.
#[test]
fn a_folder_is_its_text_files_in_order() {
    let folder = folder_with_text();
    let run = || {
        sha(&brigade(
            folder.path(),
            &format!("train . {SMALL} --steps 2 --nodes 2 --json --out {}", out()),
        ))
    };
    let first = run();
    fs::create_dir(folder.path().join(".git")).unwrap();
    fs::write(folder.path().join(".gitignore"), "ignored/\n").unwrap();
    fs::create_dir(folder.path().join("ignored")).unwrap();
    fs::write(folder.path().join("ignored/more.txt"), "not read").unwrap();
    fs::write(folder.path().join(".hidden.txt"), "not read").unwrap();
    fs::write(folder.path().join("picture.bin"), [0u8, 1, 2, 255]).unwrap();
    fs::write(folder.path().join("latin1.txt"), [b'a', 0xe4, b'b']).unwrap();
    assert_eq!(run(), first);
    fs::write(folder.path().join("zzz.txt"), "read\n").unwrap();
    assert_ne!(run(), first);
}

fn out() -> String {
    std::env::temp_dir()
        .join(format!("brigade-cli-{}", std::process::id()))
        .display()
        .to_string()
}

/// Every bad input gives one line that says what to change, and the right exit code; nothing
/// panics.
#[test]
fn bad_input_is_one_line_and_an_exit_code() {
    let folder = folder_with_text();
    fs::write(folder.path().join("empty.txt"), "").unwrap();
    fs::write(folder.path().join("file"), "in the way").unwrap();
    fs::create_dir(folder.path().join("none")).unwrap();
    let table = [
        ("--nodes 0", 2, "--nodes is 0"),
        ("--nodes 99", 2, "use at most 8 nodes"),
        ("--chunks 2", 2, "--chunks is 2"),
        ("--cuts 3,1", 2, "rising numbers between 1 and 7"),
        ("--cuts x", 2, "layer numbers such as 3,6,9"),
        ("--heads 3", 2, "make it 15 or 18"),
        ("--heads 0", 2, "heads is 0"),
        ("--layers 100000000", 2, "the most is 100000"),
        ("--schedule zbv", 2, "gpipe, 1f1b"),
        ("--micro-batch-size 7", 2, "between 1 and 6"),
        ("--batch-size 0", 2, "--batch-size is 0"),
        ("--threads-per-node 0", 2, "--threads-per-node is 0"),
        ("--threads-per-node 60000", 2, "between 1 and 1024"),
        ("--steps 0", 2, "--steps"),
        ("--lr -1", 2, "learning rate"),
        ("--lr nan", 2, "learning rate"),
        ("--betas 1,2", 2, "such as 0.9,0.99"),
        ("--clip -1", 2, "--clip is -1"),
        ("--clip nan", 2, "--clip is NaN"),
        ("--dropout 1.5", 2, "dropout probability of 1.5"),
        ("--weight-decay -1", 2, "weight_decay is -1"),
        ("--optimizer adagrad", 2, "adamw"),
        ("--synthetic-vocab 0", 2, "--synthetic-vocab is 0"),
        ("--context 100000", 1, "too short"),
        ("--lr 1e30 --steps 3", 1, "not finite"),
        ("--out file", 1, "cannot make file"),
        ("--out text.txt/x", 1, "cannot make text.txt/x"),
    ];
    for (arguments, code, wanted) in table {
        check(
            &brigade(
                folder.path(),
                &format!("train text.txt {SMALL} {arguments}"),
            ),
            arguments,
            code,
            wanted,
        );
    }
    for (data, wanted) in [
        ("missing", "cannot read missing"),
        ("empty.txt", "too short"),
        ("none", "no text files"),
    ] {
        check(
            &brigade(folder.path(), &format!("train {data} {SMALL}")),
            data,
            1,
            wanted,
        );
    }
    check(&brigade(folder.path(), "trian"), "trian", 2, "train");
    check(
        &brigade(folder.path(), "train --nods 3"),
        "--nods",
        2,
        "--nodes",
    );
    assert!(brigade(folder.path(), "train --help").status.success());
}

fn check(output: &Output, arguments: &str, code: i32, wanted: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments}: {text}");
    let first = text.lines().next().unwrap_or_default();
    assert!(first.starts_with("error: "), "{arguments}: {text}");
    assert!(text.contains(wanted), "{arguments}: {text}");
    assert!(
        !text.contains("panicked") && !text.contains("RUST_BACKTRACE"),
        "{arguments}: {text}"
    );
}

/// A reader that goes away early is no error and no panic.
#[test]
fn a_closed_pipe_is_no_error() {
    use std::io::Read;
    let folder = folder_with_text();
    let arguments = format!("train text.txt {SMALL} --steps 200 --json");
    let mut child = Command::new(env!("CARGO_BIN_EXE_brigade"))
        .current_dir(folder.path())
        .args(arguments.split_whitespace())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut some = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut some).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
}
