//! Trains over four nodes, then once more on one: the weights are the same, bit for bit.
//!
//! `cargo run --release`

use brigade::nn::{AdamW, Batches};
use brigade::{Config, Trainer};
use forecast::{Series, network};

const STEPS: u64 = 400;
const BATCH: usize = 64;

/// Trains, and gives what the weights are, in one number.
fn train(nodes: usize) -> Result<String, Box<dyn std::error::Error>> {
    let config = Config {
        nodes,
        batch_size: BATCH,
        micro_batch_size: 8,
        ..Config::default()
    };
    let seen = Batches::shuffled(Series::new(1, 0..4000), BATCH, 1)?;
    let held_out = Batches::whole(Series::new(1, 4100..5000))?;
    let mut trainer = Trainer::start(&network()?, &config, AdamW::new(3e-3))?;
    println!(
        "{nodes} nodes, cut before layers {:?}",
        trainer.plan().partition.cuts()
    );
    for step in 0..STEPS {
        let report = trainer.step(&seen)?;
        if step % 100 == 0 || step + 1 == STEPS {
            println!("step {step:>3}  loss {:.5}", report.loss);
        }
    }
    let found = trainer.evaluate(&held_out)?;
    println!(
        "held out  loss {:.5} over {} terms",
        found.loss, found.terms
    );
    for (name, mean) in &found.metrics {
        println!("held out  {name} {:.3}", mean.unwrap_or(f64::NAN));
    }
    let sha256 = trainer.weights_sha256()?;
    println!("weights   {sha256}\n");
    Ok(sha256)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    assert_eq!(train(4)?, train(1)?, "the same numbers");
    println!("four nodes and one: the same weights, bit for bit");
    Ok(())
}
