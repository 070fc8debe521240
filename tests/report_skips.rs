//! Promise: where a network is no chain, plan and report say and show what goes past stages.
#![cfg(feature = "report")]
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use brigade::layer::{From, Network, TensorSpec};
use brigade::nn::{AdamW, Linear, MeanSquaredError};
use brigade::report::Report;
use brigade::{Config, Cuts, Plan, ScheduleKind};

/// Levels down and up; each on the way up reads its like and the one before it.
fn u_shaped(levels: usize, skips: bool) -> Network {
    let linear = || Linear::new(64, 64);
    let mut network = Network::builder()
        .input(TensorSpec::f32([64]))
        .target(TensorSpec::f32([64]));
    for level in 0..levels {
        network = network.layer(&format!("enc{level}"), linear());
    }
    for level in (0..levels).rev() {
        let (key, like) = (format!("dec{level}"), format!("enc{level}"));
        network = match skips {
            true => network.layer_from(&key, common::toy(), &[From::Previous, From::Layer(&like)]),
            false => network.layer(&key, linear()),
        };
    }
    network.loss("loss", MeanSquaredError).build().unwrap()
}

fn planned(network: &Network, schedule: ScheduleKind, nodes: usize) -> Plan {
    let config = Config {
        nodes,
        schedule,
        cuts: Cuts::Before((1..6).collect()),
        batch_size: 64,
        micro_batch_size: 16,
        ..Config::default()
    };
    Plan::new(network, &config, &AdamW::new(0.1)).unwrap()
}

fn page(plan: &Plan) -> String {
    let report = Report {
        title: "A graph",
        facts: &[],
        plan,
        steps: &[],
        validations: &[],
        traces: &[],
        nodes: &[],
        sample: None,
    };
    report.html().unwrap()
}

#[test]
fn skips_are_named_with_what_travels() {
    let plan = planned(&u_shaped(3, true), ScheduleKind::OneFOneB, 6);
    let words: Vec<String> = plan.skips.iter().map(ToString::to_string).collect();
    let expected = [
        "skip enc1 -> dec1: stage 1 -> stage 4, 4 KiB a micro-batch",
        "skip enc0 -> dec0: stage 0 -> stage 5, 4 KiB a micro-batch",
    ];
    assert!(
        expected
            .iter()
            .all(|line| words.contains(&(*line).to_owned())),
        "{words:?}"
    );
    // On a V the ends of some are on one node.
    let plan = planned(&u_shaped(3, true), ScheduleKind::ZbV, 3);
    let local = plan.skips.iter().filter(|skip| skip.bytes == 0);
    let local: Vec<String> = local.map(ToString::to_string).collect();
    assert!(
        local
            .iter()
            .any(|line| line.ends_with("stage 0 -> stage 5, on one node")),
        "{local:?}"
    );
    assert!(
        planned(&u_shaped(3, false), ScheduleKind::OneFOneB, 6)
            .skips
            .is_empty()
    );
}

#[test]
fn skips_are_drawn_as_arcs_and_chains_without() {
    let html = page(&planned(&u_shaped(3, true), ScheduleKind::OneFOneB, 6));
    assert!(html.contains("Skips</h"), "the heading");
    for text in ["enc0 → dec0: stage 0 → stage 5, ", "stage 5", "node 5"] {
        assert!(html.contains(text), "{text}");
    }
    let drawing = html.split("aria-label=\"Skips\"").nth(1).unwrap();
    let drawing = drawing.split("</svg>").next().unwrap();
    // An arc of many pieces and its tip, for each skip.
    assert_eq!(drawing.matches("<polyline").count(), 2 * 2);
    let chain = page(&planned(&u_shaped(3, false), ScheduleKind::OneFOneB, 6));
    assert!(!chain.contains("Skips"));
}
