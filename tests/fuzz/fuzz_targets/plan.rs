//! Promise: whatever a plan file holds, it is read or refused; what is read is planned again and
//! proven, or refused; and what is planned is simulated.
#![no_main]

use brigade::layer::Network;
use brigade::nn::{AdamW, Gpt};
use brigade::schedule::Times;
use brigade::{Config, Plan, PlanError, SavedPlan};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

/// The network of the files in `corpus/plan`.
static NETWORK: LazyLock<Network> = LazyLock::new(|| {
    let gpt = Gpt {
        vocab: 16,
        context: 4,
        width: 8,
        heads: 2,
        blocks: 2,
        ..Gpt::default()
    };
    gpt.network().expect("a small network")
});

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let saved = match SavedPlan::parse("fuzz", text) {
        Ok(saved) => saved,
        Err(error) => return names_a_place(&error, text),
    };
    let (network, optimizer) = (&*NETWORK, AdamW::new(1e-3));
    let config = saved.config(&Config::default());
    let _ = saved.plan(network, &config, &optimizer);
    // The same without its fingerprint, which seldom fits what was changed.
    if let Ok(plan) = Plan::with_schedule(network, &config, &optimizer, &saved) {
        let times = Times::equal(plan.partition.stages().index(), 1.0, 1.0, 1.0);
        let timeline = plan.simulate(&times).expect("it is proven");
        assert!(timeline.makespan > 0.0);
    }
});

fn names_a_place(error: &PlanError, text: &str) {
    let PlanError::File { line, .. } = error else {
        panic!("{error:?} names no file");
    };
    assert!(*line <= text.split('\n').count(), "{error}");
    assert!(error.to_string().len() < 1000, "{error}");
}
