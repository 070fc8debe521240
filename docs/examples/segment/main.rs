//! A U-Net that says of every pixel to which shape it belongs, trained over four nodes: what skips
//! the lower levels goes straight from the nodes that go down to those that come up again.
//!
//! `cargo run --release --example segment -- shapes.png` writes a picture: what was shown, what was
//! right, what was said.

mod shapes;

use brigade::layer::{Data, StepId};
use brigade::nn::{AdamW, LearningRate, UNet};
use brigade::{Config, Trainer};
use shapes::{CLASSES, SIDE, Shapes};
use std::fs::File;
use std::io::BufWriter;

const STEPS: u64 = 300;
/// So many pixels wide and high is a pixel drawn.
const SCALE: usize = 3;
/// Of background, circle, square, triangle.
const COLOURS: [[u8; 3]; CLASSES] = [[30; 3], [230, 159, 0], [86, 180, 233], [0, 158, 115]];
/// Pictures side by side in the picture that is written.
const SHOWN: usize = 8;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).unwrap_or("shapes.png".into());
    let unet = UNet {
        image: [SIDE, SIDE, 1],
        classes: CLASSES,
        width: 16,
        depth: 2,
        ..UNet::default()
    };
    let config = Config {
        nodes: 4,
        batch_size: 16,
        micro_batch_size: 4,
        ..Config::default()
    };
    let rate = LearningRate::Cosine {
        peak: 5e-3,
        min: 5e-5,
        warmup_steps: 20,
        steps: STEPS,
    };
    let mut trainer = Trainer::start(&unet.network()?, &config, AdamW::new(rate))?;
    let data = Shapes { seed: 1, rows: 16 };
    for step in 1..=STEPS {
        let report = trainer.step(&data)?;
        if step.is_multiple_of(20) {
            println!("step {step:>3}: loss {:.3}", report.loss);
        }
    }
    let held_out = Shapes { seed: 2, rows: 64 };
    let evaluation = trainer.evaluate(&held_out)?;
    println!(
        "held out: loss {:.3}, {:?}",
        evaluation.loss, evaluation.metrics
    );

    let shown = Shapes {
        seed: 3,
        rows: SHOWN,
    };
    let said = trainer.predict(&shown)?;
    draw(&path, &shown, said.f32()?)?;
    println!("{path}: what was shown, what was right, what was said");
    Ok(())
}

/// Writes a picture of three rows: brightness, right classes and said classes, in colours.
fn draw(path: &str, shown: &Shapes, logits: &[f32]) -> Result<(), Box<dyn std::error::Error>> {
    let step = StepId::new(0);
    let (inputs, targets) = (
        shown.inputs(step, 0..SHOWN)?,
        shown.targets(step, 0..SHOWN)?,
    );
    let ([inputs], [targets]) = (inputs.take()?, targets.take()?);
    let grey = inputs.f32()?.iter().map(|light| {
        let light = (128.0 + 100.0 * light).clamp(0.0, 255.0) as u8;
        [light; 3]
    });
    let right = targets.i32()?.iter().map(|class| COLOURS[*class as usize]);
    let said = logits.chunks(CLASSES).map(|of| {
        let greatest = (0..CLASSES).fold(0, |most, at| if of[at] > of[most] { at } else { most });
        COLOURS[greatest]
    });
    let rows: [Vec<[u8; 3]>; 3] = [grey.collect(), right.collect(), said.collect()];

    let (width, height) = (SCALE * SHOWN * SIDE, SCALE * rows.len() * SIDE);
    let mut pixels = Vec::with_capacity(3 * width * height);
    for (down, right) in (0..height).flat_map(|down| (0..width).map(move |right| (down, right))) {
        let (down, right) = (down / SCALE, right / SCALE);
        let picture = SIDE * SIDE * (right / SIDE);
        let at = picture + SIDE * (down % SIDE) + right % SIDE;
        pixels.extend(rows[down / SIDE][at]);
    }
    let file = BufWriter::new(File::create(path)?);
    let mut encoder = png::Encoder::new(file, width as u32, height as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.write_header()?.write_image_data(&pixels)?;
    Ok(())
}
