//! What checkpoints cost.
//!
//! 1. `cost`: a GPT of setting M (or `-- cost s` of setting S) on two nodes, ten steps without and
//!    ten with a checkpoint next to training, in turn: the share that saving adds.
//! 2. `speed`: bytes a second of saving while training waits, of reading it all with checksums, of
//!    resuming, and of copying and syncing a file of the same size.
//!
//! `cargo bench --bench checkpoint -- cost`; needs two cores that nobody else uses. Files go to
//! `target/`, or to the folder that `BRIGADE_BENCH_DISK` names.
#![allow(missing_docs, clippy::unwrap_used)]

use brigade::layer::Network;
use brigade::nn::{AdamW, Gpt, TokenWindows};
use brigade::{Checkpoint, Config, SaveTo, ScheduleKind, Trainer};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Between two checkpoints.
const STEPS: usize = 10;
const ROUNDS: usize = 5;
const SPEED_ROUNDS: usize = 5;

fn main() {
    let names = std::env::args().skip(1);
    let names: Vec<String> = names.filter(|name| !name.starts_with('-')).collect();
    let has = |name: &str| names.iter().any(|given| given == name);
    let small = has("s");
    let all = !has("cost") && !has("speed");
    let (gpt, batch) = setting(small);
    let network = gpt.network().unwrap();
    let disk = std::env::var_os("BRIGADE_BENCH_DISK").map_or("target".into(), PathBuf::from);
    let folder = tempfile::tempdir_in(disk).unwrap();
    if all || has("speed") {
        speed(&network, batch, folder.path());
    }
    if all || has("cost") {
        cost(&network, &gpt, batch, folder.path());
    }
}

/// The settings that docs/PERFORMANCE.md compares with others.
fn setting(small: bool) -> (Gpt, usize) {
    let gpt = |width, heads, context, vocab| Gpt {
        vocab,
        context,
        width,
        heads,
        blocks: 8,
        ..Gpt::default()
    };
    match small {
        true => (gpt(256, 4, 128, 512), 32),
        false => (gpt(512, 8, 256, 8192), 16),
    }
}

fn config(batch: usize, saving_bytes: u64) -> Config {
    Config {
        nodes: 2,
        schedule: ScheduleKind::ZbV,
        batch_size: batch,
        micro_batch_size: batch / 8,
        saving_bytes,
        ..Config::default()
    }
}

fn median(mut list: Vec<f64>) -> f64 {
    list.sort_by(f64::total_cmp);
    list[list.len() / 2]
}

fn bytes_in(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap();
    { entries }
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum()
}

fn cost(network: &Network, gpt: &Gpt, batch: usize, folder: &Path) {
    let tokens: Vec<i32> = (0..200_000).map(|n| n * 7919 % 251).collect();
    let data = TokenWindows::random(tokens, gpt.context, batch, 1).unwrap();
    let config = config(batch, 64 << 20);
    let mut trainer = Trainer::start(network, &config, AdamW::new(1e-3)).unwrap();
    let to = SaveTo::new(folder.join("cost")).keep(1);
    for _ in 0..2 {
        trainer.step(&data).unwrap();
    }
    let mut ten = |saved: bool| {
        let started = Instant::now();
        if saved {
            trainer.save_beside(to.clone()).unwrap();
        }
        let mut whole_after = None;
        for step in 1..=STEPS {
            let report = trainer.step(&data).unwrap();
            if let Some(saved) = report.saved {
                saved.unwrap();
                whole_after = Some((step, started.elapsed()));
            }
        }
        assert_eq!(whole_after.is_some(), saved, "whole before the next one");
        (started.elapsed(), whole_after)
    };
    let mut ratios = Vec::new();
    for round in 0..ROUNDS {
        let order = [round % 2 == 0, round % 2 == 1];
        let [first, second] = order.map(&mut ten);
        let (with, without) = if order[0] {
            (first, second)
        } else {
            (second, first)
        };
        let ratio = with.0.as_secs_f64() / without.0.as_secs_f64();
        let (step, after) = with.1.unwrap();
        println!(
            "{STEPS} steps: {:.2} s without, {:.2} s with a checkpoint, which is whole in step \
             {step} after {:.2} s: {:+.1}%",
            without.0.as_secs_f64(),
            with.0.as_secs_f64(),
            after.as_secs_f64(),
            100.0 * (ratio - 1.0)
        );
        ratios.push(ratio);
    }
    let cost = 100.0 * (median(ratios) - 1.0);
    let size = Checkpoint::newest(&to.folder).unwrap().unwrap();
    let size = bytes_in(size.path()) as f64 / 1e6;
    println!("a checkpoint of {size:.0} MB every {STEPS} steps: {cost:+.2}% in the median");
}

fn speed(network: &Network, batch: usize, folder: &Path) {
    let to = folder.join("speed");
    let start = || Trainer::start(network, &config(batch, 0), AdamW::new(1e-3)).unwrap();
    let mut trainer = start();
    let timed = |act: &mut dyn FnMut()| {
        let times = (0..SPEED_ROUNDS).map(|_| {
            let started = Instant::now();
            act();
            started.elapsed()
        });
        median(times.map(|time: Duration| time.as_secs_f64()).collect())
    };
    let save = timed(&mut || drop(trainer.save(SaveTo::new(&to).keep(1)).unwrap()));
    let checkpoint = Checkpoint::newest(&to).unwrap().unwrap();
    let verify = timed(&mut || checkpoint.verify().unwrap());
    let mut other = start();
    let resume = timed(&mut || drop(other.resume(&checkpoint).unwrap()));
    let file = checkpoint.path().join("node-0.safetensors");
    let half = file.metadata().unwrap().len();
    let copy = timed(&mut || {
        let copy = folder.join("copy");
        fs::copy(&file, &copy).unwrap();
        File::open(&copy).unwrap().sync_all().unwrap();
        fs::remove_file(&copy).unwrap();
    });
    let bytes = bytes_in(checkpoint.path());
    let line = |what: &str, bytes: u64, seconds: f64| {
        let rate = bytes as f64 / seconds / 1e9;
        println!(
            "{what:<40} {rate:>6.2} GB/s  ({:.0} MB in {seconds:.2} s)",
            bytes as f64 / 1e6
        );
    };
    line("save, training waits", bytes, save);
    line("verify", bytes, verify);
    line("resume, two nodes at once", bytes, resume);
    line("copy and sync a file of one node", half, copy);
}
