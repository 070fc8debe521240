//! Promise: every bad input is one line that says what to change, and an exit code: 2 for wrong
//! usage, 1 for the rest.
#![cfg(feature = "cli")]
#![allow(missing_docs, clippy::unwrap_used)]

mod program;

use program::{SMALL, assert_fails, brigade, folder_with_text};
use std::fs;

/// Options of `train`, the exit code, and what the line says.
const OPTIONS: &[(&str, i32, &str)] = &[
    ("--nodes 0", 2, "--nodes is 0"),
    ("--nodes x", 2, "give a whole number"),
    ("--nodes -1", 2, "'-1'"),
    ("--nodes 99", 2, "use at most 8 nodes"),
    ("--chunks 2", 2, "nearest is 1 chunk"),
    ("--cuts 3,1", 2, "rising numbers between 1 and 7"),
    ("--cuts x", 2, "layer numbers such as 3,6,9"),
    ("--heads 3", 2, "make it 15 or 18"),
    ("--heads 0", 2, "heads is 0"),
    ("--heads 256", 2, "make it 256"),
    ("--width 17", 2, "make it 16 or 18"),
    ("--family llama --width 17", 2, "make it 16 or 18"),
    ("--family llama --heads 0", 2, "heads is 0"),
    (
        "--family llama --heads 4 --kv-heads 3",
        2,
        "cannot be grouped around 3",
    ),
    ("--family llama --width 6", 2, "make it even"),
    ("--family llama --inner 0", 2, "inner is 0"),
    ("--family bert", 2, "gpt, llama"),
    ("--kv-heads 1", 2, "--kv-heads is for --family llama"),
    ("--layers 100000000", 2, "the most is 100000"),
    ("--schedule zbv", 2, "'zb-v'"),
    ("--schedule nope", 2, "gpipe, 1f1b, interleaved-1f1b"),
    ("--schedule nope.csv", 1, "cannot read nope.csv"),
    ("--schedule zb-v --chunks 3", 2, "nearest is 2 chunks"),
    (
        "--schedule interleaved-1f1b --batch-size 9 --micro-batch-size 1",
        2,
        "nearest is 8 or 10 micro-batches",
    ),
    ("--schedule gpip", 2, "a similar value exists: 'gpipe'"),
    ("--precision f16", 2, "f32, bf16"),
    ("--wire 16", 2, "f32, bf16"),
    ("--recompute some", 2, "give never, except-last, always"),
    ("--recompute 3-1", 2, "or layers such as 0-7,8-15"),
    ("--recompute 2-3,0-1", 2, "in rising order"),
    ("--recompute 5-8", 2, "within the 8 layers"),
    ("--micro-batch-size 7", 2, "between 1 and 6"),
    ("--batch-size 0", 2, "--batch-size is 0"),
    ("--threads-per-node 0", 2, "--threads-per-node is 0"),
    ("--threads-per-node 60000", 2, "between 1 and 1024"),
    ("--steps 0", 2, "--steps is 0"),
    ("--steps 1e3", 2, "give a whole number"),
    ("--lr -1", 2, "learning rate"),
    ("--lr nan", 2, "learning rate"),
    ("--lr fast", 2, "give a number"),
    ("--betas 1,2", 2, "such as 0.9,0.99"),
    ("--clip -1", 2, "--clip is -1"),
    ("--clip nan", 2, "--clip is NaN"),
    ("--on-nonfinite ignore", 2, "stop, skip"),
    ("--dropout 1.5", 2, "dropout probability of 1.5"),
    ("--dropout nan", 2, "dropout probability of NaN"),
    ("--weight-decay -1", 2, "weight_decay is -1"),
    ("--optimizer adagrad", 2, "adamw"),
    ("--freeze h.9.*", 2, "there are embed, h.0.attn"),
    ("--freeze *", 2, "nothing is left to train"),
    ("--freeze embed --tied", 2, "freeze both or none"),
    ("--group h.0.*", 2, "such as 'h.0.*:lr=0.1"),
    ("--group x.*:lr=1", 2, "no parameter matches"),
    ("--deadline 0", 2, "--deadline is 0"),
    ("--node-memory 5megs", 2, "such as 512MiB"),
    ("--node-memory 1KiB", 1, "use more nodes"),
    ("--synthetic-vocab 0", 2, "--synthetic-vocab is 0"),
    ("--context 0", 2, "context"),
    ("--context 100000", 1, "too short"),
    ("--lr 1e30 --steps 3", 1, "not finite"),
    ("--out file", 1, "cannot make file"),
    ("--out text.txt/x", 1, "cannot make text.txt/x"),
    ("--tied=maybe", 2, "true, false"),
    ("--config missing.toml", 1, "cannot read missing.toml"),
    ("--from missing", 2, "cannot be used with '--from <FOLDER>'"),
    ("--nods 3", 2, "a similar argument exists: '--nodes'"),
    ("more data", 2, "unexpected argument 'more'"),
];

#[test]
fn every_bad_option_of_a_run_is_one_line() {
    let folder = folder_with_text();
    fs::write(folder.path().join("file"), "in the way").unwrap();
    for (arguments, code, wanted) in OPTIONS {
        let run = format!("train text.txt {SMALL} {arguments}");
        assert_fails(&brigade(folder.path(), &run), arguments, *code, wanted);
    }
    assert!(
        !folder.path().join("runs/2").exists(),
        "only what began leaves a folder"
    );
}

#[test]
fn bad_data_are_named() {
    let folder = folder_with_text();
    fs::write(folder.path().join("empty.txt"), "").unwrap();
    fs::write(folder.path().join("picture.png"), [b'P', 0, 1, 2, 255]).unwrap();
    fs::write(folder.path().join("odd.bin"), [b'P', 0, 1, 2, 255]).unwrap();
    fs::write(folder.path().join("latin1.txt"), [b'a', b'b', 0xe4, b'b']).unwrap();
    fs::create_dir(folder.path().join("none")).unwrap();
    for (data, wanted) in [
        ("missing", "cannot read missing"),
        ("empty.txt", "too short"),
        ("none", "no text files"),
        ("picture.png", "picture.png is no text: a zero at byte 1"),
        (
            "odd.bin --vocab 9",
            "odd.bin has 5 bytes, which are no whole",
        ),
        ("latin1.txt", "no UTF-8 at byte 2"),
    ] {
        for verb in ["train", "plan"] {
            let output = brigade(folder.path(), &format!("{verb} {data} {SMALL}"));
            assert_fails(&output, data, 1, wanted);
        }
    }
}

/// What the system refuses: files that cannot be read, folders that cannot be written, full disks.
#[cfg(target_os = "linux")]
#[test]
fn what_the_system_refuses_is_named() {
    use std::os::unix::fs::symlink;
    let folder = folder_with_text();
    let run = |arguments: &str| {
        let all = format!("train text.txt {SMALL} --steps 3 {arguments}");
        brigade(folder.path(), &all)
    };
    assert_fails(
        &brigade(folder.path(), &format!("train /proc/self/mem {SMALL}")),
        "an unreadable file",
        1,
        "cannot read /proc/self/mem",
    );
    assert_fails(
        &run("--out /proc/run"),
        "read-only",
        1,
        "cannot make /proc/run",
    );
    // Writing to this device fails as writing to a full disk does.
    for (file, named) in [
        (".losses.csv.part", "losses.csv"),
        (".plan.json.part", "plan.json"),
        (".config.toml.part", "config.toml"),
        (".trace.json.part", "trace.json"),
        (".report.html.part", "report.html"),
        (".weights.safetensors.part", "weights.safetensors"),
    ] {
        let out = folder.path().join(named.replace('.', "-"));
        fs::create_dir(&out).unwrap();
        symlink("/dev/full", out.join(file)).unwrap();
        let output = run(&format!("--on-save-error stop --out {}", out.display()));
        let wanted = format!("{named}: No space left on device");
        assert_fails(&output, named, 1, &wanted);
        assert!(!out.join(named).exists(), "{named} is not half there");
    }
    // What is said of steps on the way is not worth the run's end, unless that is asked for.
    let out = folder.path().join("goes-on");
    fs::create_dir(&out).unwrap();
    symlink("/dev/full", out.join(".trace.json.part")).unwrap();
    let output = run(&format!("--out {}", out.display()));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let wanted = "trace.json: No space left on device (os error 28); training goes on";
    assert!(said.contains(wanted), "{said}");
}

/// Where errors cannot be printed, the exit code still says that there was one.
#[cfg(target_os = "linux")]
#[test]
fn errors_that_cannot_be_printed_are_no_panic() {
    let folder = folder_with_text();
    for (arguments, code) in [
        ("train missing".to_owned(), 1),
        ("train --nodes 0".to_owned(), 2),
        (format!("train text.txt {SMALL} --steps 2 -vvv"), 0),
    ] {
        let full = fs::OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .unwrap();
        let mut command = program::command(folder.path(), &arguments);
        let status = command.stderr(full).output().unwrap().status;
        assert_eq!(status.code(), Some(code), "{arguments}");
    }
}

#[test]
fn configuration_files_are_read_strictly() {
    let folder = folder_with_text();
    for (content, code, wanted) in [
        (
            "nods = 3",
            2,
            "there is no option nods; did you mean nodes?",
        ),
        ("micro_batch_sise = 3", 2, "did you mean micro-batch-size?"),
        ("qqq = 3", 2, "brigade config"),
        ("nodes = \"x\"", 2, "give a whole number"),
        ("nodes = 1.5", 2, "give a whole number"),
        ("nodes = -3", 2, "'-3'"),
        ("nodes = 0", 2, "--nodes is 0"),
        ("lr = nan", 2, "learning rate"),
        ("tied = 3", 2, "true, false"),
        ("schedule = \"zbv\"", 2, "zb-v"),
        ("[network]\nlayers = 3", 2, "network"),
        ("config = \"x\"", 2, "there is no option config"),
        ("nodes = 3\nnodes = 4", 2, "line 2: duplicate key"),
        ("\nnodes = [", 2, "line 2"),
        ("nodes = 1979-05-27", 2, "is a datetime"),
    ] {
        fs::write(folder.path().join("run.toml"), content).unwrap();
        let arguments = format!("train text.txt --steps 1 {SMALL} --config run.toml");
        // Sizes are on the command line, which counts more.
        let sizes = ["nodes"].iter().any(|key| content.starts_with(key));
        let arguments = if sizes {
            arguments.replace(SMALL, "")
        } else {
            arguments
        };
        let output = brigade(folder.path(), &arguments);
        assert_fails(&output, content, code, wanted);
        let text = String::from_utf8_lossy(&output.stderr);
        let checked_later = wanted.starts_with("--") || wanted == "learning rate";
        assert!(text.contains("run.toml") || checked_later, "{text}");
    }
    fs::write(folder.path().join("run.toml"), [0xff, 0xfe]).unwrap();
    let output = brigade(folder.path(), "train text.txt --config run.toml");
    assert_fails(&output, "no text", 1, "cannot read run.toml");
    fs::write(folder.path().join("run.toml"), " ".repeat(2 << 20)).unwrap();
    let output = brigade(folder.path(), "train text.txt --config run.toml");
    assert_fails(&output, "too long", 1, "longer than 1048576 bytes");
}
