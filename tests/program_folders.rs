//! Promise: what goes with a model stays with it, no model is overwritten or mixed with another,
//! and what fails leaves nothing behind.
#![cfg(feature = "cli")]
#![allow(missing_docs, clippy::unwrap_used)]

mod program;

use program::models::{DATA, bytes, golden, model};
use program::{assert_fails, brigade, folder_with_text, text};
use serde_json::{Value, json};
use std::fs;

/// Also tokens that only its config.json names.
#[test]
fn the_tokens_of_a_model_stay_with_it() {
    let folder = folder_with_text();
    let at = folder.path();
    let there = at.join("llama");
    fs::create_dir(&there).unwrap();
    let golden = golden("llama");
    fs::copy(
        golden.join("model.safetensors"),
        there.join("model.safetensors"),
    )
    .unwrap();
    let config = fs::read_to_string(golden.join("config.json")).unwrap();
    let named = config
        .replace("\"bos_token_id\": null", "\"bos_token_id\": 3")
        .replace("\"pad_token_id\": null", "\"pad_token_id\": 4");
    assert_ne!(named, config);
    fs::write(there.join("config.json"), named).unwrap();
    fs::write(
        there.join("generation_config.json"),
        r#"{"eos_token_id": [5, 6]}"#,
    )
    .unwrap();
    text(&brigade(at, "import llama --out run"));
    for from in ["llama", "run"] {
        let trained = brigade(at, &format!("train --from {from} {DATA} --out of-{from}"));
        text(&trained);
        let warned = String::from_utf8(trained.stderr).unwrap();
        assert!(warned.contains("warning: pad_token_id is 4"), "{warned}");
        assert_eq!(warned.lines().count(), 1, "{warned}");
        text(&brigade(at, &format!("export of-{from} --out back-{from}")));
        let back = at.join(format!("back-{from}"));
        let config: Value = serde_json::from_slice(&bytes(&back, "config.json")).unwrap();
        assert_eq!(config["bos_token_id"], 3);
        assert_eq!(config["pad_token_id"], 4);
        assert_eq!(config["eos_token_id"], json!([5, 6]));
        assert!(!back.join("token_ids.json").exists());
        let kept = [&there, &back].map(|folder| bytes(folder, "generation_config.json"));
        assert_eq!(kept[0], kept[1]);
    }
    // Of another model nothing is mixed in.
    for name in ["generation_config.json", "vocab.json"] {
        let _ = fs::remove_dir_all(at.join("stale"));
        fs::create_dir(at.join("stale")).unwrap();
        fs::write(at.join("stale").join(name), "{}").unwrap();
        let wanted = format!("stale has {name} already; give another folder");
        let export = "export run --out stale";
        assert_fails(&brigade(at, export), export, 1, &wanted);
        let import = "import llama --out stale";
        let wanted = format!("stale has {name} of another model");
        assert_fails(&brigade(at, import), import, 2, &wanted);
    }
}

#[test]
fn an_import_that_fails_leaves_nothing_behind() {
    let folder = folder_with_text();
    let at = folder.path();
    let odd = model(at, "odd");
    fs::create_dir(odd.join("vocab.json")).unwrap();
    let import = "import odd --out run";
    assert_fails(&brigade(at, import), import, 1, "odd/vocab.json");
    assert!(!at.join("run").exists());
    fs::remove_dir(odd.join("vocab.json")).unwrap();
    // A file in its way.
    fs::create_dir_all(at.join("run/.config.toml.part")).unwrap();
    assert_fails(&brigade(at, import), import, 1, "run/config.toml");
    for name in ["weights.safetensors", "network.json", "tokenizer.json"] {
        assert!(!at.join("run").join(name).exists(), "{name}");
    }
    fs::remove_dir(at.join("run/.config.toml.part")).unwrap();
    text(&brigade(at, import));
}

/// A config.toml may be of anything, and what is no file is not waited for.
#[test]
fn a_folder_is_what_it_has() {
    let folder = folder_with_text();
    let at = folder.path();
    let there = model(at, "there");
    fs::write(there.join("config.toml"), "title = 'a site'").unwrap();
    text(&brigade(at, "import there --out run"));
    let config = at.join("run/config.toml");
    fs::remove_file(&config).unwrap();
    fs::remove_file(there.join("config.json")).unwrap();
    #[cfg(unix)]
    for (pipe, arguments) in [
        (&there.join("config.json"), "import there"),
        (&config, "generate run"),
    ] {
        let made = std::process::Command::new("mkfifo").arg(pipe).status();
        assert!(made.unwrap().success());
        assert_fails(&brigade(at, arguments), arguments, 1, "it is no file");
    }
}

#[test]
fn no_model_is_overwritten_by_a_training() {
    let folder = folder_with_text();
    let at = folder.path();
    let there = model(at, "there");
    text(&brigade(at, "import there --out run"));
    text(&brigade(
        at,
        &format!("train --from run {DATA} --out tuned"),
    ));
    let before = [
        bytes(&at.join("run"), "weights.safetensors"),
        bytes(&there, "config.json"),
    ];
    for (from, out, wanted) in [
        ("run", "run", "that --from starts from; give another folder"),
        ("there", "run/../there", "that --from starts from"),
        ("tuned", "./tuned", "that --from starts from"),
        (
            "tuned",
            "run",
            "weights.safetensors of a model that was not trained",
        ),
        (
            "tuned",
            "there",
            "config.json of a model that was not trained",
        ),
    ] {
        let arguments = format!("train --from {from} {DATA} --out {out}");
        assert_fails(&brigade(at, &arguments), &arguments, 2, wanted);
    }
    let after = [
        bytes(&at.join("run"), "weights.safetensors"),
        bytes(&there, "config.json"),
    ];
    assert_eq!(before, after);
    assert!(at.join("tuned/weights.safetensors").exists());
    // A run that is at its end gives way.
    text(&brigade(
        at,
        &format!("train --from run {DATA} --out tuned"),
    ));
}
