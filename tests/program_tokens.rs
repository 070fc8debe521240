//! Promise: text, its tokens in memory and its token files are one and the same to train on, on any
//! number of nodes; token files are there whole or not at all; and a run keeps what makes text of
//! its tokens.
#![cfg(all(feature = "cli", feature = "tokenizers"))]
#![allow(missing_docs, clippy::unwrap_used)]

mod program;

use program::{SMALL, assert_fails, brigade, folder_with_text, lines, sha, summary, text};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn golden(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/tokenizer");
    folder.join(name)
}

/// A folder with a text, its tokenizer, and its tokens in `tokens`.
fn tokenized() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["text.txt", "tokenizer.json"] {
        fs::copy(golden(name), folder.path().join(name)).unwrap();
    }
    let arguments = "tokenize text.txt --tokenizer tokenizer.json --out tokens";
    let said = text(&brigade(folder.path(), arguments));
    assert!(
        said.contains("4781 tokens to train on and 531 to validate on"),
        "{said}"
    );
    folder
}

fn ids_of(file: &Path) -> Vec<u16> {
    let bytes = fs::read(file).unwrap();
    bytes
        .chunks(2)
        .map(|two| u16::from_le_bytes(two.try_into().unwrap()))
        .collect()
}

fn write_ids(file: &Path, ids: &[u16], width: usize) {
    let bytes = ids
        .iter()
        .flat_map(|id| u32::from(*id).to_le_bytes()[..width].to_vec());
    fs::write(file, bytes.collect::<Vec<_>>()).unwrap();
}

/// An NPY file as NumPy writes it.
fn write_npy(file: &Path, ids: &[u16]) {
    let count = ids.len();
    let header = format!("{{'descr': '<u2', 'fortran_order': False, 'shape': ({count},), }}\n");
    let length = (header.len() as u16).to_le_bytes();
    let numbers: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
    let all = [
        b"\x93NUMPY\x01\x00",
        &length[..],
        header.as_bytes(),
        &numbers,
    ]
    .concat();
    fs::write(file, all).unwrap();
}

#[test]
fn text_and_its_tokens_are_the_same_to_train_on() {
    let folder = tokenized();
    let at = folder.path();
    let run = |data: &str| {
        let arguments = format!("train {data} {SMALL} --steps 12 --json --out out");
        let output = brigade(at, &arguments);
        (sha(&output), summary(&output)["val_loss"].clone())
    };
    let in_memory = run("text.txt --tokenizer tokenizer.json");
    assert_eq!(run("tokens"), in_memory);
    assert_eq!(run("tokens --nodes 1"), in_memory);
    assert_eq!(
        run("tokens --nodes 2 --schedule gpipe --tokenizer tokenizer.json"),
        in_memory
    );

    // All tokens in one file: its last tenth is what `val.bin` has.
    let tokens = at.join("tokens");
    let all = [
        ids_of(&tokens.join("train.bin")),
        ids_of(&tokens.join("val.bin")),
    ]
    .concat();
    write_ids(&at.join("all.bin"), &all, 2);
    write_ids(&at.join("wide.bin"), &all, 4);
    write_npy(&at.join("all.npy"), &all);
    for data in [
        "all.bin --vocab 400",
        "all.bin --vocab 400 --nodes 1",
        "all.bin --token-type u16 --tokenizer tokenizer.json",
        "wide.bin --token-type u32 --vocab 400",
        "all.npy --vocab 400",
    ] {
        assert_eq!(run(data), in_memory, "{data}");
    }
    // Room for tokens to come is another network.
    assert_ne!(run("tokens --vocab 512").0, in_memory.0);
}

#[test]
fn bytes_are_tokens_too() {
    let folder = folder_with_text();
    let at = folder.path();
    let bytes = fs::read(at.join("text.txt")).unwrap();
    let ids: Vec<u16> = bytes.iter().map(|byte| u16::from(*byte)).collect();
    write_ids(&at.join("bytes.bin"), &ids, 2);
    let run = |data: &str| {
        let output = brigade(
            at,
            &format!("train {data} {SMALL} --steps 12 --json --out out"),
        );
        let losses = lines(&output);
        let losses = losses.iter().map(|line| line["loss"].clone());
        (sha(&output), losses.collect::<Vec<_>>())
    };
    assert_eq!(run("bytes.bin --vocab 256"), run("text.txt"));
    assert_eq!(run("bytes.bin --vocab 256 --nodes 1"), run("text.txt"));
}

#[test]
fn token_files_are_what_the_tokenizer_says() {
    let folder = tokenized();
    let tokens = folder.path().join("tokens");
    let about = fs::read_to_string(tokens.join("tokens.json")).unwrap();
    let about: Value = serde_json::from_str(&about).unwrap();
    assert_eq!(
        (&about["vocab"], &about["type"]),
        (&json!(400), &json!("u16"))
    );
    assert_eq!(
        (&about["train_tokens"], &about["val_tokens"]),
        (&json!(4781), &json!(531))
    );
    let copy = fs::read(tokens.join("tokenizer.json")).unwrap();
    assert_eq!(copy, fs::read(golden("tokenizer.json")).unwrap());
    // The last of the texts is the beginning of this one.
    let ids: Value = serde_json::from_slice(&fs::read(golden("ids.json")).unwrap()).unwrap();
    let wanted = ids.as_array().unwrap().last().unwrap()["ids"]
        .as_array()
        .unwrap();
    let found = ids_of(&tokens.join("train.bin"));
    let count = wanted.len() - 8;
    assert!(count > 500);
    let wanted = wanted[..count].iter().map(|id| id.as_u64().unwrap() as u16);
    assert!(wanted.eq(found[..count].iter().copied()));
    let left: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|it| it.unwrap().file_name())
        .collect();
    assert_eq!(left.len(), 3, "nothing else is left: {left:?}");
    // Of a folder: file by file, in the order of their paths, without the folder being written.
    let at = folder.path().join("texts");
    fs::create_dir(&at).unwrap();
    fs::write(at.join("a.txt"), "one").unwrap();
    fs::write(at.join("b.txt"), "two".repeat(20)).unwrap();
    fs::write(at.join("c.png"), [0, 1, 2]).unwrap();
    let arguments = "tokenize texts --tokenizer tokenizer.json --out texts/tokens --json";
    let said = &lines(&brigade(folder.path(), arguments))[0];
    assert_eq!(
        said["about"]["source"], "texts (2 files, 63 bytes)",
        "{said}"
    );
}

#[test]
fn token_files_are_there_whole_or_not_at_all() {
    let folder = tokenized();
    let at = folder.path();
    fs::write(at.join("short.txt"), "too short").unwrap();
    fs::write(at.join("zero.txt"), "zero \0").unwrap();
    let tokenize = |data: &str, out: &str| {
        let arguments = format!("tokenize {data} --tokenizer tokenizer.json --out {out}");
        brigade(at, &arguments)
    };
    for (data, out, code, wanted) in [
        (
            "short.txt",
            "new",
            1,
            "short.txt (1 file, 9 bytes) is too short",
        ),
        (
            "zero.txt",
            "new",
            1,
            "zero.txt is no text: a zero at byte 5",
        ),
        ("missing", "new", 1, "cannot read missing"),
        ("text.txt", "tokens", 2, "tokens is there already"),
        ("text.txt", "/", 2, "give a new folder"),
        ("text.txt", "text.txt/new", 1, "cannot make text.txt/new"),
    ] {
        assert_fails(&tokenize(data, out), data, code, wanted);
    }
    assert!(!at.join("new").exists() && !at.join(".new.part").exists());
    // What a run that was killed has left is in nobody's way.
    fs::create_dir(at.join(".new.part")).unwrap();
    fs::write(at.join(".new.part/train.bin"), "half").unwrap();
    text(&tokenize("text.txt", "new"));
    let train = |folder: &str| fs::read(at.join(folder).join("train.bin")).unwrap();
    assert_eq!(train("new"), train("tokens"));
}

#[test]
fn a_run_makes_text_of_its_tokens() {
    let folder = tokenized();
    let at = folder.path();
    let arguments = format!("train tokens {SMALL} --steps 40 --lr 1e-2 --sample 30 --out run");
    let said = text(&brigade(at, &arguments));
    // The run is enough: neither the tokens nor their tokenizer are needed any more.
    fs::remove_dir_all(at.join("tokens")).unwrap();
    fs::remove_file(at.join("tokenizer.json")).unwrap();
    let generate = |more: &str| brigade(at, &format!("generate run --tokens 30 {more}"));
    let text = text(&generate(""));
    // A terminal would obey some of what an untrained network says.
    let harmless = |c: char| if c.is_control() && c != '\n' { '?' } else { c };
    let sample: String = text.chars().map(harmless).collect();
    let sample = sample.trim();
    assert!(
        said.contains(sample) && sample.len() > 30,
        "{sample:?} in {said}"
    );
    assert_eq!(generate("--nodes 1").stdout, text.as_bytes());
    let prompted = generate("--prompt node");
    assert!(prompted.stdout.starts_with(b"node"));
    // Without it there is no text.
    fs::remove_file(at.join("run/tokenizer.json")).unwrap();
    assert_fails(
        &generate(""),
        "no tokenizer",
        1,
        "run is for token ids: put the tokenizer.json",
    );
}

/// Opening what is no file would take forever.
#[cfg(unix)]
#[test]
fn a_pipe_beside_tokens_is_refused() {
    let folder = tokenized();
    let at = folder.path();
    fs::remove_file(at.join("tokens/tokens.json")).unwrap();
    let pipe = at.join("tokens/tokens.json");
    let made = std::process::Command::new("mkfifo").arg(pipe).status();
    assert!(made.unwrap().success());
    let output = brigade(at, &format!("train tokens {SMALL} --steps 1"));
    assert_fails(
        &output,
        "a pipe",
        1,
        "tokens.json: cannot be read: it is no file",
    );
}

#[test]
fn a_run_on_tokens_goes_on() {
    let folder = tokenized();
    let at = folder.path();
    let train = |more: &str| {
        brigade(
            at,
            &format!("train tokens {SMALL} --steps 12 --json {more}"),
        )
    };
    let whole = train("--out whole");
    let half = brigade(
        at,
        &format!("train tokens {SMALL} --steps 12 --save-every 6 --json --out half"),
    );
    assert_eq!(sha(&half), sha(&whole));
    let again = brigade(
        at,
        "train --resume half/checkpoints/step-6 --json --out again",
    );
    assert_eq!(sha(&again), sha(&whole));
}

#[test]
fn bad_tokens_are_named() {
    let folder = tokenized();
    let at = folder.path();
    let ids: Vec<u16> = (0..500).map(|i| i % 40).collect();
    write_ids(&at.join("good.bin"), &ids, 2);
    write_ids(&at.join("wide.bin"), &ids[..499], 4);
    fs::write(at.join("odd.bin"), [0; 11]).unwrap();
    fs::write(at.join("six.bin"), [0; 1002]).unwrap();
    fs::write(at.join("empty.bin"), []).unwrap();
    fs::write(at.join("bad.npy"), "no array").unwrap();
    for (name, has) in [("half", "train.bin"), ("other", "val.bin")] {
        fs::create_dir(at.join(name)).unwrap();
        fs::write(at.join(name).join(has), [0; 200]).unwrap();
    }
    let copy = |name: &str, about: &str| {
        fs::create_dir(at.join(name)).unwrap();
        for file in ["train.bin", "val.bin", "tokenizer.json"] {
            fs::copy(at.join("tokens").join(file), at.join(name).join(file)).unwrap();
        }
        fs::write(at.join(name).join("tokens.json"), about).unwrap();
    };
    copy("counted", r#"{"vocab": 400, "train_tokens": 5}"#);
    copy("unknown", "{\"vocab\": 400,\n \"words\": 5}");
    copy("wrong", r#"{"vocab": 400, "tokenizer_sha256": "00"}"#);
    copy("lying", r#"{"vocab": 400}"#);
    copy("zero", r#"{"vocab": 0}"#);
    copy("short", r#"{"vocab": 400}"#);
    fs::write(at.join("short/train.bin"), [0; 8]).unwrap();
    fs::remove_file(at.join("lying/tokenizer.json")).unwrap();
    let few = r#"{"vocab": 300}"#;
    fs::write(at.join("lying/tokens.json"), few).unwrap();
    for (data, code, wanted) in [
        ("good.bin", 2, "good.bin has token ids: give --vocab N"),
        ("good.bin --vocab 0", 2, "--vocab is 0"),
        ("good.bin --vocab x", 2, "give a whole number"),
        (
            "good.bin --vocab 39",
            1,
            "good.bin: token 39 is 39, outside a vocabulary of 39",
        ),
        ("good.bin --vocab 40 --token-type u8", 2, "u16, u32"),
        ("wide.bin --vocab 40", 0, ""),
        (
            "good.bin --vocab 40 --token-type u32",
            1,
            "token 0 is 65536, outside",
        ),
        (
            "odd.bin --vocab 40",
            1,
            "odd.bin has 11 bytes, which are no whole tokens of u16: it is cut off",
        ),
        (
            "six.bin --vocab 40 --token-type u32",
            1,
            "of u16 they would be (--token-type)",
        ),
        ("empty.bin --vocab 40", 1, "one tenth 2; give more\n"),
        ("short", 1, "short: train.bin must hold"),
        ("zero", 1, "tokens.json: vocab is 0; it must be between 1"),
        ("missing.bin --vocab 40", 1, "cannot read missing.bin"),
        (
            "bad.npy --vocab 40",
            1,
            "bad.npy is no array that can be read",
        ),
        (
            "bad.npy --vocab 40 --token-type u16",
            2,
            "--token-type is for token files",
        ),
        (
            "text.txt --token-type u16",
            2,
            "--token-type is for token files",
        ),
        ("text.txt --vocab 300", 2, "--vocab is for token ids"),
        ("text.txt --tokenizer none.json", 1, "cannot read none.json"),
        (
            "text.txt --tokenizer text.txt",
            1,
            "text.txt: it is no tokenizer.json",
        ),
        (
            "text.txt --tokenizer tokenizer.json --vocab 399",
            2,
            "between 400 and 2147483647",
        ),
        ("half", 1, "half has no val.bin beside its train.bin"),
        ("other", 1, "other has no train.bin beside its val.bin"),
        ("tokens --vocab 100", 2, "between 400"),
        ("tokens --token-type u32", 2, "tokens.json says u16"),
        (
            "counted",
            1,
            "tokens.json says that train.bin has 5 tokens; it has 4781",
        ),
        ("unknown", 1, "tokens.json, line 2"),
        ("wrong", 1, "was written with another tokenizer.json"),
        ("lying", 1, "outside a vocabulary of 300"),
    ] {
        let output = brigade(at, &format!("train {data} {SMALL} --steps 2 --out out"));
        match code {
            0 => drop(text(&output)),
            _ => assert_fails(&output, data, code, wanted),
        }
    }
}
