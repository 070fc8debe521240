//! Promise: nothing lost, never silently wrong. A checkpoint of which one bit has changed, or one
//! file, is refused with the name of that file, whoever asks; nothing panics, and other trainers go
//! on.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use brigade::layer::{Network, TensorSpec};
use brigade::{Checkpoint, Config, Error, Trainer, nn};
use common::*;
use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const FILES: [&str; 3] = ["manifest.json", "node-0.safetensors", "node-1.safetensors"];

/// As small as a network of two nodes can be.
fn network() -> Network {
    Network::builder()
        .input(TensorSpec::f32([2]))
        .target(TensorSpec::f32([2]))
        .layer("a", nn::Linear::new(2, 2))
        .layer("b", nn::Linear::new(2, 2).without_bias())
        .loss("loss", nn::MeanSquaredError)
        .build()
        .unwrap()
}

fn data() -> Numbers {
    Numbers {
        rows: 4,
        inputs: 2,
        targets: 2,
    }
}

fn trainer() -> Trainer {
    let config = Config {
        batch_size: 4,
        micro_batch_size: 2,
        ..config(2)
    };
    Trainer::start(&network(), &config, adamw()).unwrap()
}

/// Checkpoints of steps 1 and 2 in a folder, whom to ask for them, and the weights after step 3.
struct Subject {
    folder: tempfile::TempDir,
    /// Any number of attempts that fail before a node is asked leave it as it was.
    trainer: Trainer,
    wanted: String,
}

impl Subject {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut first = trainer();
        for _ in 1..=2 {
            first.step(&data()).unwrap();
            first.save(folder.path()).unwrap();
        }
        first.step(&data()).unwrap();
        let wanted = first.weights_sha256().unwrap();
        let subject = Self {
            folder,
            trainer: trainer(),
            wanted,
        };
        let mut names: Vec<_> = (fs::read_dir(subject.path()).unwrap())
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, FILES, "there is nothing else to damage");
        subject
    }

    /// The checkpoint that is damaged.
    fn path(&self) -> PathBuf {
        self.folder.path().join("step-2")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    fn earlier(&self, name: &str) -> PathBuf {
        self.folder.path().join("step-1").join(name)
    }

    /// Whoever asks hears what is wrong with this file.
    fn assert_refused(&mut self, file: &Path, what: &str) {
        let named = file.display().to_string();
        let error = verified(&self.path()).expect_err(what);
        assert!(matches!(error, Error::Read { .. }), "{what}: {error:?}");
        assert!(error.to_string().contains(&named), "{what}: {error}");
        let error = self.resumed().expect_err(what);
        let typed = matches!(error, Error::Read { .. } | Error::Run(_));
        assert!(typed, "{what}: {error:?}");
        assert!(error.to_string().contains(&named), "{what}: {error}");
    }

    /// An attempt to go on. A trainer that read half of it is of no use, and says so.
    fn resumed(&mut self) -> Result<(), Error> {
        let checkpoint = Checkpoint::open(self.path())?;
        let resumed = self.trainer.resume(&checkpoint);
        if !self.trainer.errors().is_empty() {
            assert!(resumed.is_err() && self.trainer.step(&data()).is_err());
            self.trainer = trainer();
        }
        resumed.map(drop)
    }

    /// What was put back is as good as it was, for the trainer that all failed attempts were made
    /// with.
    fn assert_whole(&mut self, what: &str) {
        verified(&self.path()).expect(what);
        self.resumed().expect(what);
        self.trainer.step(&data()).unwrap();
        assert_eq!(
            self.trainer.weights_sha256().unwrap(),
            self.wanted,
            "{what}"
        );
    }
}

/// Reads all of it.
fn verified(path: &Path) -> Result<(), Error> {
    Checkpoint::open(path)?.verify()
}

/// Writes into a file.
fn overwrite(path: &Path, at: usize, bytes: &[u8]) {
    let mut file = OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(at as u64)).unwrap();
    file.write_all(bytes).unwrap();
}

#[test]
fn every_bit_counts() {
    let mut subject = Subject::new();
    for name in FILES {
        let path = subject.file(name);
        let good = fs::read(&path).unwrap();
        for (at, byte) in good.iter().enumerate() {
            let flips = (0..8).map(|bit| 1 << bit).chain([0xff]);
            for flip in flips {
                overwrite(&path, at, &[byte ^ flip]);
                let what = format!("byte {at} of {name}, flipped by {flip:#x}");
                let error = verified(&subject.path()).expect_err(&what).to_string();
                assert!(
                    error.contains(&path.display().to_string()),
                    "{what}: {error}"
                );
            }
            // Nodes have to be started anew for every byte of a tensor: one flip is enough there.
            subject.assert_refused(&path, &format!("byte {at} of {name}, flipped whole"));
            overwrite(&path, at, &[*byte]);
        }
        subject.assert_whole(name);
    }
}

/// What a disk does: whole stretches are lost.
#[test]
fn stretches_that_are_lost_are_found() {
    let mut subject = Subject::new();
    for name in FILES {
        let path = subject.file(name);
        let good = fs::read(&path).unwrap();
        for length in [16, 512] {
            for at in (0..good.len()).step_by(length) {
                let end = good.len().min(at + length);
                for lost in [0, 0xff] {
                    overwrite(&path, at, &vec![lost; end - at]);
                    let what = format!("bytes {at} to {end} of {name} are {lost}");
                    subject.assert_refused(&path, &what);
                }
                overwrite(&path, at, &good[at..end]);
            }
        }
        subject.assert_whole(name);
    }
}

#[test]
fn every_length_but_its_own_is_refused() {
    let mut subject = Subject::new();
    for name in FILES {
        let path = subject.file(name);
        let good = fs::read(&path).unwrap();
        for more in [&b"\n"[..], b" ", &[0], &[0; 4096], &good] {
            fs::write(&path, [&good, more].concat()).unwrap();
            subject.assert_refused(&path, &format!("{name} with {} bytes more", more.len()));
            fs::write(&path, [more, &good].concat()).unwrap();
            subject.assert_refused(&path, &format!("{name} behind {} bytes", more.len()));
        }
        fs::write(&path, &good).unwrap();
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        for length in (0..good.len()).rev() {
            file.set_len(length as u64).unwrap();
            subject.assert_refused(&path, &format!("{name}, cut at {length}"));
        }
        fs::write(&path, &good).unwrap();
        subject.assert_whole(name);
    }
}

#[test]
fn files_that_are_missing_or_somebody_elses_are_named() {
    let mut subject = Subject::new();
    for name in FILES {
        let (path, aside) = (subject.file(name), subject.file("aside"));
        fs::rename(&path, &aside).unwrap();
        subject.assert_refused(&path, &format!("no {name}"));
        fs::create_dir(&path).unwrap();
        subject.assert_refused(&path, &format!("a folder in place of {name}"));
        fs::remove_dir(&path).unwrap();
        // As long, with the same header, of the same network.
        fs::copy(subject.earlier(name), &path).unwrap();
        subject.assert_refused(&path, &format!("{name} of another step"));
        fs::rename(&aside, &path).unwrap();
        subject.assert_whole(name);
    }
    // One node's file in place of the other's.
    let [_, zero, one] = FILES.map(|name| subject.file(name));
    let aside = subject.file("aside");
    let swap = || {
        fs::rename(&zero, &aside).unwrap();
        fs::rename(&one, &zero).unwrap();
        fs::rename(&aside, &one).unwrap();
    };
    swap();
    subject.assert_refused(&zero, "swapped files");
    swap();
    fs::copy(&zero, &one).unwrap();
    subject.assert_refused(&one, "twice the same file");
}

/// What cannot be read to its end is not read.
#[cfg(unix)]
#[test]
fn what_is_no_file_keeps_nobody_waiting() {
    use std::os::unix::fs::symlink;
    let mut subject = Subject::new();
    for name in FILES {
        let (path, aside) = (subject.file(name), subject.file("aside"));
        fs::rename(&path, &aside).unwrap();
        for other in ["/dev/zero", "/dev/null", name] {
            symlink(other, &path).unwrap();
            subject.assert_refused(&path, &format!("{other} in place of {name}"));
            fs::remove_file(&path).unwrap();
        }
        // Nobody will ever write into it.
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        subject.assert_refused(&path, &format!("a pipe in place of {name}"));
        fs::rename(&aside, &path).unwrap();
        subject.assert_whole(name);
    }
}

/// A folder with another step's name would be taken for the newest, or be pruned too early.
#[test]
fn a_folder_of_another_step_is_refused() {
    let subject = Subject::new();
    let other = subject.folder.path().join("step-3");
    fs::rename(subject.path(), &other).unwrap();
    let error = Checkpoint::newest(subject.folder.path()).unwrap_err();
    let said = error.to_string();
    assert!(
        said.contains("it is of step 2, in the folder of step 3"),
        "{said}"
    );
    assert!(said.contains("step-3/manifest.json"), "{said}");
    // Any other name is the user's own business.
    let best = subject.folder.path().join("best");
    fs::rename(&other, &best).unwrap();
    verified(&best).unwrap();
}

/// One that lost its manifest is not passed over for an older one.
#[test]
fn the_newest_is_not_quietly_an_older_one() {
    let subject = Subject::new();
    fs::remove_file(subject.file("manifest.json")).unwrap();
    let list = Checkpoint::list(subject.folder.path()).unwrap();
    assert_eq!(list.len(), 2);
    let error = Checkpoint::newest(subject.folder.path()).unwrap_err();
    assert!(
        error.to_string().contains("step-2/manifest.json"),
        "{error}"
    );
}

/// Pruning never leaves nothing but damaged ones, and touches nothing where there is nothing to do.
#[test]
fn pruning_keeps_whole_ones() {
    let subject = Subject::new();
    let folder = subject.folder.path();
    fs::remove_file(folder.join(".lock")).unwrap();
    let missing = folder.join("missing");
    assert_eq!(Checkpoint::prune(&missing, 1).unwrap(), [] as [PathBuf; 0]);
    assert_eq!(Checkpoint::list(&missing).unwrap(), []);
    assert!(!missing.exists());
    for keep in [2, 3, usize::MAX] {
        assert_eq!(Checkpoint::prune(folder, keep).unwrap().len(), 0);
    }
    overwrite(&subject.file("node-1.safetensors"), 9, b"x");
    assert_eq!(Checkpoint::prune(folder, 1).unwrap().len(), 0);
    assert!(!folder.join(".lock").exists(), "nothing was touched");
    // Three in a row, the middle one damaged.
    let third = folder.join("step-3");
    let mut more = trainer();
    more.resume(&Checkpoint::open(folder.join("step-1")).unwrap())
        .unwrap();
    more.step(&data()).unwrap();
    more.step(&data()).unwrap();
    more.save(folder).unwrap();
    drop(more);
    assert_eq!(Checkpoint::prune(folder, 2).unwrap().len(), 0);
    let gone = ["step-1", "step-2"].map(|name| folder.join(name));
    assert_eq!(Checkpoint::prune(folder, 1).unwrap(), gone);
    assert_eq!(Checkpoint::list(folder).unwrap(), [(3, third)]);
}
