//! Promise: every law has its refusal. What breaks it is named, with its node; what a node keeps is
//! held to its limit, to the last thousandth.
#![allow(missing_docs, clippy::unwrap_used)]

use brigade::ids::{MicroBatchCount, NodeCount, NodeId, SharedId};
use brigade::layer::TensorSpec;
use brigade::nn::{AdamW, MeanSquaredError, Mlp};
use brigade::placement::Placement;
use brigade::schedule::*;
use brigade::{Config, Plan, PlanError, ids};

fn action(text: &str) -> Action {
    text.parse().unwrap()
}

fn compute(text: &str) -> Compute {
    match action(text) {
        Action::Compute(compute) => compute,
        other => panic!("{other}"),
    }
}

/// A chain whose first and last stage share a parameter.
fn layout(placement: Placement) -> Layout {
    let mut layout = Layout::chain(placement);
    let last = layout.placement.stages().get() - 1;
    let holder = |stage| (ids::LayerIndex::new(stage), ids::StageId::new(stage));
    layout.shared.push(SharedSum {
        shared: SharedId::new(0),
        holders: vec![holder(0), holder(last)],
    });
    layout
}

/// 1F1B on three nodes with four micro-batches, as it is lowered, and its slots.
struct Case {
    lowered: Lowered,
    layout: Layout,
    slots: Box<dyn Fn(Lane) -> u32>,
    limit: Option<StashLimit>,
}

const MANY: MicroBatchCount = MicroBatchCount::new(4);

impl Case {
    fn new() -> Self {
        let layout = layout(Placement::straight(NodeCount::new(3)));
        let task = Task::new(layout.placement.clone(), MANY);
        let definition = ScheduleKind::OneFOneB.define(&task).unwrap();
        Self::of(&definition, layout)
    }

    fn of(definition: &Definition, layout: Layout) -> Self {
        let lowered = lower(definition, &layout, MANY).unwrap();
        let slots = lowered.slots.clone();
        Self {
            lowered,
            layout,
            slots: Box::new(move |lane| slots.of(lane)),
            limit: None,
        }
    }

    fn check(&self) -> Result<(), Box<CheckError>> {
        check(&self.lowered, &self.layout, MANY, self.limit, &self.slots)
    }

    /// A node's list, and where this is in it.
    fn at(&mut self, node: usize, text: &str) -> (&mut Vec<Action>, usize) {
        let row = &mut self.lowered.nodes[node];
        let at = row.iter().position(|other| *other == action(text));
        let at = at.unwrap_or_else(|| panic!("{text} is not on node {node}"));
        (row, at)
    }

    fn replace(&mut self, node: usize, text: &str, by: &str) {
        let (row, at) = self.at(node, text);
        row[at] = action(by);
    }

    fn remove(&mut self, node: usize, text: &str) {
        let (row, at) = self.at(node, text);
        row.remove(at);
    }

    fn insert_after(&mut self, node: usize, text: &str, new: &str) {
        let (row, at) = self.at(node, text);
        row.insert(at + 1, action(new));
    }

    /// Takes an action to right behind another one.
    fn put(&mut self, node: usize, moved: &str, behind: &str) {
        self.remove(node, moved);
        self.insert_after(node, behind, moved);
    }
}

/// One damage each, and the law that it breaks.
#[test]
fn every_law_is_named_where_it_is_broken() {
    type Damage = fn(&mut Case);
    let damages: Vec<(Problem, u32, Damage)> = vec![
        (Problem::Lists { nodes: 3, found: 2 }, 2, |case| {
            drop(case.lowered.nodes.pop())
        }),
        (Problem::OutOfRange, 0, |case| case.replace(0, "0F0", "0F9")),
        (Problem::OutOfRange, 1, |case| case.replace(1, "1B2", "7B2")),
        (Problem::WrongNode(NodeId::new(1)), 0, |case| {
            case.replace(0, "0F0", "1F0");
        }),
        (Problem::Twice, 0, |case| case.insert_after(0, "0F0", "0F0")),
        (Problem::Twice, 1, |case| {
            let send = "1SEND_F2>2@1";
            case.insert_after(1, send, send);
        }),
        (Problem::Twice, 2, |case| {
            case.insert_after(2, "EXCHANGE", "EXCHANGE")
        }),
        (Problem::Missing(action("0I3")), 0, |case| {
            case.remove(0, "0B3")
        }),
        (Problem::Missing(action("SUM#0")), 2, |case| {
            case.remove(2, "SUM#0")
        }),
        (Problem::Missing(Action::Step), 1, |case| {
            case.remove(1, "STEP")
        }),
        (Problem::TooEarly(action("0F0")), 0, |case| {
            case.put(0, "0F0", "0SEND_F0>1@0");
        }),
        (Problem::TooEarly(action("1WAIT_F1<0@0")), 1, |case| {
            case.put(1, "1WAIT_F1<0@0", "1F1");
        }),
        (Problem::TooEarly(action("2POST_F0<1@1")), 2, |case| {
            case.remove(2, "2POST_F0<1@1");
        }),
        (Problem::WeightsOutOfOrder(compute("2W0")), 2, |case| {
            case.replace(2, "2B0", "2I0");
        }),
        (Problem::UnknownMessage, 0, |case| {
            case.replace(0, "0SEND_F0>1@0", "0SEND_F0>2@0");
        }),
        (Problem::UnknownShared, 0, |case| {
            case.insert_after(0, "STEP", "SUM#7")
        }),
        (Problem::NeverReceived, 0, |case| {
            let forward = forward_only(&case.layout.placement, MANY);
            *case = Case::of(&forward, case.layout.clone());
            case.lowered.nodes[0].insert(0, action("0POST_B0<1@0"));
        }),
        (Problem::NoFreeSlot(3), 1, |case| {
            case.put(1, "1POST_F3<0@0", "1POST_F2<0@0");
        }),
        (
            Problem::LaneFull {
                needed: 3,
                slots: 2,
            },
            0,
            |case| {
                case.put(1, "1POST_F2<0@0", "1WAIT_F0<0@0");
                case.put(1, "1POST_F3<0@0", "1WAIT_F1<0@0");
                let slots = case.lowered.slots.clone();
                let Action::Send(narrow) = action("0SEND_F0>1@0") else {
                    panic!("a send");
                };
                case.slots = Box::new(move |lane| slots.of(lane) - u32::from(lane == narrow.lane));
            },
        ),
        (
            Problem::StashFull {
                kept: 3.0,
                most: 1.5,
            },
            0,
            |case| {
                case.limit = Some(StashLimit::micro_batches(1.5));
            },
        ),
    ];
    for (wanted, node, damage) in damages {
        let mut case = Case::new();
        case.check().unwrap();
        damage(&mut case);
        let error = case.check().expect_err(&format!("{wanted:?}"));
        assert_eq!(
            (&error.problem, error.node.get()),
            (&wanted, node),
            "{error}"
        );
    }
}

/// Nodes that wait for each other are all there; a line names a few of them.
#[test]
fn who_is_stuck_is_named() {
    let mut case = Case::new();
    case.slots = Box::new(|_| 0);
    let Problem::Deadlock { waiting } = case.check().unwrap_err().problem else {
        panic!("no deadlock");
    };
    assert!(waiting.len() >= 2, "{waiting:?}");

    let placement = Placement::straight(NodeCount::new(100));
    let task = Task::new(placement.clone(), MANY);
    let mut definition = ScheduleKind::GPipe.define(&task).unwrap();
    for row in definition.nodes.iter_mut().skip(1).take(98) {
        row.swap(0, 4);
    }
    let error = lower(&definition, &Layout::chain(placement), MANY).unwrap_err();
    let said = error.problem.to_string();
    assert!(
        said.ends_with(", and 92 more nodes") && said.len() < 400,
        "{said}"
    );
    assert_eq!(error.timeline.lines().count(), 65);
}

#[test]
fn a_message_that_is_sent_twice_is_not_simulated() {
    let mut case = Case::new();
    case.insert_after(0, "0SEND_F0>1@0", "0SEND_F0>1@0");
    let error = simulate(&case.lowered, &case.layout, MANY, &Times::default()).unwrap_err();
    assert_eq!(error.problem, Problem::SentTwice);
}

#[test]
fn a_pair_is_a_forward_and_the_backward_after_it() {
    let placement = Placement::straight(NodeCount::new(1));
    let layout = Layout::chain(placement);
    let row = [
        "0F0", "0F1", "0B0", "0F2", "0I1", "0W1", "0B2", "0F3", "0B3",
    ]
    .map(compute);
    let with = |pairs: &[u32]| Definition {
        nodes: vec![row.to_vec()],
        pairs: vec![pairs.to_vec()],
    };
    for pairs in [&[][..], &[1], &[1, 3, 7]] {
        lower(&with(pairs), &layout, MANY).unwrap();
        as_defined(&with(pairs), &layout, MANY).unwrap();
    }
    for (pairs, at) in [
        (&[0][..], 0),
        (&[2], 2),
        (&[8], 8),
        (&[99], 99),
        (&[3, 1], 1),
    ] {
        for lowering in [lower, as_defined] {
            let error = lowering(&with(pairs), &layout, MANY).unwrap_err();
            assert_eq!(
                (&error.problem, error.index),
                (&Problem::NotAPair, at),
                "{pairs:?}"
            );
        }
    }
}

/// For all schedules, whatever I frees: what a node keeps at most is enough, and less is not.
#[test]
fn a_limit_holds_to_the_thousandth() {
    let mut tried = 0;
    for kind in ScheduleKind::ALL {
        for (nodes, count) in (1..=6).flat_map(|nodes| (1..=12).map(move |m| (nodes, m))) {
            let placement = kind.place(NodeCount::new(nodes), None).unwrap();
            let task = Task::new(placement, MicroBatchCount::new(count));
            let Ok(definition) = kind.define(&task) else {
                continue;
            };
            let (layout, count) = (Layout::chain(task.placement.clone()), task.micro_batches);
            let lowered = lower(&definition, &layout, count).unwrap();
            for freed_at_input in [0.0, 0.5, 0.9, 1.0] {
                let peaks = node_stash_peaks(&lowered, &layout, freed_at_input);
                let peak = peaks.iter().copied().fold(0.0, f64::max);
                let within = |most| {
                    let limit = StashLimit {
                        most,
                        freed_at_input,
                    };
                    let slots = |lane| lowered.slots.of(lane);
                    check(&lowered, &layout, count, Some(limit), &slots)
                };
                within(peak).unwrap();
                let error = within(peak - 0.001).unwrap_err();
                let Problem::StashFull { kept, .. } = error.problem else {
                    panic!("{error}");
                };
                assert_eq!(kept, peaks[error.node.index()], "{kind} {nodes} {count}");
                assert!(kept > peak - 0.001);
                tried += 1;
            }
        }
    }
    assert!(tried > 2000, "{tried}");
}

/// An order made for costs and limits is sound and keeps them in the engine's own check.
#[test]
fn zb_auto_keeps_its_limits_in_the_engine() {
    let some = |at: u32| 0.4 + f64::from(at * 7 % 5) / 3.0;
    for (nodes, count) in (1..=5).flat_map(|nodes| [1, 3, 8, 13].map(|m| (nodes, m))) {
        for (most, freed_at_input) in [(1.0, 0.0), (1.5, 0.5), (2.0, 0.9), (3.2, 0.25), (9.0, 1.0)]
        {
            let layout = Layout::chain(Placement::straight(NodeCount::new(nodes)));
            let each = |shift| (0..nodes).map(|node| some(node + shift)).collect();
            let times = Times {
                forward: each(0),
                input: each(3),
                weight: each(4),
                ..Times::default()
            };
            let costs = Costs {
                times: times.clone().with_latency(0.2),
                kept: vec![[1.0, 1.0 - freed_at_input]; nodes as usize],
                limits: vec![most; nodes as usize],
            };
            let task = Task::new(layout.placement.clone(), MicroBatchCount::new(count));
            let task = task.with_costs(costs.clone());
            let definition = ScheduleKind::ZbAuto.define(&task).unwrap();
            let lowered = lower(&definition, &layout, task.micro_batches).unwrap();
            let limit = StashLimit {
                most,
                freed_at_input,
            };
            let slots = |lane| lowered.slots.of(lane);
            check(&lowered, &layout, task.micro_batches, Some(limit), &slots).unwrap();
            let totals = simulate_totals(&lowered, &layout, task.micro_batches, &costs.times);
            let (totals, work) = (totals.unwrap(), |node: u32| {
                let all = [&times.forward, &times.input, &times.weight];
                f64::from(count) * all.map(|times| times[node as usize]).iter().sum::<f64>()
            });
            let longest = (0..nodes).map(work).fold(0.0, f64::max);
            assert!(totals.makespan > longest - 1e-9, "{totals:?}");
        }
    }
}

/// On one node fewer than it was asked for.
#[derive(Debug)]
struct Elsewhere;

impl Schedule for Elsewhere {
    fn name(&self) -> &str {
        "elsewhere"
    }
    fn place(&self, nodes: NodeCount, _: Option<usize>) -> Result<Placement, PlanError> {
        Ok(Placement::straight(NodeCount::new(nodes.get() - 1)))
    }
    fn define(&self, task: &Task) -> Result<Definition, PlanError> {
        ScheduleKind::GPipe.define(task)
    }
}

#[test]
fn a_schedule_uses_all_nodes_that_there_are() {
    let network = Mlp::new([1, 4, 4, 1]).network(MeanSquaredError, TensorSpec::f32([1]));
    let config = Config {
        nodes: 2,
        batch_size: 4,
        micro_batch_size: 1,
        ..Config::default()
    };
    let plan = Plan::with_schedule(&network.unwrap(), &config, &AdamW::new(1e-2), &Elsewhere);
    let said = plan.unwrap_err().to_string();
    let wanted = "schedule elsewhere cannot use its placement on 1 node; \
                  nearest is a placement on 2 nodes";
    assert_eq!(said, wanted);
}
