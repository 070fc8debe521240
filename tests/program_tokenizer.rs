//! Promise: a tokenizer may have tokens that a model lacks as long as they do not occur; it is no
//! text, nor is a model; and a run goes on with its own.
#![cfg(all(feature = "cli", feature = "tokenizers"))]
#![allow(missing_docs, clippy::unwrap_used)]

mod program;

use program::{SMALL, assert_fails, brigade, lines, sha, text};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// A folder with a tokenizer of 400 tokens, its text, a text of single letters, and a model of 300.
fn with_model() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/tokenizer");
    for name in ["text.txt", "tokenizer.json"] {
        fs::copy(goldens.join(name), at.join(name)).unwrap();
    }
    fs::write(at.join("letters.txt"), "q\nz\nx\n".repeat(200)).unwrap();
    let train = "train --synthetic-vocab 300 --steps 1 --out model";
    text(&brigade(at, &format!("{train} {SMALL}")));
    fs::copy(at.join("tokenizer.json"), at.join("model/tokenizer.json")).unwrap();
    folder
}

const SETTING: &str = "--batch-size 4 --micro-batch-size 2 --nodes 2 --steps 4 --json";

#[test]
fn tokens_that_do_not_occur_may_be_missing_in_the_model() {
    let folder = with_model();
    let at = folder.path();
    let train = |data: &str| brigade(at, &format!("train {data} --from model {SETTING}"));
    let trained = sha(&train("letters.txt --save-every 2 --out run"));
    let tokenize = |data: &str, out: &str| {
        let arguments = format!("tokenize {data} --tokenizer tokenizer.json --out {out}");
        text(&brigade(at, &arguments));
    };
    tokenize("letters.txt", "letters");
    tokenize("text.txt", "all");
    assert_eq!(sha(&train("letters --out again")), trained);
    let again = "train --resume run/checkpoints/step-2 --json --out later";
    assert_eq!(sha(&brigade(at, again)), trained);
    text(&brigade(at, "generate run --prompt q --tokens 5"));

    let few = train("text.txt --out bad");
    assert_fails(&few, "text", 1, "text.txt: token ");
    assert_fails(&few, "text", 1, "(of 400), the model knows 300");
    let few = train("all --out bad");
    assert_fails(&few, "tokens", 1, "train.bin: token ");
    assert_fails(&few, "tokens", 1, "outside a vocabulary of 300");
    let more = train("letters.txt --vocab 301 --out bad");
    assert_fails(&more, "--vocab", 1, "leave --vocab out");
}

#[test]
fn tokenizers_and_models_are_no_text() {
    let folder = with_model();
    let at = folder.path();
    fs::remove_file(at.join("text.txt")).unwrap();
    let said = lines(&brigade(
        at,
        "tokenize --tokenizer tokenizer.json --out tokens --json",
    ));
    assert_eq!(said[0]["about"]["source"], ". (1 file, 1200 bytes)");
    fs::remove_dir_all(at.join("tokens")).unwrap();
    let train = |more: &str| brigade(at, &format!("train {more} {SETTING} --save-every 2"));
    let trained = sha(&train("letters.txt --from model"));
    assert_eq!(sha(&train(". --from model --out run")), trained);
    // Neither is the run's own copy, nor what the run came from.
    let again = brigade(
        at,
        "train --resume run/checkpoints/step-2 --out later --json",
    );
    assert_eq!(sha(&again), trained);
    let resumed = &lines(&again)[0]["resumed"];
    assert_eq!(resumed["differs"].as_array().unwrap().len(), 0, "{resumed}");
}

#[test]
fn a_run_goes_on_with_its_own_tokenizer() {
    let folder = with_model();
    let at = folder.path();
    let begin = "train text.txt --tokenizer tokenizer.json --save-every 2 --out run";
    let whole = sha(&brigade(at, &format!("{begin} {SMALL} --steps 4 --json")));
    let json = fs::read_to_string(at.join("tokenizer.json")).unwrap();
    fs::write(at.join("same.json"), &json).unwrap();
    fs::write(at.join("other.json"), json + "\n").unwrap();
    fs::remove_file(at.join("tokenizer.json")).unwrap();
    let resume = "train --resume run/checkpoints/step-2 --json";
    let other = brigade(at, &format!("{resume} --tokenizer other.json --out other"));
    assert_fails(&other, "other", 2, "is another one than that of the run");
    assert!(!at.join("other").exists());
    for (name, more) in [("a", ""), ("b", "--tokenizer same.json")] {
        let output = brigade(at, &format!("{resume} {more} --out {name}"));
        assert_eq!(sha(&output), whole);
        let config = fs::read_to_string(at.join(name).join("config.toml")).unwrap();
        assert!(
            config.contains("tokenizer = \"run/tokenizer.json\""),
            "{config}"
        );
    }
}

/// Kept for the whole context, keys and values would be more than a node may hold.
#[test]
fn memory_is_refused_while_planning() {
    let folder = with_model();
    let at = folder.path();
    let train = format!("train text.txt {SMALL} --family llama --steps 1 --out llama");
    text(&brigade(at, &train));
    let file = at.join("llama/network.json");
    let network = fs::read_to_string(&file).unwrap();
    let context = network.lines().find(|line| line.contains("\"context\""));
    let long = network.replace(context.unwrap(), "\"context\": 16777216,");
    fs::write(&file, long).unwrap();
    let generate = |more: &str| brigade(at, &format!("generate llama --tokens 5 {more}"));
    let short = text(&generate("--node-memory 64MiB"));
    assert_eq!(text(&generate("--context 100")), short);
    let all = "--context 16777216 --node-memory 64MiB";
    assert_fails(&generate(all), "all", 1, "use more nodes");
    assert_fails(
        &generate("--node-memory 1KiB"),
        "little",
        1,
        "use more nodes",
    );
    let more = generate("--context 16777217");
    assert_fails(&more, "more", 2, "between 1 and 16777216");
}
