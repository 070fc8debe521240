//! Promise: nothing lost. Whoever wants to stop is heard by all nodes at the end of the same step.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use brigade::layer::{Data, LayerError, StepId, Tensors};
use brigade::{Cuts, ScheduleKind, Trainer};
use common::*;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Data in the middle of which somebody wants to stop.
#[derive(Clone)]
struct Interrupted {
    data: Numbers,
    at: u64,
    asked: Arc<AtomicBool>,
}

impl Data for Interrupted {
    fn rows(&self, step: StepId) -> usize {
        self.data.rows(step)
    }
    fn inputs(&self, step: StepId, rows: Range<usize>) -> Result<Tensors, LayerError> {
        if step.get() == self.at {
            self.asked.store(true, Ordering::Relaxed);
        }
        self.data.inputs(step, rows)
    }
    fn targets(&self, step: StepId, rows: Range<usize>) -> Result<Tensors, LayerError> {
        self.data.targets(step, rows)
    }
}

#[test]
fn a_step_says_that_somebody_wants_to_stop() {
    let network = chain_with(toy());
    for nodes in [1, 2, 4] {
        let config = with(nodes, ScheduleKind::OneFOneB, Cuts::Balanced, 1);
        let start = || Trainer::start(&network, &config, adamw()).unwrap();
        let (mut trainer, mut other) = (start(), start());
        let asked = Arc::new(AtomicBool::new(false));
        trainer.stop_on(asked.clone());
        let data = Interrupted {
            data: numbers(13),
            at: 3,
            asked: asked.clone(),
        };
        let stops: Vec<_> = (0..5).map(|_| trainer.step(&data).unwrap().stop).collect();
        // What was asked for once is said until it is taken back.
        assert_eq!(stops, [false, false, false, true, true], "{nodes} nodes");
        asked.store(false, Ordering::Relaxed);
        assert!(!trainer.step(&data).unwrap().stop);
        // Nobody asked the other one, and the numbers are none of it.
        for _ in 0..6 {
            assert!(!other.step(&numbers(13)).unwrap().stop);
        }
        let weights = trainer.weights_sha256().unwrap();
        assert_eq!(weights, other.weights_sha256().unwrap());
    }
}
