//! Promise: a plan is proven complete, ordered, paired and free of deadlock before a thread starts.
//!
//! The laws are checked over all small cases by code of their own, beside the engine's check.
#![allow(missing_docs, clippy::unwrap_used)]

use brigade::ids::{MicroBatchCount, NodeCount, NodeId, SharedId, StageId};
use brigade::placement::Placement;
use brigade::schedule::*;
use std::collections::{BTreeMap, BTreeSet};

const NODES: u32 = 6;
const MICRO_BATCHES: u32 = 12;

/// A chain with a skip edge from the first stage to the last and a parameter shared by both.
fn layout(placement: Placement) -> Layout {
    let stages = placement.stages().get();
    let mut layout = Layout::chain(placement);
    if stages > 2 {
        let (first, last) = (StageId::new(0), StageId::new(stages - 1));
        let edge = brigade::ids::EdgeId::new(stages);
        for (direction, from, to) in [
            (Direction::Forward, first, last),
            (Direction::Backward, last, first),
        ] {
            layout.routes.push(Route {
                lane: Lane { edge, direction },
                from,
                to,
            });
        }
        layout.routes.sort_by_key(|route| route.lane);
    }
    if stages > 1 {
        let holders = [0, stages - 1]
            .map(|stage| (brigade::ids::LayerIndex::new(stage), StageId::new(stage)));
        layout.shared.push(SharedSum {
            shared: SharedId::new(0),
            holders: holders.to_vec(),
        });
    }
    layout
}

type Case = (Lowered, Layout, MicroBatchCount);

/// `None` where the schedule refuses so many micro-batches.
fn lowered(kind: ScheduleKind, nodes: u32, micro_batches: u32) -> Option<Case> {
    let placement = kind.place(NodeCount::new(nodes), None).unwrap();
    let (layout, micro_batches) = (layout(placement), MicroBatchCount::new(micro_batches));
    let task = Task::new(layout.placement.clone(), micro_batches);
    let definition = kind.define(&task).ok()?;
    let lowered = lower(&definition, &layout, micro_batches).unwrap();
    Some((lowered, layout, micro_batches))
}

fn all_small_cases(mut law: impl FnMut(ScheduleKind, u32, u32, Case)) {
    for kind in ScheduleKind::ALL {
        let mut seen = 0;
        for nodes in 1..=NODES {
            for micro_batches in 1..=MICRO_BATCHES {
                if let Some(case) = lowered(kind, nodes, micro_batches) {
                    law(kind, nodes, micro_batches, case);
                    seen += 1;
                }
            }
        }
        assert!(seen >= NODES * MICRO_BATCHES / 2, "{kind}: {seen}");
    }
}

#[test]
fn every_schedule_passes_the_check() {
    all_small_cases(|kind, nodes, micro_batches, case| {
        let (lowered, layout, count) = case;
        let limit = match kind {
            ScheduleKind::OneFOneB => nodes.min(micro_batches),
            _ => micro_batches,
        };
        check(
            &lowered,
            &layout,
            count,
            Some(StashLimit::micro_batches(f64::from(limit))),
            &|lane| lowered.slots.of(lane),
        )
        .unwrap();
        let forward = forward_only(&layout.placement, count);
        let forward = lower(&forward, &layout, count).unwrap();
        check(
            &forward,
            &layout,
            count,
            Some(StashLimit::micro_batches(0.0)),
            &|lane| forward.slots.of(lane),
        )
        .unwrap();
    });
}

#[test]
fn complete_and_ordered() {
    all_small_cases(|kind, nodes, micro_batches, case| {
        let (lowered, layout, _) = case;
        for (node, row) in lowered.nodes.iter().enumerate() {
            let places: BTreeMap<String, usize> = (row.iter().enumerate())
                .map(|(at, action)| (action.to_string(), at))
                .collect();
            assert_eq!(places.len(), row.len(), "nothing is done twice");
            let place = |stage: StageId, work: &str, m: u32| {
                let own = places.get(&format!("{stage}{work}{m}"));
                let both = places.get(&format!("{stage}B{m}"));
                let found = own.or(both.filter(|_| work != "F"));
                *found
                    .unwrap_or_else(|| panic!("{stage}{work}{m} in {kind} {nodes} {micro_batches}"))
            };
            for stage in layout.placement.stages_on(NodeId::new(node as u32)) {
                for m in 0..micro_batches {
                    let (forward, input) = (place(stage, "F", m), place(stage, "I", m));
                    let weight = place(stage, "W", m);
                    assert!(forward < input && input <= weight);
                    assert!(
                        m == 0 || place(stage, "W", m - 1) < weight,
                        "weights in ascending order"
                    );
                }
            }
            let end: Vec<_> = row
                .iter()
                .filter(|action| action.stage().is_none())
                .map(Action::to_string)
                .collect();
            let stages = layout.placement.stages().get();
            let ends = [0, stages - 1].map(|stage| layout.placement.node_of(StageId::new(stage)));
            let shares = stages > 1 && ends.contains(&NodeId::new(node as u32));
            let wanted: &[&str] = if shares {
                &["SUM#0", "EXCHANGE", "STEP"]
            } else {
                &["EXCHANGE", "STEP"]
            };
            assert_eq!(end, wanted);
            assert!(
                row[row.len() - end.len()..]
                    .iter()
                    .all(|action| action.stage().is_none()),
                "at the very end"
            );
        }
    });
}

#[test]
fn paired() {
    all_small_cases(|_, _, micro_batches, case| {
        let (lowered, layout, _) = case;
        let (mut sends, mut waits, mut posts) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for (node, row) in lowered.nodes.iter().enumerate() {
            for action in row {
                let own =
                    |stage: StageId| assert_eq!(layout.placement.node_of(stage).index(), node);
                match *action {
                    Action::Send(t) => {
                        own(t.stage);
                        assert!(
                            sends.insert((t.lane, t.micro_batch, t.stage, t.peer)),
                            "{action} twice"
                        );
                    }
                    Action::Post(t) => {
                        own(t.stage);
                        assert!(
                            posts.insert((t.lane, t.micro_batch, t.peer, t.stage)),
                            "{action} twice"
                        );
                    }
                    Action::Wait(t) => {
                        own(t.stage);
                        let message = (t.lane, t.micro_batch, t.peer, t.stage);
                        assert!(posts.contains(&message), "{action} without a post");
                        assert!(waits.insert(message), "{action} twice");
                    }
                    Action::Compute(_) | Action::SumShared(_) | Action::Exchange | Action::Step => {
                    }
                }
            }
        }
        assert_eq!(sends, waits);
        assert_eq!(sends, posts);
        let crossing = layout.routes.iter().filter(|route| layout.crosses(route));
        assert_eq!(sends.len(), crossing.count() * micro_batches as usize);
    });
}

/// Runs the lists in random order with queues of exactly the computed slots: no send ever finds its
/// queue full, and with one slot less on any lane some order does (the slots are no larger than
/// they must be).
#[test]
fn slots_are_enough_in_every_order_and_never_too_many() {
    all_small_cases(|kind, nodes, micro_batches, case| {
        let (lowered, layout, _) = case;
        let mut most = BTreeMap::<Lane, u32>::new();
        // Every lane's worst order: its receiver goes on only when nobody else can.
        let crossing = layout.routes.iter().filter(|route| layout.crosses(route));
        for lazy in crossing.map(|route| layout.placement.node_of(route.to).index()) {
            for (lane, count) in most_under_way(&lowered, lazy) {
                let most = most.entry(lane).or_default();
                *most = (*most).max(count);
            }
        }
        let slots: BTreeMap<_, _> = lowered.slots.iter().collect();
        assert_eq!(most, slots, "{kind} {nodes} {micro_batches}");
    });
}

fn most_under_way(lowered: &Lowered, lazy: usize) -> BTreeMap<Lane, u32> {
    let mut at = vec![0; lowered.nodes.len()];
    let (mut sent, mut under_way, mut most) = (BTreeSet::new(), BTreeMap::new(), BTreeMap::new());
    let order: Vec<usize> = (0..lowered.nodes.len())
        .filter(|node| *node != lazy)
        .chain([lazy])
        .collect();
    loop {
        let next = order
            .iter()
            .find(|node| match lowered.nodes[**node].get(at[**node]) {
                Some(Action::Wait(t)) => sent.contains(&(t.lane, t.micro_batch)),
                Some(Action::Exchange | Action::SumShared(_) | Action::Step) | None => false,
                Some(_) => true,
            });
        let Some(&node) = next else { break };
        match lowered.nodes[node][at[node]] {
            Action::Send(t) => {
                sent.insert((t.lane, t.micro_batch));
                let count = under_way.entry(t.lane).or_insert(0u32);
                *count += 1;
                let most = most.entry(t.lane).or_insert(0);
                *most = (*most).max(*count);
            }
            Action::Wait(t) => *under_way.get_mut(&t.lane).unwrap() -= 1,
            _ => {}
        }
        at[node] += 1;
    }
    for (row, at) in lowered.nodes.iter().zip(at) {
        assert!(
            row[at..].iter().all(|action| action.stage().is_none()),
            "stuck at {}",
            row[at]
        );
    }
    most
}

#[test]
fn stash_stays_within_its_bound() {
    all_small_cases(|kind, nodes, micro_batches, case| {
        let (lowered, layout, count) = case;
        if !matches!(kind, ScheduleKind::GPipe | ScheduleKind::OneFOneB) {
            return;
        }
        for (node, row) in lowered.nodes.iter().enumerate() {
            let (mut kept, mut most) = (0u32, 0);
            for action in row {
                match action {
                    Action::Compute(Compute { work: Work::F, .. }) => kept += 1,
                    Action::Compute(Compute {
                        work: Work::B | Work::W,
                        ..
                    }) => kept -= 1,
                    _ => {}
                }
                most = most.max(kept);
            }
            let bound = match kind {
                ScheduleKind::OneFOneB => micro_batches.min(nodes - node as u32),
                _ => micro_batches,
            };
            assert_eq!(most, bound, "{kind} {nodes} {micro_batches} node {node}");
        }
        if kind == ScheduleKind::GPipe && micro_batches > 1 {
            let limit = StashLimit::micro_batches(f64::from(micro_batches - 1));
            let error = check(&lowered, &layout, count, Some(limit), &|lane| {
                lowered.slots.of(lane)
            })
            .unwrap_err();
            assert!(
                matches!(error.problem, Problem::StashFull { .. }),
                "{error}"
            );
        }
    });
}

/// The negative test: where every send waits for its receive, 1F1B on two nodes gets stuck, and the
/// check says so.
#[test]
fn without_slots_1f1b_is_refused() {
    let nodes = NodeCount::new(2);
    let (layout, count) = (
        Layout::chain(Placement::straight(nodes)),
        MicroBatchCount::new(2),
    );
    let task = Task::new(layout.placement.clone(), count);
    let define = |kind: ScheduleKind| kind.define(&task).unwrap();
    let lowered = lower(&define(ScheduleKind::OneFOneB), &layout, count).unwrap();
    check(&lowered, &layout, count, None, &|lane| {
        lowered.slots.of(lane)
    })
    .unwrap();
    let error = check(&lowered, &layout, count, None, &|_| 0).unwrap_err();
    let Problem::Deadlock { waiting } = &error.problem else {
        panic!("{error}")
    };
    let waiting: Vec<_> = waiting
        .iter()
        .map(|(node, action)| format!("{node}: {action}"))
        .collect();
    assert_eq!(waiting, ["0: 0SEND_F1>1@0", "1: 1SEND_B0>0@0"]);
    assert!(error.row.contains("[0SEND_F1>1@0]"), "{}", error.row);

    let gpipe = lower(&define(ScheduleKind::GPipe), &layout, count).unwrap();
    check(&gpipe, &layout, count, None, &|_| 0).expect("gpipe on two nodes does not need slots");
}
