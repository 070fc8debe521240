//! Promise: what a layer gathers along a step, such as the running statistics of a batch
//! normalisation, is the same bit for bit however the network is cut and run, counts once, is saved
//! and taken up with everything else, and is as it was after a step that was refused.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use brigade::layer::*;
use brigade::nn::{BatchNorm2d, GroupNorm, Linear, MeanSquaredError};
use brigade::{Checkpoint, Config, Cuts, OnNonFinite, Recompute, ScheduleKind, Trainer, Transport};
use common::fitting::stays_within_its_plan;
use common::*;
use std::ops::Range;

/// Numbers as images of so many sides and channels.
#[derive(Clone, Debug)]
struct Images {
    numbers: Numbers,
    shape: [usize; 3],
}

impl Images {
    fn new(rows: usize, shape: [usize; 3]) -> Self {
        let width = shape.iter().product();
        let numbers = Numbers {
            rows,
            inputs: width,
            targets: width,
        };
        Self { numbers, shape }
    }

    fn shaped(&self, flat: Tensors) -> Result<Tensors, LayerError> {
        let [flat] = flat.take()?;
        let [height, width, channels] = self.shape;
        let rows = flat.shape().rows();
        Ok(flat.reshape([rows, height, width, channels])?.into())
    }
}

impl Data for Images {
    fn rows(&self, step: StepId) -> usize {
        self.numbers.rows(step)
    }
    fn inputs(&self, step: StepId, rows: Range<usize>) -> Result<Tensors, LayerError> {
        self.shaped(self.numbers.inputs(step, rows)?)
    }
    fn targets(&self, step: StepId, rows: Range<usize>) -> Result<Tensors, LayerError> {
        self.shaped(self.numbers.targets(step, rows)?)
    }
}

const SHAPE: [usize; 3] = [3, 2, 4];

fn images() -> Images {
    Images::new(13, SHAPE)
}

/// A residual block between others, with a toy in front of the last layer; images of this shape.
fn network_of(shape: [usize; 3], hidden: usize, momentum: f32, toy: Toy) -> Network {
    let row = TensorSpec::f32(shape);
    let norm = || BatchNorm2d::new(hidden).momentum(momentum);
    let both = [From::Previous, From::Layer("bn1")];
    (Network::builder().input(row).target(row))
        .layer("a", Linear::new(shape[2], hidden))
        .layer("bn1", norm().relu())
        .layer("b", Linear::new(hidden, hidden).without_bias())
        .layer_from("bn2", norm().adding().relu(), &both)
        .layer("gn", GroupNorm::new(2, hidden))
        .layer("toy", toy)
        .layer("c", Linear::new(hidden, shape[2]))
        .loss("loss", MeanSquaredError)
        .build()
        .unwrap()
}

fn network() -> Network {
    network_of(SHAPE, 6, 0.1, toy())
}

/// Three ways of computing again.
const WAYS: [Recompute; 3] = [Recompute::Never, Recompute::ExceptLast, Recompute::Always];

/// On up to four nodes by every schedule.
fn everywhere(network: &Network, mut act: impl FnMut(Config)) {
    let mut tried = 0;
    for schedule in ScheduleKind::ALL {
        for nodes in [1, 2, 4] {
            let config = with(nodes, schedule, Cuts::Uniform, 1);
            if is_legal(network, &config) {
                act(config);
                tried += 1;
            }
        }
    }
    assert!(tried >= 20, "{tried}");
}

fn values(trainer: &mut Trainer, key: &str) -> Vec<f32> {
    trainer.weights().unwrap().get(key).unwrap().values.clone()
}

#[test]
fn running_statistics_do_not_depend_on_how_the_network_is_run() {
    let (network, data) = (network(), images());
    let config = with(1, ScheduleKind::GPipe, Cuts::Uniform, 1);
    let one = train(&network, &config, 3, &data);
    everywhere(&network, |config| {
        for (recompute, threads) in WAYS.into_iter().zip([1, 2, 1]) {
            for transport in [Transport::default(), Transport::Encoded] {
                let config = Config {
                    recompute: recompute.clone(),
                    transport,
                    threads_per_node: threads,
                    ..config.clone()
                };
                let found = train(&network, &config, 3, &data);
                assert_eq!(found, one, "{config:?}");
            }
        }
    });
}

/// Means of 0 and variances of 1 are all that an untrained one knows; after a step that takes over
/// all of what it found, evaluation sees what training saw, but for the unbiased variance.
#[test]
fn evaluation_goes_by_running_statistics() {
    let (network, data) = (network_of(SHAPE, 6, 1.0, toy()), images());
    let config = Config {
        micro_batch_size: 13,
        ..with(2, ScheduleKind::OneFOneB, Cuts::Uniform, 1)
    };
    let still = brigade::nn::Sgd::new(0.0);
    let mut trainer = Trainer::start(&network, &config, still).unwrap();
    let before = trainer.evaluate(&data).unwrap().loss;
    let trained = trainer.step(&data).unwrap().loss;
    let sha = trainer.weights_sha256().unwrap();
    let after = trainer.evaluate(&data).unwrap().loss;
    assert_eq!(trainer.weights_sha256().unwrap(), sha);
    let (far, near) = ((before - trained).abs(), (after - trained).abs());
    assert!(
        near < 0.02 * trained && 5.0 * near < far,
        "{before} {trained} {after}"
    );
    // What a row becomes does not depend on those beside it.
    let few = Images::new(2, SHAPE);
    let [all, few] = [&data, &few].map(|data| trainer.predict(data).unwrap());
    let (all, few) = (all.f32().unwrap(), few.f32().unwrap());
    let pairs = few.iter().zip(all);
    assert!(pairs.clone().count() == 2 * 3 * 2 * 4);
    pairs.for_each(|(few, all)| assert!((few - all).abs() < 1e-5, "{few} {all}"));
}

#[test]
fn checkpoints_keep_them() {
    let (network, data) = (network(), images());
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        saving_bytes: 64,
        ..with(2, ScheduleKind::OneFOneB, Cuts::Uniform, 1)
    };
    let mut trainer = Trainer::start(&network, &config, adamw()).unwrap();
    (0..2).for_each(|_| drop(trainer.step(&data).unwrap()));
    let saved = values(&mut trainer, "bn2.running_var");
    trainer.save_beside(folder.path()).unwrap();
    // It may be whole in the midst of these steps, or after them.
    let reports = [0, 1].map(|_| trainer.step(&data).unwrap());
    let mut whole = reports.into_iter().filter_map(|report| report.saved);
    let path = match whole.next() {
        Some(saved) => saved.unwrap(),
        None => trainer.finish_saving().unwrap().unwrap(),
    };
    let checkpoint = Checkpoint::open(path).unwrap();
    let wanted = trainer.weights_sha256().unwrap();
    everywhere(&network, |config| {
        let mut trainer = Trainer::start(&network, &config, adamw()).unwrap();
        assert_ne!(values(&mut trainer, "bn2.running_var"), saved);
        trainer.resume(&checkpoint).unwrap();
        assert_eq!(values(&mut trainer, "bn2.running_var"), saved);
        (0..2).for_each(|_| drop(trainer.step(&data).unwrap()));
        assert_eq!(trainer.weights_sha256().unwrap(), wanted, "{config:?}");
    });
}

#[test]
fn a_refused_step_leaves_them_as_they_were() {
    let spoils = Toy {
        not_a_number_at: Some((1, 2)),
        ..toy()
    };
    let (network, data) = (network_of(SHAPE, 6, 0.1, spoils), images());
    let mut wanted = None;
    everywhere(&network, |config| {
        let config = Config {
            on_nonfinite: OnNonFinite::Skip,
            ..config
        };
        let mut trainer = Trainer::start(&network, &config, adamw()).unwrap();
        let mut seen = vec![values(&mut trainer, "bn1.running_mean")];
        for step in 0..3 {
            let skipped = trainer.step(&data).unwrap().skipped.is_some();
            assert_eq!(skipped, step == 1);
            seen.push(values(&mut trainer, "bn1.running_mean"));
        }
        assert!(seen[0] != seen[1] && seen[1] == seen[2] && seen[2] != seen[3]);
        assert_eq!(*wanted.get_or_insert(seen.clone()), seen, "{config:?}");
    });
}

#[test]
fn frozen_ones_stay_as_they_are() {
    let (whole, data) = (network(), images());
    for keys in [&["a", "bn1"][..], &["bn2"], &["bn1", "gn"]] {
        let network = whole.freeze(|key| keys.contains(&key)).unwrap();
        let mut wanted = None;
        everywhere(&network, |config| {
            let mut trainer = Trainer::start(&network, &config, adamw()).unwrap();
            let before = trainer.weights().unwrap();
            (0..2).for_each(|_| drop(trainer.step(&data).unwrap()));
            for (key, _) in network.params() {
                let frozen = keys
                    .iter()
                    .any(|layer| key.starts_with(&format!("{layer}.")));
                let same = before.get(&key).unwrap().values == values(&mut trainer, &key);
                assert_eq!(same, frozen, "{key}");
            }
            let found = trainer.weights_sha256().unwrap();
            assert_eq!(*wanted.get_or_insert(found.clone()), found, "{config:?}");
            let held = trainer.report().unwrap();
            for (held, memory) in held.iter().zip(&trainer.plan().memory) {
                assert!(held.memory.peak_bytes <= memory.peak_bytes(), "{config:?}");
            }
        });
    }
}

#[test]
fn nodes_hold_no_more_than_planned() {
    let (network, data) = (network(), images());
    everywhere(&network, |config| {
        for recompute in WAYS {
            let config = Config {
                recompute,
                ..config.clone()
            };
            // With costs the order depends on the limit.
            if !config.schedule.uses_costs() {
                stays_within_its_plan(&network, &config, &data);
            }
        }
    });
}

/// So many residual blocks, each ending with a sum.
fn residual(shape: [usize; 3], hidden: usize, blocks: usize) -> Network {
    let row = TensorSpec::f32(shape);
    let norm = || BatchNorm2d::new(hidden).relu();
    let mut network = (Network::builder().input(row).target(row))
        .layer("a", Linear::new(shape[2], hidden))
        .layer("end.0", norm());
    for block in 1..=blocks {
        let before = format!("end.{}", block - 1);
        let inner = Linear::new(hidden, hidden).without_bias();
        let inputs = [From::Previous, From::Layer(&before)];
        network = network
            .layer(&format!("inner.{block}"), inner)
            .layer(&format!("norm.{block}"), GroupNorm::new(4, hidden))
            .layer_from(&format!("end.{block}"), norm().adding(), &inputs);
    }
    let network = network.layer("c", Linear::new(hidden, shape[2]));
    network.loss("loss", MeanSquaredError).build().unwrap()
}

/// Where no slot stays empty at the worst moment, on one node, and what is kept is most of it.
#[test]
fn what_normalisations_hold_is_predicted_closely() {
    let shape = [8, 8, 16];
    let (network, data) = (residual(shape, 32, 8), Images::new(16, shape));
    let config = Config {
        batch_size: 16,
        micro_batch_size: 2,
        ..with(1, ScheduleKind::GPipe, Cuts::Uniform, 1)
    };
    let least = stays_within_its_plan(&network, &config, &data);
    println!("{least:.3}");
    assert!(least > 0.95, "{least}");
}
