//! Whether nodes hold what was predicted.

use super::adamw;
use brigade::layer::{Data, Network};
use brigade::{Config, Error, PlanError, Trainer};

/// Trains, evaluates and predicts with a limit of exactly what was predicted.
pub fn stays_within_its_plan<D: Data + Clone>(network: &Network, config: &Config, data: &D) -> f64 {
    let needed: Vec<u64> = {
        let trainer = Trainer::start(network, config, adamw()).unwrap();
        trainer
            .plan()
            .memory
            .iter()
            .map(|memory| memory.peak_bytes())
            .collect()
    };
    let most = *needed.iter().max().unwrap();
    let limited = Config {
        node_memory_bytes: Some(most),
        ..config.clone()
    };
    let mut trainer = Trainer::start(network, &limited, adamw()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..3 {
        trainer.step(data).unwrap();
        if config.saving_bytes > 0 {
            trainer.save_beside(folder.path()).unwrap();
        }
    }
    trainer.evaluate(data).unwrap();
    trainer.predict(data).unwrap();
    trainer.step(data).unwrap();
    let held = trainer.report().unwrap();
    let mut least = f64::MAX;
    for (report, needed) in held.iter().zip(needed) {
        let peak = report.memory.peak_bytes;
        assert!(
            peak <= needed,
            "node {}: {peak} held, {needed} predicted, {config:?}",
            report.node
        );
        least = least.min(peak as f64 / needed as f64);
    }

    let less = Config {
        node_memory_bytes: Some(most - 1),
        ..config.clone()
    };
    let refused = Trainer::start(network, &less, adamw())
        .err()
        .expect("one byte less is refused");
    let Error::Plan(PlanError::DoesNotFit { needed_bytes, .. }) = refused else {
        panic!("{refused}")
    };
    assert_eq!(needed_bytes, most);
    least
}
