//! Promise: models of Hugging Face come in, are trained on, and go out again; a run keeps its
//! network; what does not go is one line.
#![cfg(feature = "cli")]
#![allow(missing_docs, clippy::unwrap_used)]

mod program;

use program::models::{DATA, bytes, golden, model};
use program::{SMALL, assert_fails, brigade, folder_with_text, lines, sha, text};
use std::fs;

#[test]
fn a_model_comes_in_and_goes_out_as_it_was() {
    let folder = folder_with_text();
    let at = folder.path();
    model(at, "there");
    let said = lines(&brigade(at, "import there --json"));
    let imported = &said[0]["imported"];
    assert_eq!(imported["run"], "runs/1");
    assert_eq!(imported["parameters"], 7216);
    let run = at.join("runs/1");
    assert_eq!(bytes(&run, "tokenizer.json"), b"{}");
    let said = text(&brigade(at, "export --out back"));
    assert!(said.contains("28 tensors of f32"), "{said}");
    let back = at.join("back");
    assert_eq!(bytes(&back, "tokenizer.json"), b"{}");
    let config = String::from_utf8(bytes(&back, "config.json")).unwrap();
    assert!(config.contains("\"eos_token_id\": 5"), "{config}");
    // In again, it is the same run.
    let said = text(&brigade(at, "import back --out again"));
    assert!(said.contains("brigade train DATA --from again"), "{said}");
    for file in ["weights.safetensors", "network.json", "config.toml"] {
        assert_eq!(bytes(&run, file), bytes(&at.join("again"), file), "{file}");
    }
    let said = lines(&brigade(
        at,
        "export again --out small --dtype bf16 --shard-size 12kB --json",
    ));
    let exported = &said[0]["exported"];
    assert_eq!(exported["bytes"], 14432);
    assert_eq!(exported["files"].as_array().unwrap().len(), 3);
    text(&brigade(at, "import small"));
}

#[test]
fn a_training_starts_from_a_model_wherever_it_is() {
    let folder = folder_with_text();
    let at = folder.path();
    model(at, "there");
    text(&brigade(at, "import there --out run"));
    let trained =
        |from: &str, more: &str| sha(&brigade(at, &format!("train --from {from} {DATA} {more}")));
    let wanted = trained("there", "--nodes 1");
    assert_eq!(trained("run", "--nodes 2"), wanted);
    assert_eq!(trained("there", "--nodes 4 --out tuned"), wanted);
    assert_ne!(trained("there", "--lr 1e-4"), wanted);
    let tuned = at.join("tuned");
    assert_eq!(bytes(&tuned, "tokenizer.json"), b"{}");
    // From there once more, with shorter windows; the table of positions stays whole.
    text(&brigade(
        at,
        &format!("train --from tuned --context 8 {DATA} --out short"),
    ));
    let network = String::from_utf8(bytes(&at.join("short"), "network.json")).unwrap();
    assert!(network.contains("\"positions\": 16"), "{network}");
    text(&brigade(at, "export short --out back"));
    let config = String::from_utf8(bytes(&at.join("back"), "config.json")).unwrap();
    assert!(config.contains("\"n_positions\": 16"), "{config}");
    // In the folder of a run that had a tokenizer.
    text(&brigade(
        at,
        &format!("train --synthetic-vocab 23 {SMALL} --steps 2 --out tuned"),
    ));
    assert!(
        !tuned.join("tokenizer.json").exists(),
        "it was another run's"
    );
    // A plan knows the network, too.
    let said = text(&brigade(
        at,
        "plan --synthetic-vocab 23 --from there --nodes 2",
    ));
    assert!(said.contains("7216 parameters"), "{said}");
}

#[test]
fn a_run_goes_on_with_the_network_that_it_was_begun_with() {
    let folder = folder_with_text();
    let at = folder.path();
    // An eps that no option has.
    let there = model(at, "there");
    let config = fs::read_to_string(there.join("config.json")).unwrap();
    fs::write(there.join("config.json"), config.replace("1e-05", "1e-03")).unwrap();
    let run = format!("train --from there {DATA} --save-every 1 --keep 0");
    let whole = sha(&brigade(at, &format!("{run} --out whole")));
    let checkpoint = "whole/checkpoints/step-2";
    let again = brigade(
        at,
        &format!("train --resume {checkpoint} --out other --json"),
    );
    assert_eq!(sha(&again), whole);
    let eps = String::from_utf8(bytes(&at.join("other"), "network.json")).unwrap();
    assert!(eps.contains("\"eps\": 0.001"), "{eps}");
    // The network of older runs is in their options.
    let old = format!("train text.txt {SMALL} --steps 2 --out old");
    text(&brigade(at, &old));
    let network = bytes(&at.join("old"), "network.json");
    fs::remove_file(at.join("old/network.json")).unwrap();
    text(&brigade(at, "generate old --tokens 3"));
    text(&brigade(at, "export old --out of-old"));
    text(&brigade(at, "import of-old --out again"));
    let again = bytes(&at.join("again"), "network.json");
    assert_ne!(again, network, "there it has biases, which are zeros");
}

/// Of all that it was begun with nothing is needed to go on, or to use it.
#[test]
fn a_configuration_keeps_what_a_run_was_begun_with() {
    let folder = folder_with_text();
    let at = folder.path();
    let there = model(at, "there");
    let run = format!("train --from there {DATA} --save-every 1 --keep 0 --context 8");
    let whole = sha(&brigade(at, &format!("{run} --out whole")));
    let config = String::from_utf8(bytes(&at.join("whole"), "config.toml")).unwrap();
    let from = std::path::absolute(&there).unwrap();
    assert!(config.contains(&format!("from = {from:?}")), "{config}");
    assert!(config.contains("# layers =") && config.contains("context = 8"));
    let again = "train --config whole/config.toml --json --out again";
    assert_eq!(sha(&brigade(at, again)), whole);
    fs::rename(&there, at.join("gone")).unwrap();
    assert_fails(&brigade(at, again), again, 1, "there");
    let resume = "train --resume whole/checkpoints/step-2 --json";
    assert_eq!(sha(&brigade(at, &format!("{resume} --out on"))), whole);
    // What goes with the model goes along, and on from there once more.
    let on = at.join("on");
    assert_eq!(
        bytes(&on, "generation_config.json"),
        br#"{"eos_token_id": 5}"#
    );
    text(&brigade(
        at,
        "train --resume on --steps 4 --config on/config.toml",
    ));
    text(&brigade(at, "export on --out back"));
    // With another context it is still this network.
    text(&brigade(at, &format!("{resume} --context 4 --out short")));
    let network = String::from_utf8(bytes(&at.join("short"), "network.json")).unwrap();
    assert!(network.contains("\"positions\": 16") && network.contains("\"context\": 4"));
    let long = "train --resume whole --context 17";
    assert_fails(&brigade(at, long), long, 2, "make it 16 or less");
}

#[test]
fn what_does_not_go_is_one_line() {
    let folder = folder_with_text();
    let at = folder.path();
    let there = model(at, "there");
    text(&brigade(at, "import there --out run"));
    let odd = model(at, "odd");
    let config = fs::read_to_string(odd.join("config.json")).unwrap();
    fs::write(
        odd.join("config.json"),
        config.replace("gelu_new", "gelu_fast"),
    )
    .unwrap();
    let wide = model(at, "wide");
    fs::write(
        wide.join("config.json"),
        config.replace("\"n_embd\": 16", "\"n_embd\": 32"),
    )
    .unwrap();
    let cut = model(at, "cut");
    fs::write(
        cut.join("model.safetensors"),
        &bytes(&there, "model.safetensors")[..5000],
    )
    .unwrap();
    fs::create_dir(at.join("hollow")).unwrap();
    fs::remove_file(model(at, "bare").join("tokenizer.json")).unwrap();
    let tokenizer = golden("../tokenizer/tokenizer.json");
    fs::copy(tokenizer, at.join("tokenizer.json")).unwrap();
    for (arguments, code, wanted) in [
        ("import missing", 1, "cannot read missing"),
        ("import hollow", 1, "cannot read hollow/config.toml"),
        ("import run", 2, "run is a run folder already"),
        ("import there --out run", 2, "run has config.toml of a run"),
        (
            "import odd",
            1,
            "activation_function is \"gelu_fast\"; supported: gelu_new",
        ),
        ("import wide", 1, "has shape [48], this network's has [96]"),
        ("import cut", 1, "cut/model.safetensors: tensor"),
        ("import", 2, "<FOLDER>"),
        ("export run", 2, "--out"),
        (
            "export there --out x",
            2,
            "is a folder of Hugging Face already",
        ),
        (
            "export run --out there",
            1,
            "there has config.json already; give another folder",
        ),
        ("export run --out x --dtype f64", 2, "give f32, bf16 or f16"),
        ("export run --out x --shard-size 0", 2, "--shard-size is 0"),
        ("export run --out x --shard-size 5megs", 2, "such as 512MiB"),
        ("export run --out text.txt/x", 1, "cannot write text.txt/x"),
        ("train text.txt --from missing", 1, "cannot read missing"),
        ("train text.txt --from there", 1, "it is no tokenizer.json"),
        (
            "train text.txt --from bare",
            2,
            "the model of --from has tokens of its own",
        ),
        (
            "train text.txt --from bare --tokenizer tokenizer.json",
            1,
            "the model knows 23",
        ),
        (
            "train --synthetic-vocab 23 --from there --width 8",
            2,
            "--width <N>",
        ),
        (
            "train --synthetic-vocab 23 --from there --tied",
            2,
            "--tied",
        ),
        (
            "train --synthetic-vocab 23 --from there --family llama",
            2,
            "--family <NAME>",
        ),
        (
            "train --synthetic-vocab 23 --from there --context 17",
            2,
            "make it 16 or less",
        ),
        (
            "train --synthetic-vocab 23 --from wide --steps 1",
            1,
            "this network's has [23, 32]",
        ),
        (
            "train --synthetic-vocab 23 --from cut --steps 1",
            1,
            "cut/model.safetensors",
        ),
    ] {
        assert_fails(&brigade(at, arguments), arguments, code, wanted);
    }
    assert!(
        !at.join("runs/1/config.toml").exists(),
        "what does not fit leaves no run"
    );
}
