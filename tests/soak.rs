//! Promise: nothing lost, and nothing grows. One process trains, saves, fails, drops trainers at
//! random and goes on from checkpoints, on changing pipelines, for as long as asked: the weights
//! stay those of one node, and memory, file handles and threads stay as many as they were.
//!
//! `BRIGADE_SOAK_S=3600 cargo test --release --test soak -- --nocapture` takes an hour.
#![cfg(target_os = "linux")]
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use brigade::layer::{Network, Random};
use brigade::nn::Gpt;
use brigade::{Checkpoint, Config, Cuts, Fault, SaveTo, ScheduleKind, Trainer, Transport};
use common::*;
use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

/// After so many steps the run begins anew.
const STEPS: u64 = 60;
/// What the beginning of the run says does not count.
const WARM: f64 = 0.1;
/// How much memory may grow after that: the allocator has an arena for every thread that was ever
/// there at once, and fills them little by little.
const MOST_GROWTH: f64 = 1.1;
const ARENAS: u64 = 16 << 20;

/// What a process holds.
#[derive(Clone, Copy, Debug)]
struct Held {
    bytes: u64,
    files: usize,
    threads: usize,
}

fn held() -> Held {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    Held {
        bytes: field("VmRSS:") << 10,
        files: fs::read_dir("/proc/self/fd").unwrap().count(),
        threads: field("Threads:") as usize,
    }
}

/// As many file handles and threads as at the beginning are there again, soon after a trainer is
/// gone.
fn settled(first: Held) -> Held {
    let since = Instant::now();
    loop {
        let now = held();
        if now.files <= first.files && now.threads <= first.threads {
            return now;
        }
        let soon = since.elapsed() < Duration::from_secs(10);
        assert!(
            soon,
            "something is never given back: {first:?}, then {now:?}"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn network() -> (Network, Tokens) {
    let gpt = Gpt {
        vocab: 61,
        context: 16,
        width: 32,
        heads: 2,
        blocks: 4,
        tied: true,
        dropout: 0.1,
        ..Gpt::default()
    };
    let data = Tokens {
        rows: 8,
        context: 16,
        vocab: 61,
    };
    (gpt.network().unwrap(), data)
}

fn pipelines(network: &Network) -> Vec<Config> {
    let all = ScheduleKind::ALL.into_iter();
    let all = all.flat_map(|kind| [1, 2, 4].map(|nodes| with(nodes, kind, Cuts::Balanced, 1)));
    let all = all.map(|config| Config {
        batch_size: 8,
        micro_batch_size: 1,
        saving_bytes: 1 << 14,
        ..config
    });
    all.filter(|config| is_legal(network, config)).collect()
}

/// The weights after every step, on one node.
fn reference(network: &Network, data: &Tokens, config: &Config) -> BTreeMap<u64, String> {
    let mut trainer = Trainer::start(network, config, adamw()).unwrap();
    let after = |step| {
        trainer.step(data).unwrap();
        (step, trainer.weights_sha256().unwrap())
    };
    (1..=STEPS).map(after).collect()
}

/// How one trainer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Ended {
    Dropped,
    DroppedWhileSaving,
    Failed,
    Whole,
}

#[test]
fn nothing_grows_and_nothing_is_lost() {
    let seconds = std::env::var("BRIGADE_SOAK_S").map_or(10.0, |text| text.parse().unwrap());
    let all = Duration::from_secs_f64(seconds);
    let (network, data) = network();
    let pipelines = pipelines(&network);
    let wanted = reference(&network, &data, &pipelines[0]);
    let folder = tempfile::tempdir().unwrap();
    let to = SaveTo::new(folder.path()).keep(2);
    let random = Random::named(3, "soak");
    let draw = |at: u64, what: u32, most: u64| random.below(at, what, most);
    let first = held();
    let (started, mut seen, mut ends) = (Instant::now(), Vec::new(), BTreeMap::new());
    let mut number = 0;
    while started.elapsed() < all {
        number += 1;
        let config = Config {
            transport: match draw(number, 0, 2) {
                0 => Transport::Local,
                _ => Transport::Encoded,
            },
            ..pipelines[draw(number, 1, pipelines.len() as u64) as usize].clone()
        };
        let mut trainer = match draw(number, 2, 4) {
            0 => {
                let fault = Fault {
                    node: draw(number, 3, config.nodes as u64) as usize,
                    after_sends: draw(number, 4, 400),
                };
                Trainer::start_faulty(&network, &config, adamw(), fault).unwrap()
            }
            _ => Trainer::start(&network, &config, adamw()).unwrap(),
        };
        if let Some(newest) = Checkpoint::newest(&to.folder).unwrap() {
            trainer.resume(&newest).unwrap();
        }
        let ended = train(&mut trainer, &data, &to, draw(number, 5, STEPS), &wanted);
        drop(trainer);
        if ended == Ended::Whole {
            fs::remove_dir_all(&to.folder).unwrap();
        }
        *ends.entry(ended).or_insert(0) += 1;
        if number % 8 == 0 {
            seen.push((started.elapsed().as_secs_f64() / seconds, settled(first)));
        }
    }
    report(&seen, number, &ends);
}

/// Trains for so many steps or to the end, saving every few.
fn train(
    trainer: &mut Trainer,
    data: &Tokens,
    to: &SaveTo,
    count: u64,
    wanted: &BTreeMap<u64, String>,
) -> Ended {
    let mut saving = false;
    for _ in 0..count {
        if trainer.steps() == STEPS {
            break;
        }
        let Ok(report) = trainer.step(data) else {
            return Ended::Failed;
        };
        saving &= report.saved.map(|saved| saved.unwrap()).is_none();
        if trainer.steps().is_multiple_of(5) {
            if trainer.save_beside(to.clone()).is_err() {
                return Ended::Failed;
            }
            saving = true;
        }
    }
    match trainer.weights_sha256() {
        Err(_) => return Ended::Failed,
        Ok(found) => {
            let before = trainer.steps();
            let same = wanted.get(&before).is_none_or(|wanted| *wanted == found);
            assert!(same, "after step {before}");
        }
    }
    match (trainer.steps() == STEPS, saving) {
        (true, _) => Ended::Whole,
        (false, true) => Ended::DroppedWhileSaving,
        (false, false) => Ended::Dropped,
    }
}

fn report(seen: &[(f64, Held)], trainers: u64, ends: &BTreeMap<Ended, u32>) {
    println!("{trainers} trainers: {ends:?}");
    for part in 0..=10 {
        let at = seen
            .iter()
            .find(|(share, _)| *share >= f64::from(part) / 10.0);
        if let Some((share, held)) = at {
            println!("{:>4.0}%  {held:?}", 100.0 * share);
        }
    }
    let settled = seen
        .iter()
        .filter(|(share, _)| *share >= WARM)
        .map(|(_, held)| *held);
    let settled: Vec<_> = settled.collect();
    let half = settled.len() / 2;
    let most = |some: &[Held], of: fn(&Held) -> u64| some.iter().map(of).max().unwrap_or(0);
    let (early, late) = settled.split_at(half);
    let (first, second) = (most(early, |h| h.bytes), most(late, |h| h.bytes));
    println!("memory of the first half {first}, of the second {second}");
    let allowed = (first as f64 * MOST_GROWTH) as u64 + ARENAS;
    assert!(second < allowed, "memory grows from {first} to {second}");
}
