//! Kills runs at random moments, lets them go on, and looks at what comes out.

use super::{brigade, lines};
use brigade::Checkpoint;
use brigade::layer::Random;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Child, Output};
use std::time::{Duration, Instant};

/// A tied network with dropout that trains in less than a second, saving all the time.
pub const RUN: &str = "text.txt --tied --layers 4 --width 16 --heads 2 --context 8 --batch-size 8 \
                       --micro-batch-size 1 --dropout 0.1 --steps 60 --save-every 2 --json";

/// What killing found out.
#[derive(Debug, Default)]
pub struct Killed {
    /// Runs that were killed before their end.
    pub kills: usize,
    /// Kills that left a checkpoint half written, or half removed.
    pub half: usize,
    /// Runs that came to their end, by one or more starts.
    pub ended: usize,
    /// Starts that went on from a checkpoint.
    pub resumed: usize,
}

/// How many kills a test makes: more where `BRIGADE_KILLS` says so.
pub fn kills(few: usize) -> usize {
    let wanted = std::env::var("BRIGADE_KILLS").ok();
    wanted.map_or(few, |wanted| wanted.parse().unwrap())
}

/// Kills runs until there are so many kills, each at a random moment within a little longer than a
/// run takes that nobody interrupts; whatever comes to its end has the weights of that one. `start`
/// starts number n of the starts with these arguments.
pub fn kill_again_and_again(
    folder: &Path,
    count: usize,
    mut start: impl FnMut(usize, &str) -> Child,
    mut kill: impl FnMut(usize, &mut Child),
) -> Killed {
    let whole = brigade(folder, &format!("train {RUN} --nodes 1 --out whole"));
    let wanted = sha(&whole);
    let begun = Instant::now();
    let first = start(0, &format!("train {RUN} --out first"));
    assert_eq!(sha(&first.wait_with_output().unwrap()), wanted);
    let longest = begun.elapsed().mul_f64(1.2);
    let random = Random::named(5, "moments");
    let (mut found, mut starts, mut run) = (Killed::default(), 0, 0);
    while found.kills < count {
        let out = format!("run-{run}");
        let path = folder.join(&out);
        let listed = listed(folder, &out);
        let arguments = match listed {
            0 => format!("train {RUN} --out {out}"),
            _ => format!("train --resume {out}"),
        };
        found.resumed += usize::from(listed > 0);
        // What an earlier start left has no checkpoint: there is nothing to lose.
        if listed == 0 && path.exists() {
            fs::remove_dir_all(&path).unwrap();
        }
        let started = Instant::now();
        let mut child = start(starts, &arguments);
        let moment =
            longest.mul_f64(f64::from(random.words(starts as u64, 0, 0)[0]) / 2f64.powi(32));
        starts += 1;
        while started.elapsed() < moment && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let killed = child.try_wait().unwrap().is_none();
        if killed {
            kill(starts, &mut child);
        }
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            killed || output.status.success(),
            "nobody killed it: {said}"
        );
        if output.status.success() {
            assert_eq!(sha(&output), wanted, "start {starts} of {arguments}");
            assert_verifies(folder, &out);
            fs::remove_dir_all(&path).unwrap();
            (found.ended, run) = (found.ended + 1, run + 1);
        } else {
            found.kills += 1;
            found.half += usize::from(is_half(&path));
            let listed = self::listed(folder, &out);
            if listed > 0 {
                assert_verifies(folder, &out);
            }
        }
    }
    // The last one comes to its end, too.
    let out = format!("run-{run}");
    if listed(folder, &out) > 0 {
        let output = brigade(folder, &format!("train --resume {out}"));
        assert_eq!(sha(&output), wanted);
        found.ended += 1;
    }
    println!("{found:?} in {starts} starts");
    found
}

/// How many checkpoints a run has.
fn listed(folder: &Path, out: &str) -> usize {
    let checkpoints = folder.join(out).join("checkpoints");
    Checkpoint::list(checkpoints).unwrap().len()
}

fn assert_verifies(folder: &Path, out: &str) {
    for (step, path) in Checkpoint::list(folder.join(out).join("checkpoints")).unwrap() {
        let checkpoint = Checkpoint::open(path).unwrap();
        assert_eq!(checkpoint.manifest().step, step);
        checkpoint.verify().unwrap();
    }
}

fn is_half(run: &Path) -> bool {
    let entries = fs::read_dir(run.join("checkpoints"));
    let names = entries
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().file_name());
    { names }.any(|name| {
        let name = name.to_string_lossy();
        name.ends_with(".part") || name.ends_with(".gone")
    })
}

/// The digest in the last line that a run has printed.
pub fn sha(output: &Output) -> String {
    let lines = lines(output);
    let summary = lines.iter().rev().find_map(|line| line.get("summary"));
    let digest = summary.unwrap()["weights_sha256"].as_str();
    digest
        .map(str::to_owned)
        .unwrap_or_else(|| panic!("{:?}", Value::from(lines)))
}
