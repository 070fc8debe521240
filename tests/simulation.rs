//! Promise: what is predicted comes true. Here: the simulator gives what the formulas say.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "common/replay.rs"]
mod replay;

use brigade::ScheduleKind;
use brigade::ids::{EdgeId, MicroBatchCount, NodeCount, NodeId};
use brigade::placement::Placement;
use brigade::schedule::*;
use replay::replay;

/// Every schedule that takes this many, with these chunks.
fn for_all(mut law: impl FnMut(ScheduleKind, &Task, &Definition)) {
    for kind in ScheduleKind::ALL {
        for chunks in 1..=4 {
            for nodes in 1..=8 {
                let Ok(placement) = kind.place(NodeCount::new(nodes), Some(chunks)) else {
                    continue;
                };
                // All of zb-auto's orders take their time.
                let few = [1, 2, 5, 8, 16];
                let all: Vec<u32> = (1..=32).collect();
                let sizes = match kind.uses_costs() {
                    true => &few[..],
                    false => &all[..],
                };
                for micro_batches in sizes {
                    let count = MicroBatchCount::new(*micro_batches);
                    let task = Task::new(placement.clone(), count);
                    if let Ok(definition) = kind.define(&task) {
                        law(kind, &task, &definition);
                    }
                }
            }
        }
    }
}

fn times(task: &Task, costs: [f64; 3]) -> Times {
    let chunks = task.placement.chunks().unwrap() as f64;
    let [forward, input, weight] = costs.map(|cost| cost / chunks);
    Times::equal(task.placement.stages().index(), forward, input, weight)
}

/// The engine's model against code that shares nothing with it: every schedule up to 8 nodes, 32
/// micro-batches and 4 stages a node. As defined, makespan, span and memory are the same; as it
/// runs, every schedule passes the check and takes no longer than as defined.
#[test]
fn the_simulator_agrees_with_a_replay_of_every_definition() {
    let mut seen = 0;
    for_all(|kind, task, definition| {
        let (layout, count) = (Layout::chain(task.placement.clone()), task.micro_batches);
        let what = format!("{kind} {} {count}", task.nodes());
        for costs in [[1.0, 1.0, 1.0], [1.0, 1.3, 0.7]] {
            let times = times(task, costs);
            let wanted = replay(task, definition, costs).unwrap();
            let defined = as_defined(definition, &layout, count).unwrap();
            let totals = simulate_totals(&defined, &layout, count, &times).unwrap();
            assert!((totals.makespan - wanted.makespan).abs() < 1e-9, "{what}");
            let span = wanted.spans.iter().copied().fold(0.0, f64::max);
            assert!((totals.span() - span).abs() < 1e-9, "{what}");
            let peaks = node_stash_peaks(&defined, &layout, 0.0);
            for (peak, wanted) in peaks.iter().zip(&wanted.peaks) {
                assert!((peak - wanted).abs() < 1e-9, "{what}");
            }
            let runs = lower(definition, &layout, count).unwrap();
            check(&runs, &layout, count, None, &|lane| runs.slots.of(lane)).unwrap();
            let lowered = simulate_totals(&runs, &layout, count, &times).unwrap();
            assert!(lowered.makespan <= totals.makespan + 1e-9, "{what}");
        }
        seen += 1;
    });
    println!("{seen} settings");
    assert!(seen > 3000, "{seen}");
}

/// Bubbles at equal costs, by formula: (P - 1) (F + B) idle time on every node.
#[test]
fn simulated_bubbles_equal_the_closed_formula() {
    for kind in [ScheduleKind::GPipe, ScheduleKind::OneFOneB] {
        for (nodes, micro_batches) in [(1, 3), (2, 2), (4, 8), (6, 12)] {
            let layout = Layout::chain(Placement::straight(NodeCount::new(nodes)));
            let count = MicroBatchCount::new(micro_batches);
            let task = Task::new(layout.placement.clone(), count);
            let lowered = lower(&kind.define(&task).unwrap(), &layout, count).unwrap();
            let times = Times::equal(nodes as usize, 1.0, 1.2, 0.7);
            let simulation = simulate(&lowered, &layout, count, &times).unwrap();
            let (m, p) = (f64::from(micro_batches), f64::from(nodes));
            assert!((simulation.makespan - (m + p - 1.0) * 2.9).abs() < 1e-9);
            assert!((simulation.bubble() - (p - 1.0) / (m + p - 1.0)).abs() < 1e-9);
            let totals = simulate_totals(&lowered, &layout, count, &times).unwrap();
            assert_eq!(totals, simulation.totals());
            for idle in totals.idle() {
                assert!((idle - (p - 1.0) * 2.9).abs() < 1e-9);
            }
        }
    }
}

fn one_micro_batch(nodes: u32, count: u32, times: &Times) -> Timeline {
    let layout = Layout::chain(Placement::straight(NodeCount::new(nodes)));
    let count = MicroBatchCount::new(count);
    let task = Task::new(layout.placement.clone(), count);
    let definition = ScheduleKind::GPipe.define(&task).unwrap();
    let lowered = lower(&definition, &layout, count).unwrap();
    simulate(&lowered, &layout, count, times).unwrap()
}

#[test]
fn links_that_take_time_make_the_makespan_longer() {
    let times = Times::equal(4, 1.0, 1.0, 1.0).with_latency(0.5);
    // Three hops forward, three back; W of the last node is not in anybody's way but its own.
    let makespan = one_micro_batch(4, 1, &times).makespan;
    assert!((makespan - (4.0 + 8.0 + 3.0)).abs() < 1e-9, "{makespan}");
}

/// A link carries one message at a time: what is sent while it is busy waits for it, and the two
/// directions do not stand in each other's way.
#[test]
fn a_link_carries_one_message_at_a_time() {
    let mut times = Times::equal(2, 1.0, 1.0, 0.0);
    times.links.all.per_byte = 0.1;
    times.links.message_bytes = vec![30.0];
    // F 0 1 2 | each takes 3 on the link: there at 4, 7, 10; F of node 1 until 11, its B until 14,
    // sent at 12, 13, 14 and there at 15, 18, 21; the last B of node 0 until 22.
    let timeline = one_micro_batch(2, 3, &times);
    assert!(
        (timeline.makespan - 22.0).abs() < 1e-9,
        "{}",
        timeline.makespan
    );

    // A slow way back alone.
    times.links.all.per_byte = 0.0;
    let back = Link {
        latency: 0.25,
        per_byte: 0.1,
    };
    times.links.unequal = vec![(NodeId::new(1), NodeId::new(0), back)];
    let timeline = one_micro_batch(2, 3, &times);
    assert!((timeline.makespan - (4.0 + 1.0 + 9.0 + 0.25 + 1.0)).abs() < 1e-9);
    assert_eq!(times.links.message_bytes.len(), EdgeId::new(1).index());
}

/// The last node feeds the first: no clock may be as long as the ring.
#[test]
fn a_very_long_ring_is_proven_in_little_memory() {
    const NODES: u32 = 30_000;
    let kind = ScheduleKind::LoopedBfs;
    let placement = kind.place(NodeCount::new(NODES), Some(2)).unwrap();
    let (layout, one) = (Layout::chain(placement.clone()), MicroBatchCount::new(1));
    let definition = kind.define(&Task::new(placement, one)).unwrap();
    let lowered = lower(&definition, &layout, one).unwrap();
    let slots = |lane| lowered.slots.of(lane);
    check(&lowered, &layout, one, None, &slots).unwrap();
    assert!(lowered.slots.iter().all(|(_, slots)| slots == 1));
}
