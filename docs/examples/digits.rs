//! Handwritten digits told apart by a small ResNet over four nodes: images from IDX files, moved a
//! little at random while training.
//!
//! `cargo run --release --example digits -- [EPOCHS]`

use brigade::layer::LayerError;
use brigade::nn::{AdamW, Arrays, Augmented, Batches, Idx, ImageArray, LearningRate, ResNet};
use brigade::{Config, Trainer, process};
use std::path::Path;

const ROWS: usize = 32;

/// Images scaled alike for both parts, by mean and deviation of those that are trained on.
fn digits(part: &str) -> Result<Arrays, LayerError> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/digits");
    let images = Idx::open(folder.join(format!("{part}-images-idx3-ubyte")))?;
    let labels = Idx::open(folder.join(format!("{part}-labels-idx1-ubyte")))?;
    Arrays::new(
        ImageArray::new(images)?.normalised(&[0.287], &[0.353])?,
        labels,
    )
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let epochs: u64 = match std::env::args().nth(1) {
        Some(epochs) => epochs.parse()?,
        None => 16,
    };
    let batches = Batches::shuffled(digits("train")?, ROWS, 1)?;
    // Moved by up to a pixel, never flipped: the mirror image of a digit is none.
    let training = Augmented::new(batches, [8, 8], 1).crop([8, 8], 1)?;
    let held_out = Batches::whole(digits("test")?)?;

    let resnet = ResNet {
        width: 32,
        blocks: vec![2, 2],
        ..ResNet::resnet18([8, 8, 1], 10)
    };
    let config = Config {
        nodes: 4,
        batch_size: ROWS,
        micro_batch_size: 16,
        ..Config::default()
    };
    let rate = LearningRate::Cosine {
        peak: 5e-3,
        min: 5e-5,
        warmup_steps: 20,
        steps: epochs * 45,
    };
    let optimizer = AdamW {
        lr: rate,
        weight_decay: 0.05,
        ..AdamW::default()
    };
    let mut trainer = Trainer::start(&resnet.network()?, &config, optimizer)?;
    for epoch in 0..epochs {
        let mut loss = 0.0;
        while training.data().epoch(trainer.steps()) == epoch {
            loss = trainer.step(&training)?.loss;
        }
        let evaluation = trainer.evaluate(&held_out)?;
        let accuracy = evaluation.metrics[0].1.unwrap_or_default();
        // Over MPI every process knows, and one says it.
        if process::is_first() {
            println!(
                "epoch {epoch:>2}  loss {loss:.3}  held out: loss {:.3}, {:.1}% right",
                evaluation.loss,
                100.0 * accuracy
            );
        }
    }
    let sha256 = trainer.weights_sha256()?;
    if process::is_first() {
        println!("weights {sha256}");
    }
    Ok(())
}
