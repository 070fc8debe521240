//! Promise: nothing lost. What a run saved can be listed, shown, verified and removed from outside,
//! and what is damaged is named with an exit code.
#![cfg(feature = "cli")]
#![allow(missing_docs, clippy::unwrap_used)]

mod common;
mod program;

use brigade::{Checkpoint, SaveTo, Trainer};
use common::{adamw, config, small_gpt};
use program::{assert_fails, brigade, command, lines, text};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

/// A folder with a run that saved after steps 1, 2 and 3.
struct Folder {
    folder: tempfile::TempDir,
    weights_sha256: String,
    parameters: u64,
}

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("runs/1");
        fs::create_dir_all(&run).unwrap();
        fs::write(run.join("config.toml"), "").unwrap();
        let (network, data) = small_gpt();
        let params = network.params();
        let parameters = params.iter().map(|(_, spec)| spec.bytes() / 4).sum();
        let mut trainer = Trainer::start(&network, &config(2), adamw()).unwrap();
        let to = SaveTo::new(run.join("checkpoints")).note("data", "red\x1b[31m\ntokens");
        for _ in 0..3 {
            trainer.step(&data).unwrap();
            trainer.save(to.clone()).unwrap();
        }
        let weights_sha256 = trainer.weights_sha256().unwrap();
        Self {
            folder,
            weights_sha256,
            parameters,
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn at(&self, step: u64) -> PathBuf {
        let folder = self.path().join("runs/1/checkpoints");
        folder.join(format!("step-{step}"))
    }

    fn run(&self, arguments: &str) -> Output {
        brigade(self.path(), &format!("checkpoint {arguments}"))
    }
}

/// Lines of an output that may end with an error.
fn objects(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let object = |line| serde_json::from_str(line).expect("one JSON object a line");
    text.lines().map(object).collect()
}

/// Changes a byte of a file.
fn flip(path: &Path, at: usize) {
    let mut content = fs::read(path).unwrap();
    content[at] ^= 1;
    fs::write(path, content).unwrap();
}

/// Bytes of all files in a folder.
fn bytes_in(path: &Path) -> u64 {
    let entries = fs::read_dir(path).unwrap();
    entries
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum()
}

#[test]
fn checkpoints_are_found_from_wherever_one_points() {
    let folder = Folder::new();
    for place in ["", "latest", "runs/1", "runs/1/", "runs/1/checkpoints"] {
        let said = text(&folder.run(&format!("list {place}")));
        let all: Vec<_> = said.lines().collect();
        assert_eq!(all.len(), 3, "{place}: {said}");
        for (line, step) in all.iter().zip(1..) {
            let wanted = format!("step {step:>8}");
            assert!(line.starts_with(&wanted), "{place}: {said}");
            let words = ["MiB in 2 files", " UTC  whole"];
            assert!(words.iter().all(|word| line.contains(word)), "{said}");
        }
    }
    let one = text(&folder.run("list runs/1/checkpoints/step-2"));
    assert_eq!(one.lines().count(), 1, "{one}");
    let inside = brigade(&folder.at(3), "checkpoint list .");
    assert!(text(&inside).starts_with("step        3"));

    let objects = lines(&folder.run("list --json"));
    assert_eq!(objects.len(), 3);
    for (object, step) in objects.iter().zip(1..) {
        let path = format!("runs/1/checkpoints/step-{step}");
        assert_eq!(object["checkpoint"], path);
        assert_eq!(object["step"], step);
        assert_eq!(object["files"], 2);
        assert_eq!(object["whole"], true);
        assert_eq!(object["problem"], Value::Null);
        assert_eq!(object["bytes"], bytes_in(&folder.at(step)));
        let now = std::time::SystemTime::now();
        let now = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let ago = now - object["saved_s"].as_u64().unwrap();
        assert!(ago < 3600, "{object}");
    }
}

#[test]
fn damaged_ones_are_listed_as_such() {
    let folder = Folder::new();
    let cut = folder.at(1).join("node-1.safetensors");
    fs::write(&cut, &fs::read(&cut).unwrap()[1..]).unwrap();
    fs::remove_file(folder.at(2).join("manifest.json")).unwrap();
    let listed = folder.run("list");
    let wanted = "2 of 3 checkpoints damaged: cannot read";
    assert_fails(&listed, "list", 1, wanted);
    let said = String::from_utf8(listed.stdout).unwrap();
    let all: Vec<_> = said.lines().collect();
    assert!(all[0].contains("damaged: ") && all[0].contains("node-1.safetensors"));
    assert!(all[1].contains("damaged: ") && all[1].contains("step-2/manifest.json"));
    assert!(
        all[1].contains("? files") && all[2].ends_with("whole"),
        "{said}"
    );
    let listed = objects(&folder.run("list --json"));
    let whole: Vec<_> = listed.iter().map(|one| one["whole"] == true).collect();
    assert_eq!(whole, [false, false, true]);
    assert_eq!(listed[1]["step"], 2);
    assert_eq!(listed[1]["files"], Value::Null);
    assert!(listed[0]["problem"].as_str().unwrap().contains("damaged"));
    // Pruned is what is older than a whole one. Without a manifest it may be somebody else's.
    text(&folder.run("prune --keep 1"));
    assert!(!folder.at(1).exists() && folder.at(2).exists() && folder.at(3).exists());
}

#[test]
fn a_checkpoint_says_what_it_is() {
    let folder = Folder::new();
    let said = text(&folder.run("show"));
    for words in [
        "step            3\n",
        &format!("8 layers, {} parameters\n", folder.parameters),
        &folder.weights_sha256,
        "batch_size = 13",
        "data = red?[31m",
        "node-1.safetensors, ",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(!said.contains('\x1b') && !said.contains("first_moment"));
    let said = text(&folder.run("show runs/1/checkpoints/step-1 --tensors"));
    assert!(said.contains("step            1\n") && said.contains("wte.weight:first_moment"));

    let objects = lines(&folder.run("show --json --tensors"));
    let head = &objects[0];
    assert_eq!(head["step"], 3);
    assert_eq!(head["layers"], 8);
    assert_eq!(head["parameters"], folder.parameters);
    assert_eq!(head["weights_sha256"], folder.weights_sha256);
    assert_eq!(head["settings"]["seed"], "1");
    assert_eq!(head["notes"]["data"], "red\x1b[31m\ntokens");
    assert_eq!(head["version"], env!("CARGO_PKG_VERSION"));
    let files = head["files"].as_array().unwrap();
    let tensors = files.iter().map(|file| file["tensors"].as_u64().unwrap());
    assert_eq!(tensors.sum::<u64>() as usize, objects.len() - 1);
    for tensor in &objects[1..] {
        assert_eq!(tensor["sha256"].as_str().unwrap().len(), 64);
        assert!(tensor["shape"].is_array() && tensor["layer"].is_u64());
        assert!(files.iter().any(|file| file["name"] == tensor["file"]));
    }
    assert_eq!(lines(&folder.run("show --json")).len(), 1);
}

#[test]
fn everything_is_read_and_compared() {
    let folder = Folder::new();
    let said = text(&folder.run("verify"));
    assert_eq!(said.matches(": whole, ").count(), 3, "{said}");
    assert!(said.contains(" GB/s"), "{said}");
    for object in lines(&folder.run("verify --json")) {
        let checkpoint = object["checkpoint"].as_str().unwrap();
        let found = Checkpoint::open(folder.path().join(checkpoint)).unwrap();
        assert_eq!(object["bytes"], found.bytes());
        assert_eq!(object["whole"], true);
        assert!(object["gb_per_s"].as_f64().unwrap() > 0.0);
        assert!(object["seconds"].as_f64().unwrap() > 0.0);
    }
    // A bit of a tensor: only reading all of it finds that.
    let file = folder.at(2).join("node-0.safetensors");
    let last = fs::metadata(&file).unwrap().len() as usize - 1;
    flip(&file, last);
    text(&folder.run("list"));
    let verified = folder.run("verify");
    assert_fails(&verified, "verify", 1, "1 of 3 checkpoints damaged");
    let said = String::from_utf8(verified.stdout).unwrap();
    assert_eq!(said.matches(": whole, ").count(), 2, "{said}");
    assert!(
        said.contains("step-2/node-0.safetensors: damaged: "),
        "{said}"
    );
    let verified = folder.run("verify runs/1/checkpoints/step-2 --json");
    assert_fails(&verified, "verify", 1, "1 of 1 checkpoint damaged");
    let object = &objects(&verified)[0];
    assert_eq!(
        (&object["whole"], &object["step"]),
        (&Value::Bool(false), &Value::from(2))
    );
    assert!(object.get("bytes").is_none());
    text(&folder.run("verify runs/1/checkpoints/step-3"));
}

#[test]
fn the_oldest_are_removed() {
    let folder = Folder::new();
    let lock = folder.path().join("runs/1/checkpoints/.lock");
    fs::remove_file(&lock).unwrap();
    let said = text(&folder.run("prune --keep 3"));
    assert_eq!(said, "0 removed, 0.0 MiB freed; 3 kept\n");
    assert!(!lock.exists(), "nothing was to be done");
    let bytes = bytes_in(&folder.at(1));
    let objects = lines(&folder.run("prune runs/1 --keep 2 --json"));
    assert_eq!(objects.len(), 2);
    assert_eq!(objects[0]["step"], 1);
    assert_eq!(objects[0]["checkpoint"], "runs/1/checkpoints/step-1");
    assert_eq!(objects[0]["freed_bytes"], bytes);
    let summary = &objects[1]["summary"];
    assert_eq!(summary["removed"], 1);
    assert_eq!(summary["freed_bytes"], bytes);
    assert_eq!(summary["kept"], 2);
    // Not while a run saves there.
    let (network, data) = small_gpt();
    let mut trainer = Trainer::start(&network, &config(1), adamw()).unwrap();
    trainer.step(&data).unwrap();
    let to = folder.path().join("runs/1/checkpoints");
    trainer.save(to.as_path()).unwrap();
    let refused = folder.run("prune --keep 1");
    assert_fails(&refused, "locked", 1, "another run saves its checkpoints");
    drop(trainer);
    let said = text(&folder.run("prune --keep 1"));
    assert!(
        said.starts_with("removed runs/1/checkpoints/step-1, "),
        "{said}"
    );
    assert!(
        said.contains("2 removed, ") && said.contains("; 1 kept"),
        "{said}"
    );
    assert!(!folder.at(2).exists() && folder.at(3).exists());
}

#[test]
fn where_there_is_none_it_is_said() {
    let folder = Folder::new();
    let at = |path: &str| folder.path().join(path);
    fs::create_dir_all(at("runs/2")).unwrap();
    fs::write(at("runs/2/config.toml"), "").unwrap();
    fs::create_dir_all(at("killed/.step-7.part")).unwrap();
    fs::create_dir_all(at("hollow/step-007")).unwrap();
    fs::write(at("hollow/step-5"), "a file").unwrap();
    let file = "runs/1/checkpoints/step-1/manifest.json";
    for (place, wanted) in [
        ("missing", "cannot read missing: No such file"),
        ("", "the run runs/2 has no checkpoint; give a run folder"),
        (
            "killed",
            "killed has no checkpoint, which is a folder such as step-120 (1 unfinished)",
        ),
        ("hollow", "hollow has no checkpoint"),
        (file, "manifest.json is no folder"),
        ("hollow/step-5", "hollow/step-5 is no folder"),
    ] {
        for verb in ["list", "show", "verify", "prune --keep 1"] {
            let output = folder.run(&format!("{verb} {place}"));
            assert_fails(&output, &format!("{verb} {place}"), 1, wanted);
            assert!(output.stdout.is_empty());
        }
        let resumed = brigade(folder.path(), &format!("train --resume {place}"));
        assert_fails(&resumed, &format!("resume {place}"), 1, wanted);
    }
    let one = folder.run("prune --keep 1 runs/1/checkpoints/step-1");
    assert_fails(
        &one,
        "prune",
        1,
        "step-1 is one checkpoint; give the folder",
    );
    assert!(!at("missing").exists() && !at("hollow/.lock").exists());
    assert!(at("killed/.step-7.part").exists());
}

/// What the system refuses, and output that nobody reads.
#[cfg(unix)]
#[test]
fn what_the_system_refuses_is_named() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::CommandExt;
    let folder = Folder::new();
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    // A program of its own, which anybody may run: root may read everything.
    let program = folder.path().join("brigade");
    fs::copy(env!("CARGO_BIN_EXE_brigade"), &program).unwrap();
    mode(folder.path(), 0o755);
    let root = fs::metadata(folder.path()).unwrap().uid() == 0;
    let run = |arguments: &str| {
        let mut command = std::process::Command::new(&program);
        command
            .current_dir(folder.path())
            .args(arguments.split(' '));
        if root {
            command.uid(65_534);
        }
        command.output().unwrap()
    };
    let denied = folder.path().join("runs/1/checkpoints");
    mode(&denied, 0o000);
    for verb in ["list", "show", "verify", "prune --keep 1"] {
        let output = run(&format!("checkpoint {verb} runs/1"));
        assert_fails(
            &output,
            verb,
            1,
            "cannot read runs/1/checkpoints: Permission denied",
        );
    }
    mode(&denied, 0o755);
    assert!(run("checkpoint verify runs/1").status.success());
    // It may be read, not written.
    mode(&denied, 0o555);
    let output = run("checkpoint prune runs/1 --keep 1");
    assert_fails(
        &output,
        "prune",
        1,
        "cannot write runs/1/checkpoints/.lock: Permission denied",
    );
    assert_eq!(Checkpoint::list(&denied).unwrap().len(), 3);

    for verb in ["list", "show --tensors", "verify", "list --json"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut closed = command(folder.path(), &format!("checkpoint {verb}"));
        let output = closed.stdout(writer).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && errors.is_empty(),
            "{verb}: {errors}"
        );
    }
    if let Ok(full) = fs::File::options().write(true).open("/dev/full") {
        let mut full_disk = command(folder.path(), "checkpoint list");
        let output = full_disk.stdout(full).output().unwrap();
        assert_fails(&output, "full", 1, "cannot print: No space left");
    }
}
