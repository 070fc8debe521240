//! How true predictions come, for every schedule.
//!
//! 1. Layers that sleep, on 2, 4 and 8 nodes: prediction is what sleeping takes here (measured
//!    beforehand, alone), simulated. Expected: each within 2%. Needs no cores.
//! 2. GPTs on two nodes: prediction is what layers, updates and links took in a GPipe run of the
//!    same network, simulated for the other schedules. Expected: median error at most 5%, worst
//!    10%. Needs two cores that nobody else uses.
//! 3. The same of GPTs so small that caches count as much as arithmetic: GPipe keeps all
//!    micro-batches and finds none of them in the cache again, so that what it takes is too much
//!    for schedules that keep fewer. Nothing is expected.
//!
//! `cargo bench --bench predict`, or with `-- sleep`, `-- gpt` or `-- small` only one of them. It
//! fails where an expectation does.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../tests/common/mod.rs"]
mod common;

use brigade::layer::{Network, TensorSpec};
use brigade::nn::{AdamW, Gpt, MeanSquaredError, Sgd, TokenWindows};
use brigade::profile::Profile;
use brigade::schedule::{Measured, Times};
use brigade::{Config, Cuts, Plan, ScheduleKind, Trainer};
use common::{Toy, numbers, toy};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// The median and the worst error that are expected at most.
const SLEEPING: [f64; 2] = [0.02, 0.02];
const GPTS: [f64; 2] = [0.05, 0.10];

fn main() -> ExitCode {
    let names = std::env::args().skip(1);
    let names: Vec<String> = names.filter(|name| !name.starts_with('-')).collect();
    let wanted = |name: &str| names.is_empty() || names.iter().any(|given| given == name);
    let mut fine = true;
    if wanted("sleep") {
        fine &= summary("sleeping layers", sleeping(), SLEEPING);
    }
    if wanted("gpt") {
        fine &= summary("GPTs", gpts(&REAL, 3), GPTS);
    }
    if wanted("small") {
        summary("small GPTs", gpts(&SMALL, 5), [f64::INFINITY; 2]);
    }
    match fine {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn median(mut list: Vec<f64>) -> f64 {
    list.sort_by(f64::total_cmp);
    list[list.len() / 2]
}

/// Prints both errors beside what is expected; whether they are within it.
fn summary(what: &str, errors: Vec<f64>, most: [f64; 2]) -> bool {
    let sizes: Vec<_> = errors.into_iter().map(f64::abs).collect();
    let worst = sizes.iter().copied().fold(0.0, f64::max);
    let count = sizes.len();
    let found = [median(sizes), worst];
    let fine = found.iter().zip(&most).all(|(found, most)| found <= most);
    println!(
        "{what}: {count} predictions, median error {:.2}% (expected {:.0}%), worst {:.2}% \
         (expected {:.0}%): {}\n",
        100.0 * found[0],
        100.0 * most[0],
        100.0 * found[1],
        100.0 * most[1],
        if fine {
            "as expected"
        } else {
            "worse than expected"
        }
    );
    fine
}

/// F, I and W of a node's whole share.
const SLEEPS_MS: [f64; 3] = [16.0, 20.0, 12.0];

fn sleeping() -> Vec<f64> {
    let mut errors = Vec::new();
    for nodes in [2, 4, 8] {
        for schedule in ScheduleKind::ALL {
            let straight = config(schedule, nodes, nodes);
            let legal = |network: &Network, config: &Config| {
                Plan::new(network, config, &Sgd::default()).is_ok()
            };
            let network = sleepers(nodes, 1.0);
            let (network, config, share) = match legal(&network, &straight) {
                true => (network, straight, 1.0),
                false => (
                    sleepers(2 * nodes, 0.5),
                    config(schedule, nodes, 2 * nodes),
                    0.5,
                ),
            };
            let [f, i, w] = SLEEPS_MS.map(|ms| really(share * ms));
            let times = Times::equal(config_stages(&config), f, i, w);
            let told = Measured {
                schedule,
                times: times.clone(),
            };
            let optimizer = Sgd::default();
            let mut trainer =
                Trainer::start_with_schedule(&network, &config, optimizer, &told).unwrap();
            let predicted = trainer.plan().simulate(&times).unwrap().makespan;
            let data = numbers(2 * nodes);
            trainer.step(&data).unwrap();
            let steps = (0..3).map(|_| trainer.step(&data).unwrap().duration.as_secs_f64());
            errors.push(show(nodes, schedule, predicted, median(steps.collect())));
        }
    }
    errors
}

fn show(nodes: usize, schedule: ScheduleKind, predicted: f64, measured: f64) -> f64 {
    let error = measured / predicted - 1.0;
    println!(
        "{nodes} nodes  {:16} predicted {:8.2} ms, measured {:8.2} ms  {:+6.2}%",
        schedule.name(),
        1e3 * predicted,
        1e3 * measured,
        100.0 * error
    );
    error
}

fn config_stages(config: &Config) -> usize {
    match &config.cuts {
        Cuts::Before(cuts) => cuts.len() + 1,
        _ => config.nodes,
    }
}

fn config(schedule: ScheduleKind, nodes: usize, stages: usize) -> Config {
    Config {
        nodes,
        schedule,
        cuts: Cuts::Before((1..stages).collect()),
        batch_size: 2 * nodes,
        micro_batch_size: 1,
        ..Config::default()
    }
}

fn sleepers(layers: usize, share: f64) -> Network {
    let mut builder = Network::builder()
        .input(TensorSpec::f32([6]))
        .target(TensorSpec::f32([6]));
    for layer in 0..layers {
        let toy = Toy {
            sleep: SLEEPS_MS.map(|ms| Duration::from_secs_f64(share * ms / 1e3)),
            params: 1,
            ..toy()
        };
        builder = builder.layer(&format!("l{layer}"), toy);
    }
    builder.loss("loss", MeanSquaredError).build().unwrap()
}

/// What sleeping so long takes: a little longer than asked for.
fn really(ms: f64) -> f64 {
    let took = |_| {
        let started = Instant::now();
        std::thread::sleep(Duration::from_secs_f64(ms / 1e3));
        started.elapsed().as_secs_f64()
    };
    median((0..15).map(took).collect())
}

/// Width, heads, context and micro-batch of GPTs of four blocks.
const REAL: [[usize; 4]; 2] = [[384, 6, 256, 2], [512, 8, 256, 2]];
const SMALL: [[usize; 4]; 2] = [[128, 4, 128, 4], [192, 4, 128, 2]];

/// Errors of all predictions; a GPipe run and one of another schedule take turns so often.
fn gpts(sizes: &[[usize; 4]], rounds: usize) -> Vec<f64> {
    let mut errors = Vec::new();
    for &[width, heads, context, micro_batch_size] in sizes {
        let gpt = Gpt {
            width,
            heads,
            context,
            blocks: 4,
            ..Gpt::default()
        };
        let rows = 8 * micro_batch_size;
        println!(
            "GPT of 4 blocks of width {width} on {context} tokens, 8 micro-batches of \
             {micro_batch_size}"
        );
        let tokens: Vec<i32> = (0..8192).map(|n| n * 31 % 256).collect();
        let data = TokenWindows::random(tokens, gpt.context, rows, 1).unwrap();
        let (network, optimizer) = (gpt.network().unwrap(), AdamW::new(1e-3));
        let config = |schedule| Config {
            nodes: 2,
            schedule,
            batch_size: rows,
            micro_batch_size,
            ..Config::default()
        };
        let gpipe = config(ScheduleKind::GPipe);
        let mut gpipe = Trainer::start(&network, &gpipe, optimizer.clone()).unwrap();
        let mut profile = |steps: usize| {
            gpipe.step(&data).unwrap();
            let traces: Vec<_> = (0..steps)
                .map(|_| gpipe.step_traced(&data).unwrap().1)
                .collect();
            (traces, gpipe.plan().clone())
        };
        profile(3);
        for schedule in ScheduleKind::ALL {
            if schedule == ScheduleKind::GPipe {
                continue;
            }
            let config = config(schedule);
            let (traces, gpipe) = profile(3);
            let known = Profile::of_traces(&network, &gpipe, &traces);
            let plan = Plan::new(&network, &config, &optimizer).unwrap();
            let told = Measured {
                schedule,
                times: known.times(&plan),
            };
            let mut trainer =
                Trainer::start_with_schedule(&network, &config, optimizer.clone(), &told).unwrap();
            // In turn, so that a machine that becomes slower meanwhile does so for both.
            let (mut steps, mut traces) = (Vec::new(), Vec::new());
            for _ in 0..rounds {
                traces.extend(profile(2).0);
                trainer.step(&data).unwrap();
                for _ in 0..2 {
                    steps.push(trainer.step(&data).unwrap().duration.as_secs_f64());
                }
            }
            let profile = Profile::of_traces(&network, &gpipe, &traces);
            let predicted = profile.simulate(trainer.plan()).unwrap().makespan;
            errors.push(show(2, schedule, predicted, median(steps)));
        }
    }
    errors
}
