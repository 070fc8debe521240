//! Promise: tracing shows what really happened, and changes no number.
#![allow(missing_docs, clippy::unwrap_used)]

use brigade::ids::NodeId;
use brigade::layer::Network;
use brigade::nn::{AdamW, Gpt, TokenWindows};
use brigade::schedule::{Action, Work, simulate};
use brigade::trace::{StepTrace, kernel_times, layer_times, median_times, perfetto_json};
use brigade::{Config, Recompute, ScheduleKind, Trainer};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

const MICRO_BATCHES: usize = 4;

fn gpt() -> Network {
    Gpt {
        context: 8,
        width: 16,
        blocks: 3,
        dropout: 0.1,
        ..Gpt::default()
    }
    .network()
    .unwrap()
}

fn data() -> TokenWindows {
    let tokens: Vec<i32> = (0..500).map(|n| n * 7 % 256).collect();
    TokenWindows::random(tokens, 8, 2 * MICRO_BATCHES, 1).unwrap()
}

fn start(nodes: usize, schedule: ScheduleKind) -> Trainer {
    let config = Config {
        nodes,
        schedule,
        batch_size: 2 * MICRO_BATCHES,
        micro_batch_size: 2,
        ..Config::default()
    };
    Trainer::start(&gpt(), &config, AdamW::new(1e-3)).unwrap()
}

fn traced(nodes: usize, schedule: ScheduleKind) -> (Trainer, Vec<StepTrace>) {
    let mut trainer = start(nodes, schedule);
    trainer.step(&data()).unwrap();
    let traces = (0..3).map(|_| trainer.step_traced(&data()).unwrap().1);
    let traces = traces.collect();
    (trainer, traces)
}

#[test]
fn traced_steps_have_the_same_numbers() {
    let mut plain = start(3, ScheduleKind::OneFOneB);
    let mut traced = start(3, ScheduleKind::OneFOneB);
    for step in 0..4 {
        let expected = plain.step(&data()).unwrap();
        let (report, trace) = traced.step_traced(&data()).unwrap();
        assert_eq!(report.loss, expected.loss);
        assert_eq!((report.step.get(), trace.step.get()), (step, step));
    }
    assert_eq!(
        plain.weights_sha256().unwrap(),
        traced.weights_sha256().unwrap()
    );
}

/// A stage that is computed again calls its layers forward within I or B too, before all others.
#[test]
fn what_is_computed_again_is_traced_within_its_action() {
    for schedule in [ScheduleKind::GPipe, ScheduleKind::ZbH1] {
        let config = Config {
            nodes: 2,
            schedule,
            batch_size: 2 * MICRO_BATCHES,
            micro_batch_size: 2,
            recompute: Recompute::Always,
            ..Config::default()
        };
        let mut trainer = Trainer::start(&gpt(), &config, AdamW::new(1e-3)).unwrap();
        let trace = trainer.step_traced(&data()).unwrap().1;
        let plan = trainer.plan();
        for (node, own) in trace.nodes.iter().enumerate() {
            let layers = plan.layers_on(NodeId::new(node as u32)).count();
            assert_eq!(own.layers.len(), 4 * layers * MICRO_BATCHES, "F, F, I, W");
            for span in &own.actions {
                let inside = own.layers.iter();
                let inside = inside.filter(|call| span.start <= call.start && call.end <= span.end);
                let forward = inside.filter(|call| call.work == Work::F).count();
                let expected = match span.action {
                    Action::Compute(compute) if compute.work == Work::W => 0,
                    Action::Compute(_) => layers,
                    _ => 0,
                };
                assert_eq!(forward, expected, "{:?}", span.action);
            }
        }
        let times = median_times(std::slice::from_ref(&trace), plan);
        assert!(times.input.iter().all(|input| *input > 0.0));
        perfetto_json(plan, &[trace]);
    }
}

/// Every entry of every list, once, in order, one after the other.
#[test]
fn a_trace_has_every_action_in_order() {
    for schedule in ScheduleKind::ALL {
        for nodes in [1, 2] {
            let (trainer, traces) = traced(nodes, schedule);
            for trace in &traces {
                let lists = &trainer.plan().training.lowered.nodes;
                assert_eq!(trace.nodes.len(), lists.len());
                for (own, list) in trace.nodes.iter().zip(lists) {
                    let actions: Vec<_> = own.actions.iter().map(|span| span.action).collect();
                    assert_eq!(actions, *list);
                    assert!(own.actions.iter().all(|span| span.start <= span.end));
                    let one_by_one = own.actions.windows(2);
                    assert!(
                        one_by_one
                            .map(|w| (w[0].end, w[1].start))
                            .all(|(a, b)| a <= b)
                    );
                }
            }
        }
    }
}

#[test]
fn layer_calls_lie_within_their_stages_actions() {
    let (trainer, traces) = traced(3, ScheduleKind::OneFOneB);
    let plan = trainer.plan();
    for (node, own) in traces[0].nodes.iter().enumerate() {
        let layers = plan.layers_on(NodeId::new(node as u32)).count();
        assert_eq!(own.layers.len(), 3 * layers * MICRO_BATCHES, "F, I and W");
        for call in &own.layers {
            let stage = plan.partition.stage_of(call.layer);
            let around = own.actions.iter().filter(|span| {
                let Action::Compute(compute) = span.action else {
                    return false;
                };
                let work = match compute.work {
                    Work::F => call.work == Work::F,
                    _ => call.work != Work::F,
                };
                let same = compute.stage == stage && compute.micro_batch == call.micro_batch;
                work && same && span.start <= call.start && call.end <= span.end
            });
            assert_eq!(around.count(), 1, "{call:?}");
        }
    }
}

#[test]
fn kernels_take_no_longer_than_their_layers() {
    let (trainer, traces) = traced(2, ScheduleKind::GPipe);
    let mut names = Vec::new();
    for own in traces.iter().flat_map(|trace| &trace.nodes) {
        for layer in own.layers.iter().map(|call| call.layer) {
            let calls = own.layers.iter().filter(|call| call.layer == layer);
            let total: Duration = calls.map(|call| call.end - call.start).sum();
            let kernels = own.kernels.iter().filter(|(of, _)| *of == layer);
            assert!(kernels.map(|(_, time)| time.total).sum::<Duration>() <= total);
        }
        names.extend(own.kernels.iter().map(|(_, time)| time.kernel.to_string()));
    }
    for kernel in [
        "product y",
        "product dx, f",
        "product dw",
        "attention",
        "layer norm",
    ] {
        assert!(names.iter().any(|name| name == kernel), "{kernel}");
    }
    let sums = kernel_times(&traces);
    assert!(sums.windows(2).all(|pair| pair[0].1 >= pair[1].1));
    let layers = layer_times(&traces, trainer.plan().layers.len());
    assert!(layers.iter().all(|layer| layer.total() > Duration::ZERO));
}

/// The schedule played with measured medians cannot be shorter than its busiest node.
#[test]
fn a_measured_step_is_a_timeline_like_a_simulated_one() {
    let (trainer, traces) = traced(2, ScheduleKind::OneFOneB);
    let plan = trainer.plan();
    let times = median_times(&traces, plan);
    let batches = plan.training.batch.micro_batches();
    let simulated = simulate(&plan.training.lowered, &plan.layout, batches, &times).unwrap();
    for timeline in traces
        .iter()
        .map(StepTrace::timeline)
        .chain([simulated.clone()])
    {
        assert_eq!(timeline.nodes.len(), 2);
        for node in [0, 1].map(NodeId::new) {
            assert!(timeline.busy(node) > 0.0 && timeline.busy(node) <= timeline.makespan);
        }
        assert!((0.0..1.0).contains(&timeline.bubble()));
    }
    let same = |list: &Vec<brigade::schedule::Span>| -> Vec<Action> {
        list.iter().map(|span| span.action).collect()
    };
    let measured = traces[0].timeline();
    for (one, other) in measured.nodes.iter().zip(&simulated.nodes) {
        assert_eq!(same(one), same(other));
    }
}

/// What a viewer needs: one named row a node, slices that nest, arrows that start in a send and end
/// in the wait for the same message on the other node.
#[test]
fn the_perfetto_file_has_a_row_a_node_nested_slices_and_whole_arrows() {
    let (trainer, traces) = traced(3, ScheduleKind::OneFOneB);
    let file: Value = serde_json::from_str(&perfetto_json(trainer.plan(), &traces)).unwrap();
    let events = file["traceEvents"].as_array().unwrap();
    let of = |phase: &str| -> Vec<&Value> {
        events.iter().filter(|event| event["ph"] == phase).collect()
    };
    let rows: Vec<_> = of("M")
        .into_iter()
        .filter(|event| event["name"] == "thread_name")
        .map(|event| event["args"]["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        rows,
        ["node 0: stage 0", "node 1: stage 1", "node 2: stage 2"].repeat(2),
        "measured, then simulated"
    );

    let row_of = |event: &Value| {
        let number = |key: &str| event[key].as_u64().unwrap();
        (number("pid"), number("tid"))
    };
    let nanos = |value: &Value| (value.as_f64().unwrap() * 1e3).round() as u64;
    let mut slices = BTreeMap::<(u64, u64), Vec<(u64, u64, &str)>>::new();
    for event in of("X") {
        let (start, taken) = (nanos(&event["ts"]), nanos(&event["dur"]));
        let name = event["name"].as_str().unwrap();
        let row = slices.entry(row_of(event)).or_default();
        row.push((start, start + taken, name));
    }
    assert_eq!(slices.len(), 2 * 3);
    for row in slices.values_mut() {
        row.sort_by_key(|(start, end, _)| (*start, std::cmp::Reverse(*end)));
        let mut open: Vec<u64> = Vec::new();
        for (start, end, name) in row {
            while open.last().is_some_and(|outer| outer <= start) {
                open.pop();
            }
            assert!(
                open.last().is_none_or(|outer| *end <= *outer),
                "{name} crosses"
            );
            open.push(*end);
        }
    }

    let (starts, ends) = (of("s"), of("f"));
    // Forward and backward over two cuts, every micro-batch, three steps.
    assert_eq!(starts.len(), 3 * 2 * 2 * MICRO_BATCHES);
    assert_eq!(starts.len(), ends.len());
    let inside = |event: &Value, verb: &str| {
        let at = nanos(&event["ts"]);
        let row = &slices[&row_of(event)];
        row.iter()
            .any(|(start, end, name)| name.starts_with(verb) && *start <= at && at <= *end)
    };
    for start in starts {
        let end: Vec<_> = ends.iter().filter(|end| end["id"] == start["id"]).collect();
        assert_eq!(end.len(), 1, "one receive for {start}");
        assert!(nanos(&start["ts"]) <= nanos(&end[0]["ts"]));
        assert_ne!(start["tid"], end[0]["tid"]);
        assert!(inside(start, "send") && inside(end[0], "wait"));
    }
}
