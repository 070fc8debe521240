//! Promise: a U-Net, too, trains to the same numbers bit for bit, whatever the partition, schedule,
//! number of nodes and threads, transport and recomputation; what a level had is sent once,
//! straight to where it is read; and what is predicted bounds what is held.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use brigade::layer::*;
use brigade::nn::{UNet, UNetNorm, UpsampleMode};
use brigade::{Config, Cuts, Recompute, ScheduleKind, Trainer};
use common::fitting::stays_within_its_plan;
use common::precisions::from_any_pipeline;
use common::*;
use std::ops::Range;

const STEPS: usize = 3;

/// Images with a class for every pixel.
#[derive(Clone, Debug)]
struct Pixels {
    rows: usize,
    image: [usize; 3],
    classes: u64,
}

impl Pixels {
    fn random(&self, name: &str) -> (Random, usize) {
        (Random::named(8, name), self.image[0] * self.image[1])
    }
}

impl Data for Pixels {
    fn rows(&self, _: StepId) -> usize {
        self.rows
    }
    fn inputs(&self, step: StepId, rows: Range<usize>) -> Result<Tensors, LayerError> {
        let (random, pixels) = self.random("images");
        let [height, width, channels] = self.image;
        let shape = [rows.len(), height, width, channels];
        let numbers = 0..(pixels * channels) as u32;
        let draw = |row: usize, at| {
            unit_f32(random.words(row as u64, step.get() as u32, at)[0]) * 2.0 - 1.0
        };
        let all = rows.flat_map(|row| numbers.clone().map(move |at| draw(row, at)));
        Ok(Tensor::from_vec(shape, all.collect::<Vec<f32>>())?.into())
    }
    fn targets(&self, step: StepId, rows: Range<usize>) -> Result<Tensors, LayerError> {
        let (random, pixels) = self.random("classes");
        let [height, width, _] = self.image;
        let shape = [rows.len(), height, width];
        let draw =
            |row: usize, at| random.below(row as u64 + 1000 * step.get(), at, self.classes) as i32;
        let all = rows.flat_map(|row| (0..pixels as u32).map(move |at| draw(row, at)));
        Ok(Tensor::from_vec(shape, all.collect::<Vec<i32>>())?.into())
    }
}

/// Two levels and a bottom: 18 layers.
fn unet(norm: UNetNorm, upsample: UpsampleMode) -> UNet {
    UNet {
        image: [8, 12, 2],
        classes: 3,
        depth: 2,
        width: 4,
        norm,
        upsample,
    }
}

fn of(unet: &UNet, rows: usize) -> (Network, Pixels) {
    let data = Pixels {
        rows,
        image: unet.image,
        classes: unet.classes as u64,
    };
    (unet.network().unwrap(), data)
}

fn small() -> (Network, Pixels) {
    of(&unet(UNetNorm::Batch, UpsampleMode::Bilinear), 13)
}

#[test]
fn weights_losses_and_norms_do_not_depend_on_nodes_schedule_or_threads() {
    for (norm, upsample) in [
        (UNetNorm::Batch, UpsampleMode::Nearest),
        (UNetNorm::Group(2), UpsampleMode::Bilinear),
        (UNetNorm::None, UpsampleMode::Nearest),
    ] {
        let (network, data) = of(&unet(norm, upsample), 13);
        assert_eq!(network.layers().len(), 18);
        let pairs = [(1, 2), (2, 1), (3, 3), (5, 1), (9, 1)];
        independence::of_nodes_and_threads(&network, (&data, STEPS), &pairs);
    }
}

#[test]
fn they_do_not_depend_on_cuts_transport_or_recomputation() {
    let (network, data) = small();
    independence::of_cuts_transport_and_recomputation(&network, (&data, STEPS));
}

/// Sizes at which convolutions are computed in every way there is here.
#[test]
fn neither_precision_nor_rounded_messages_let_the_cut_show() {
    let larger = UNet {
        image: [16, 16, 2],
        width: 24,
        ..unet(UNetNorm::Batch, UpsampleMode::Bilinear)
    };
    let (network, data) = of(&larger, 13);
    for precision in [Precision::F32, Precision::Bf16] {
        from_any_pipeline(&network, (precision, precision), &data);
    }
}

/// From where to where messages go, and how often.
fn routes(cuts: &[usize]) -> Vec<String> {
    let cuts = Cuts::Before(cuts.to_vec());
    let config = with(cuts_of(&cuts) + 1, ScheduleKind::OneFOneB, cuts, 1);
    let trainer = Trainer::start(&small().0, &config, adamw()).unwrap();
    let mut routes: Vec<String> = (trainer.plan().layout.routes.iter())
        .map(|route| format!("{}>{} {:?}", route.from, route.to, route.lane.direction))
        .collect();
    routes.sort();
    routes
}

fn cuts_of(cuts: &Cuts) -> usize {
    match cuts {
        Cuts::Before(cuts) => cuts.len(),
        _ => 0,
    }
}

/// A level a stage: what a level had passes by those in between, and its gradient too.
#[test]
fn each_skip_is_sent_once_and_straight_to_its_reader() {
    let forward = ["0>1", "0>4", "1>2", "1>3", "2>3", "3>4"].map(|way| format!("{way} Forward"));
    let backward = ["1>0", "2>1", "3>1", "3>2", "4>0", "4>3"].map(|way| format!("{way} Backward"));
    let mut expected: Vec<String> = forward.into_iter().chain(backward).collect();
    expected.sort();
    assert_eq!(routes(&[3, 6, 8, 12]), expected);
    // With the pool beyond the cut, the level's last tensor goes two ways, once each.
    let split = routes(&[2, 12]);
    let straight = |way: &str| split.iter().filter(|route| *route == way).count();
    assert_eq!((straight("0>1 Forward"), straight("0>2 Forward")), (1, 1));
    assert_eq!((straight("1>0 Backward"), straight("2>0 Backward")), (1, 1));
}

/// The plan's figures are what travels, and by hand: 13 images of 8 x 12 pixels of 4 channels.
#[test]
fn no_more_travels_than_is_read_elsewhere() {
    let (network, data) = small();
    let config = with(
        5,
        ScheduleKind::OneFOneB,
        Cuts::Before(vec![3, 6, 8, 12]),
        1,
    );
    let mut trainer = Trainer::start(&network, &config, adamw()).unwrap();
    let planned = trainer.plan().sent_bytes.clone();
    trainer.step(&data).unwrap();
    let reports = trainer.report().unwrap();
    let sent: Vec<u64> = reports.iter().map(|node| node.sent_bytes).collect();
    assert_eq!(sent, planned);
    let (whole, half) = (13 * 8 * 12 * 4 * 4, 13 * 4 * 6 * 4 * 4);
    let scalars = planned[0] - (whole + half);
    assert!(
        scalars < 200,
        "the first level sends its skip and half of it: {scalars}"
    );
}

/// Micro-batches of one size: a smaller last one would count as a whole one.
#[test]
fn it_holds_no_more_than_planned_and_not_much_less() {
    for norm in [UNetNorm::Batch, UNetNorm::Group(2), UNetNorm::None] {
        let (network, data) = of(&unet(norm, UpsampleMode::Bilinear), 12);
        for (nodes, threads, recompute) in [
            (1, 1, Recompute::Never),
            (2, 2, Recompute::Never),
            (3, 1, Recompute::Always),
            (5, 1, Recompute::Never),
        ] {
            for schedule in [
                ScheduleKind::OneFOneB,
                ScheduleKind::GPipe,
                ScheduleKind::ZbH1,
            ] {
                let config = Config {
                    recompute: recompute.clone(),
                    batch_size: 12,
                    ..with(nodes, schedule, Cuts::Balanced, threads)
                };
                if is_legal(&network, &config) {
                    let held = stays_within_its_plan(&network, &config, &data);
                    let share = if nodes == 1 && schedule == ScheduleKind::OneFOneB {
                        0.95
                    } else {
                        0.85
                    };
                    let how = format!("{norm:?} {schedule} on {nodes} nodes, {recompute:?}");
                    assert!(held > share, "{how}: {held:.3} of what was predicted");
                }
            }
        }
    }
}
