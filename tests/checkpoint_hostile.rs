//! Promise: never silently wrong, never a panic. Whatever a checkpoint's manifest says, with the
//! right checksum, it fits together or is refused with its path, in memory that follows from its
//! length.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;
mod forgeries;

use brigade::checkpoint::Manifest;
use brigade::{Checkpoint, Config, Error, Trainer};
use common::*;
use forgeries::{FORGERIES, VALUES, add, sign_weights, tensor};
use serde_json::{Value, json};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Memory is that of the whole process: one test after the other.
fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn trainer() -> Trainer {
    let config = Config {
        clip: None,
        ..config(2)
    };
    Trainer::start(&chain_with(toy()), &config, adamw()).unwrap()
}

/// A checkpoint of step 1, whose manifest is forged.
struct Forger {
    folder: tempfile::TempDir,
    manifest: Value,
}

impl Forger {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut trainer = trainer();
        trainer.step(&numbers(13)).unwrap();
        trainer.save(folder.path()).unwrap();
        let text = fs::read(folder.path().join("step-1/manifest.json")).unwrap();
        let whole: Value = serde_json::from_slice(&text).unwrap();
        let manifest = whole["checkpoint"].clone();
        Self { folder, manifest }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("step-1")
    }

    /// Signs it as it is written.
    fn write(&self, text: &str) {
        fs::write(self.path().join("manifest.json"), Manifest::signed(text)).unwrap();
    }

    /// Opens it and goes on from it, which nothing here allows.
    fn refused(&self, wanted: &str) {
        let opened = Checkpoint::open(self.path());
        let error = opened.and_then(|found| trainer().resume(&found)).err();
        let error = error.unwrap_or_else(|| panic!("{wanted} was accepted"));
        assert!(!matches!(error, Error::Plan(_)), "{wanted}: {error:?}");
        let said = error.to_string();
        let path = self.path().display().to_string();
        assert!(said.len() < 2000, "{wanted}: {} bytes", said.len());
        assert!(said.contains(&path), "{wanted}: {said}");
        assert!(said.contains(wanted), "{wanted}: {said}");
    }
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let _alone = alone();
    let forger = Forger::new();
    let refused = |wanted: &str, manifest: &Value| {
        assert_ne!(*manifest, forger.manifest, "{wanted}: nothing was forged");
        forger.write(&manifest.to_string());
        forger.refused(wanted);
    };
    for (wanted, place, value) in VALUES {
        let mut manifest = forger.manifest.clone();
        let long = format!("{:?}", "0".repeat(100_000));
        let value = value.replace("LONG", &long);
        *manifest.pointer_mut(place).unwrap() = serde_json::from_str(&value).unwrap();
        refused(wanted, &manifest);
    }
    for (wanted, forge) in FORGERIES {
        let mut manifest = forger.manifest.clone();
        forge(&mut manifest);
        refused(wanted, &manifest);
    }
    forger.write(&forger.manifest.to_string());
    let mut trainer = trainer();
    let checkpoint = Checkpoint::open(forger.path()).unwrap();
    checkpoint.verify().unwrap();
    assert_eq!(trainer.resume(&checkpoint).unwrap().step, 1);
}

#[test]
fn what_is_no_manifest_is_refused() {
    let _alone = alone();
    let forger = Forger::new();
    let good = forger.manifest.to_string();
    let deep = "[".repeat(1 << 20);
    for (wanted, text) in [
        ("EOF", String::new()),
        ("EOF", good[..good.len() - 1].to_owned()),
        ("trailing characters", format!("{good} {good}")),
        (
            "duplicate field `step`",
            good.replacen('{', "{\"step\":1,", 1),
        ),
        (
            "expected `,` or `]`",
            good.replacen('{', &format!("{{\"x\":{deep}"), 1),
        ),
        (
            "expected value",
            good.replacen("\"step\":1", "\"step\":NaN", 1),
        ),
        (
            "number out of range",
            good.replacen("\"step\":1", "\"step\":1e999", 1),
        ),
        (
            "unexpected end of hex escape",
            good.replacen("a.weight", "\\ud800x", 1),
        ),
    ] {
        forger.write(&text);
        forger.refused(wanted);
    }
}

/// The last step that there can be: training goes on, and nothing overflows.
#[test]
fn the_last_step_is_a_step() {
    let _alone = alone();
    let forger = Forger::new();
    let last = 1u64 << 53;
    let mut manifest = forger.manifest.clone();
    manifest["step"] = json!(last);
    forger.write(&manifest.to_string());
    let path = forger.folder.path().join(format!("step-{last}"));
    fs::rename(forger.path(), &path).unwrap();
    let mut trainer = trainer();
    let resumed = trainer.resume(&Checkpoint::open(&path).unwrap()).unwrap();
    assert_eq!(resumed.step, last);
    trainer.step(&numbers(13)).unwrap();
    assert_eq!(trainer.steps(), last + 1);
    // What would not be read is not written.
    let error = trainer.save(forger.folder.path()).unwrap_err().to_string();
    assert!(error.contains("of step 9007199254740993"), "{error}");
    trainer.step(&numbers(13)).unwrap();
    let list = Checkpoint::list(forger.folder.path()).unwrap();
    assert_eq!(list, [(last, path)]);
}

/// Memory for opening it, in its own length.
fn memory(forger: &Forger, text: &str) -> f64 {
    forger.write(text);
    let region = Region::new(ALLOCATOR);
    let opened = Checkpoint::open(forger.path());
    let all = region.change().bytes_allocated;
    drop(opened);
    all as f64 / text.len() as f64
}

#[test]
fn memory_follows_from_the_length() {
    let _alone = alone();
    let forger = Forger::new();
    let mut many = forger.manifest.clone();
    for at in 0..100_000 {
        add(&mut many, &format!("k{at}"), None);
    }
    sign_weights(&mut many);
    let mut shape = forger.manifest.clone();
    tensor(&mut shape, 0)["shape"] = json!(vec![0; 2_000_000]);
    let mut layers = forger.manifest.clone();
    layers["layers"] = json!(vec![json!({"key": "", "is": ""}); 500_000]);
    let mut notes = forger.manifest.clone();
    let numbers = (0..500_000).map(|at| (at.to_string(), json!("")));
    notes["notes"] = Value::Object(numbers.collect());
    let mut files = forger.manifest.clone();
    let file = json!({
        "name": "x", "bytes": 8, "start": 8, "header_sha256": "", "tensors": []
    });
    files["files"] = json!(vec![file; 100_000]);
    let mut name = forger.manifest.clone();
    tensor(&mut name, 0)["key"] = json!("k".repeat(10_000_000));
    for (what, manifest) in [
        ("tensors", many),
        ("axes", shape),
        ("layers", layers),
        ("notes", notes),
        ("files", files),
        ("a name", name),
    ] {
        let times = memory(&forger, &manifest.to_string());
        println!("{what}: {times:.1} times its length");
        assert!(times < 20.0, "{what}: {times} times its length");
    }
    // One that is too long is not read at all.
    let file = File::create(forger.path().join("manifest.json")).unwrap();
    file.set_len(1 << 40).unwrap();
    let region = Region::new(ALLOCATOR);
    let said = Checkpoint::open(forger.path()).unwrap_err().to_string();
    assert!(said.contains("longer than 268435456 bytes"), "{said}");
    assert!(region.change().bytes_allocated < 1 << 20);
}
