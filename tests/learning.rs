//! Promise: what is trained through four nodes learns. A residual network reads handwritten digits
//! that it has not seen; a U-Net says of every pixel to which shape it belongs.
#![allow(missing_docs, clippy::unwrap_used)]

use brigade::layer::{Data, Network, StepId};
use brigade::nn::{AdamW, Arrays, Augmented, Batches, Idx, ImageArray, LearningRate, ResNet, UNet};
use brigade::{Config, ScheduleKind, Trainer};

#[path = "../docs/examples/segment/shapes.rs"]
mod shapes;

use shapes::{CLASSES, SIDE, Shapes};

/// Trains over four nodes, and gives the share of right answers among those that were held out.
fn learned<D: Data + Clone, H: Data + Clone>(
    network: &Network,
    (data, rows, steps): (&D, usize, u64),
    held_out: &H,
) -> f64 {
    let config = Config {
        nodes: 4,
        schedule: ScheduleKind::ZbH1,
        batch_size: rows,
        micro_batch_size: rows / 2,
        ..Config::default()
    };
    let lr = LearningRate::Cosine {
        peak: 5e-3,
        min: 5e-5,
        warmup_steps: 20,
        steps,
    };
    let optimizer = AdamW {
        lr,
        weight_decay: 0.05,
        ..AdamW::default()
    };
    let mut trainer = Trainer::start(network, &config, optimizer).unwrap();
    for _ in 0..steps {
        trainer.step(data).unwrap();
    }
    let evaluation = trainer.evaluate(held_out).unwrap();
    println!("{evaluation:?}");
    evaluation.metrics[0].1.unwrap()
}

fn digits(part: &str) -> Arrays {
    let open = |what: &str| {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens/digits");
        Idx::open(format!("{folder}/{part}-{what}-ubyte")).unwrap()
    };
    let images = ImageArray::new(open("images-idx3")).unwrap();
    let images = images.normalised(&[0.287], &[0.353]).unwrap();
    Arrays::new(images, open("labels-idx1")).unwrap()
}

/// 97 of 100 among the 360 that were held out.
#[test]
fn a_resnet_reads_digits() {
    let rows = 32;
    let batches = Batches::shuffled(digits("train"), rows, 1).unwrap();
    let data = Augmented::new(batches, [8, 8], 1).crop([8, 8], 1).unwrap();
    let resnet = ResNet {
        width: 32,
        blocks: vec![2, 2],
        ..ResNet::resnet18([8, 8, 1], 10)
    };
    let held_out = Batches::whole(digits("test")).unwrap();
    let right = learned(
        &resnet.network().unwrap(),
        (&data, rows, 16 * 45),
        &held_out,
    );
    assert!(right > 0.97, "{right}");
}

/// Three shapes in noise: 96 of 100 pixels, where less than 85 are background.
#[test]
fn a_unet_finds_shapes() {
    let unet = UNet {
        image: [SIDE, SIDE, 1],
        classes: CLASSES,
        width: 8,
        depth: 2,
        ..UNet::default()
    };
    let rows = 16;
    let data = Shapes { seed: 1, rows };
    let held_out = Shapes { seed: 2, rows: 64 };
    let [classes] = held_out
        .targets(StepId::new(0), 0..64)
        .unwrap()
        .take()
        .unwrap();
    let classes = classes.i32().unwrap();
    let background = classes.iter().filter(|class| **class == 0).count();
    assert!((background as f64) < 0.85 * classes.len() as f64);
    let right = learned(&unet.network().unwrap(), (&data, rows, 250), &held_out);
    assert!(right > 0.96, "{right}");
}
