//! Promise: whatever a profile holds, it is read or refused; what is read survives being written,
//! and times a plan of any network.
#![no_main]

use brigade::layer::Network;
use brigade::nn::{AdamW, Gpt};
use brigade::planner::{Planner, Space};
use brigade::profile::Profile;
use brigade::{Config, Plan, PlanError};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

/// What the files in `corpus/profile` are of.
static SUBJECT: LazyLock<(Network, Config, Plan)> = LazyLock::new(|| {
    let gpt = Gpt {
        vocab: 16,
        context: 4,
        width: 8,
        heads: 2,
        blocks: 1,
        ..Gpt::default()
    };
    let network = gpt.network().expect("a small network");
    let config = Config {
        nodes: 2,
        batch_size: 8,
        micro_batch_size: 2,
        ..Config::default()
    };
    let plan = Plan::new(&network, &config, &AdamW::new(1e-3)).expect("a small plan");
    (network, config, plan)
});

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let profile = match Profile::from_json(text) {
        Ok(profile) => profile,
        Err(error) => return names_a_place(&error, text),
    };
    let again = Profile::from_json(&profile.to_json()).expect("what was written is read");
    assert_eq!(again.to_json(), profile.to_json());
    let (network, config, plan) = &*SUBJECT;
    let timeline = profile.simulate(plan).expect("a plan is proven");
    assert!(timeline.makespan.is_finite(), "{}", timeline.makespan);
    for rows in [1, 3, 1000] {
        let size = profile.at(network, rows).expect("a network takes any rows");
        assert_eq!(size.rows, rows);
    }
    if profile.check(network, config).is_ok() {
        let optimizer = AdamW::new(1e-3);
        let planner = Planner::new(network, config, &optimizer, &profile).expect("it was checked");
        let space = Space::only(config).any_schedule(config).any_recompute();
        let planner = planner.space(space.any_micro_batch(config));
        let planned = planner.plan().expect("some are legal");
        assert!(planned.feasible() && planned.candidates[0].step_time.is_finite());
    }
});

fn names_a_place(error: &PlanError, text: &str) {
    let PlanError::File { line, .. } = error else {
        panic!("{error:?} names no file");
    };
    assert!(*line <= text.split('\n').count(), "{error}");
    assert!(error.to_string().len() < 1000, "{error}");
}
