//! Handwritten digits told apart by a residual network over four nodes: images from IDX files,
//! moved a little at random while training.
//!
//! `cargo run --release --example digits`

use brigade::layer::{From, LayerError, Network, NetworkBuilder, TensorSpec};
use brigade::nn::{
    Accuracy, AdamW, Arrays, Augmented, BatchNorm2d, Batches, Conv2d, CrossEntropy,
    GlobalAveragePool, Idx, ImageArray, LearningRate, Linear, Window,
};
use brigade::{Config, Trainer};
use std::path::Path;

const EPOCHS: u64 = 8;
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

/// A convolution without bias, as its normalisation has one.
fn convolution(inputs: usize, outputs: usize, window: Window) -> Conv2d {
    Conv2d::new(inputs, outputs, window).without_bias()
}

/// Two convolutions, to which their input is added (He et al. 2016, arXiv 1512.03385). Where the
/// image becomes half as large, the input goes through a convolution as well.
fn block(
    builder: NetworkBuilder,
    from: &str,
    name: &str,
    [inputs, outputs]: [usize; 2],
) -> NetworkBuilder {
    let key = |part: &str| format!("{name}.{part}");
    let stride = outputs / inputs;
    let window = Window::square(3).padding(1);
    let norm = BatchNorm2d::new(outputs);
    let mut builder = builder;
    let (mut skip, last) = (from.to_owned(), key("conv2"));
    if stride > 1 {
        let narrow = convolution(inputs, outputs, Window::square(1).stride(stride));
        skip = key("skip_norm");
        builder = builder
            .layer_from(&key("skip"), narrow, &[From::Layer(from)])
            .layer(&skip, norm.clone());
    }
    let first = convolution(inputs, outputs, window.stride(stride));
    builder
        .layer_from(&key("conv1"), first, &[From::Layer(from)])
        .layer(&key("norm1"), norm.clone().relu())
        .layer(&last, convolution(outputs, outputs, window))
        .layer_from(
            name,
            norm.adding().relu(),
            &[From::Layer(&last), From::Layer(&skip)],
        )
}

fn network() -> Result<Network, LayerError> {
    let window = Window::square(3).padding(1);
    let mut builder = Network::builder()
        .input(TensorSpec::f32([8, 8, 1]))
        .target(TensorSpec::i32([]))
        .layer("conv", convolution(1, 16, window))
        .layer("block0", BatchNorm2d::new(16).relu());
    for (number, widths) in [[16, 16], [16, 16], [16, 32], [32, 32]]
        .into_iter()
        .enumerate()
    {
        let [from, name] = [number, number + 1].map(|at| format!("block{at}"));
        builder = block(builder, &from, &name, widths);
    }
    builder
        .layer("pool", GlobalAveragePool)
        .layer("out", Linear::new(32, 10))
        .loss("loss", CrossEntropy::new())
        .metric(Accuracy::new())
        .build()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let batches = Batches::shuffled(digits("train")?, ROWS, 1)?;
    // Moved by up to a pixel, never flipped: the mirror image of a digit is none.
    let training = Augmented::new(batches, [8, 8], 1).crop([8, 8], 1)?;
    let held_out = Batches::whole(digits("test")?)?;

    let config = Config {
        nodes: 4,
        batch_size: ROWS,
        micro_batch_size: 8,
        ..Config::default()
    };
    let rate = LearningRate::Cosine {
        peak: 5e-3,
        min: 5e-5,
        warmup_steps: 20,
        steps: EPOCHS * 45,
    };
    let optimizer = AdamW {
        lr: rate,
        weight_decay: 0.05,
        ..AdamW::default()
    };
    let mut trainer = Trainer::start(&network()?, &config, optimizer)?;
    for epoch in 0..EPOCHS {
        let mut loss = 0.0;
        while training.data().epoch(trainer.steps()) == epoch {
            loss = trainer.step(&training)?.loss;
        }
        let evaluation = trainer.evaluate(&held_out)?;
        let accuracy = evaluation.metrics[0].1.unwrap_or_default();
        println!(
            "epoch {epoch}  loss {loss:.3}  held out: loss {:.3}, {:.1}% right",
            evaluation.loss,
            100.0 * accuracy
        );
    }
    Ok(())
}
