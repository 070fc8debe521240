//! ResNet-18 on images of 32 x 32, measured: how long steps take on any number of nodes.
//!
//! `cargo run --release --example resnet -- --nodes 2 --schedule 1f1b`
//!
//! The images are random: what they show does not matter for how long a step takes. With `--json`
//! it prints an object a step and a summary, as `brigade train --json`.

use brigade::layer::{LayerError, Precision, Random, Tensor};
use brigade::nn::{AdamW, Arrays, Batches, ResNet};
use brigade::planner::{Planner, Space};
use brigade::profile::{Effort, Profile};
use brigade::{Config, ScheduleKind, Trainer};
use clap::Parser;
use serde_json::json;

const IMAGE: [usize; 3] = [32, 32, 3];
const CLASSES: usize = 10;

/// Trains ResNet-18 on random images, and says how long steps took.
#[derive(Parser)]
#[command(name = "resnet", version)]
struct Options {
    /// Nodes that the layers are split over.
    #[arg(long, default_value_t = 1)]
    nodes: usize,
    /// Threads of a node.
    #[arg(long, default_value_t = 1)]
    threads_per_node: usize,
    /// In which order: gpipe, 1f1b, zb-h1, .. (the fastest by simulation).
    #[arg(long)]
    schedule: Option<ScheduleKind>,
    /// Images of a step.
    #[arg(long, default_value_t = 64)]
    batch_size: usize,
    /// Images of a micro-batch.
    #[arg(long, default_value_t = 16)]
    micro_batch_size: usize,
    /// Compute products in bf16.
    #[arg(long)]
    bf16: bool,
    /// Steps.
    #[arg(long, default_value_t = 10)]
    steps: usize,
    /// Print one JSON object a line.
    #[arg(long)]
    json: bool,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    let network = ResNet::resnet18(IMAGE, CLASSES).network()?;
    let data = Batches::shuffled(images(options.batch_size)?, options.batch_size, 1)?;
    let config = Config {
        nodes: options.nodes,
        threads_per_node: options.threads_per_node,
        schedule: options.schedule.unwrap_or_default(),
        batch_size: options.batch_size,
        micro_batch_size: options.micro_batch_size,
        precision: if options.bf16 {
            Precision::Bf16
        } else {
            Precision::F32
        },
        ..Config::default()
    };
    let optimizer = AdamW::new(1e-3);

    // Each layer is measured, and the cuts with the shortest simulated step are taken.
    let profile = Profile::measure(&network, &data, &config, &optimizer, Effort::Quick)?;
    let mut space = Space::only(&config);
    if options.schedule.is_none() {
        space = space.any_schedule(&config);
    }
    let planned = Planner::new(&network, &config, &optimizer, &profile)?
        .space(space)
        .plan()?;
    if !options.json {
        println!("{}", planned.candidates[0].words());
    }
    let (plan, config) = (planned.plan, planned.config);
    let mut trainer = Trainer::start_with_plan(&network, &config, optimizer, plan)?;

    let (mut times, mut loss) = (Vec::new(), 0.0);
    for step in 0..options.steps {
        let report = trainer.step(&data)?;
        let ms = 1e3 * report.duration.as_secs_f64();
        match options.json {
            true => println!(
                "{}",
                json!({ "step": step, "loss": report.loss, "step_ms": ms })
            ),
            false => println!("step {step}: loss {:.3}, {ms:.0} ms", report.loss),
        }
        (loss, times) = (report.loss, [times, vec![ms]].concat());
    }
    let peaks: Vec<u64> = trainer
        .report()?
        .iter()
        .map(|node| node.memory.peak_bytes)
        .collect();
    times.sort_by(f64::total_cmp);
    let rate = 1e3 * options.batch_size as f64 / times[times.len() / 2];
    match options.json {
        true => println!(
            "{}",
            json!({ "summary": {
                "steps": options.steps, "images_per_s": rate, "final_loss": loss,
                "peak_bytes": peaks,
            } })
        ),
        false => println!("{rate:.0} images a second; peak bytes of the nodes: {peaks:?}"),
    }
    Ok(())
}

/// Random images of random classes.
fn images(count: usize) -> Result<Arrays, LayerError> {
    let elements = count * IMAGE.iter().product::<usize>();
    let random = Random::named(1, "images");
    let number = |at: usize| random.below(at as u64, 0, 2000) as f32 / 1000.0 - 1.0;
    let pixels: Vec<f32> = (0..elements).map(number).collect();
    let class = |row: usize| random.below(row as u64, 1, CLASSES as u64) as i32;
    let [height, width, channels] = IMAGE;
    Arrays::new(
        Tensor::from_vec([count, height, width, channels], pixels)?,
        Tensor::from_vec([count], (0..count).map(class).collect::<Vec<i32>>())?,
    )
}
