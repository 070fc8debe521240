//! Promise: networks of images, too, train to the same numbers bit for bit, running statistics
//! included, whatever the partition, schedule, number of nodes and threads, transport and
//! recomputation; and nodes stay within what was predicted.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use brigade::layer::{Data, LayerError, Network, Precision, Random, StepId, Tensor, Tensors};
use brigade::nn::{ResNet, Vgg};
use brigade::{Config, Cuts, Recompute, ScheduleKind, Transport};
use common::fitting::stays_within_its_plan;
use common::precisions::from_any_pipeline;
use common::*;
use std::ops::Range;

const STEPS: usize = 2;
const SIDE: usize = 8;
const CLASSES: usize = 5;

/// Images and classes that follow from their numbers alone.
#[derive(Clone, Debug)]
struct Images;

impl Data for Images {
    fn rows(&self, _: StepId) -> usize {
        13
    }
    fn inputs(&self, step: StepId, rows: Range<usize>) -> Result<Tensors, LayerError> {
        let random = Random::named(step.get(), "images");
        let (count, pixels) = (rows.len(), SIDE * SIDE * 3);
        let numbers = rows.flat_map(|row| {
            let number = move |at: usize| random.below(row as u64, at as u32, 200);
            (0..pixels).map(move |at| number(at) as f32 / 100.0 - 1.0)
        });
        let numbers: Vec<f32> = numbers.collect();
        Ok(Tensor::from_vec([count, SIDE, SIDE, 3], numbers)?.into())
    }
    fn targets(&self, step: StepId, rows: Range<usize>) -> Result<Tensors, LayerError> {
        let random = Random::named(step.get(), "classes");
        let count = rows.len();
        let class = |row: usize| random.below(row as u64, 0, CLASSES as u64) as i32;
        let classes: Vec<i32> = rows.map(class).collect();
        Ok(Tensor::from_vec([count], classes)?.into())
    }
}

/// Three groups of a block each, whose skips may be cut: 12 layers.
fn resnet() -> Network {
    let resnet = ResNet {
        width: 4,
        blocks: vec![1, 1, 1],
        ..ResNet::resnet18([SIDE, SIDE, 3], CLASSES)
    };
    resnet.network().unwrap()
}

#[test]
fn weights_losses_and_norms_do_not_depend_on_nodes_schedule_or_threads() {
    let pairs = [(1, 2), (2, 1), (3, 1), (4, 2), (6, 1)];
    independence::of_nodes_and_threads(&resnet(), (&Images, STEPS), &pairs);
}

#[test]
fn they_do_not_depend_on_cuts_transport_or_recomputation() {
    let network = resnet();
    independence::of_cuts_transport_and_recomputation(&network, (&Images, STEPS));
    let one = with(1, ScheduleKind::GPipe, Cuts::Balanced, 1);
    let one = train(&network, &one, STEPS, &Images);
    for (recompute, transport) in [
        (Recompute::Always, Transport::Local),
        (Recompute::Always, Transport::Encoded),
        (Recompute::Layers(vec![1..4, 4..9]), Transport::Encoded),
    ] {
        let config = Config {
            recompute: recompute.clone(),
            transport,
            ..with(3, ScheduleKind::ZbH1, Cuts::Uniform, 1)
        };
        assert_eq!(
            train(&network, &config, STEPS, &Images),
            one,
            "{recompute:?}"
        );
    }
}

#[test]
fn in_any_precision() {
    let all = [Precision::F32, Precision::Bf16];
    for precision in all {
        for wire in all {
            from_any_pipeline(&resnet(), (precision, wire), &Images);
        }
    }
}

#[test]
fn nodes_hold_no_more_than_predicted_and_little_less() {
    for (nodes, schedule) in [
        (1, ScheduleKind::GPipe),
        (3, ScheduleKind::OneFOneB),
        (4, ScheduleKind::ZbH1),
        (2, ScheduleKind::ZbV),
    ] {
        for recompute in [Recompute::Never, Recompute::Always] {
            let config = Config {
                recompute,
                ..with(nodes, schedule, Cuts::Balanced, 1)
            };
            let least = stays_within_its_plan(&resnet(), &config, &Images);
            println!("{nodes} {schedule}: {least:.3} of the prediction");
        }
    }
}

#[test]
fn a_vgg_too() {
    let vgg = Vgg {
        groups: vec![vec![4, 4], vec![8]],
        hidden: 12,
        batch_norm: true,
        ..Vgg::vgg16([SIDE, SIDE, 3], CLASSES)
    };
    let network = vgg.network().unwrap();
    let one = with(1, ScheduleKind::GPipe, Cuts::Balanced, 1);
    let one = train(&network, &one, STEPS, &Images);
    for (nodes, schedule) in [(3, ScheduleKind::OneFOneB), (4, ScheduleKind::ZbH1)] {
        let config = with(nodes, schedule, Cuts::Balanced, 1);
        assert_eq!(train(&network, &config, STEPS, &Images), one, "{schedule}");
    }
}
