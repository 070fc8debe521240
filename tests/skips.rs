//! Promise: a schedule that does not carry every edge of the network is refused before a thread
//! starts, with the layers at its ends and what to do; one that does trains to the same numbers.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use brigade::ids::{LayerIndex, NodeCount, NodeId};
use brigade::layer::{From, Network, TensorSpec};
use brigade::placement::Placement;
use brigade::schedule::{Action, Compute, Definition, Direction, Schedule, Task};
use brigade::{Config, Cuts, Error, Plan, PlanError, ScheduleKind, Trainer, nn};
use common::*;

/// `enc` is read by the layer after it and by `dec`, three layers on.
fn with_a_skip() -> Network {
    let linear = || nn::Linear::new(6, 6);
    Network::builder()
        .input(TensorSpec::f32([6]))
        .target(TensorSpec::f32([6]))
        .layer("enc", linear())
        .layer("down", linear())
        .layer("up", linear())
        .layer_from("dec", toy(), &[From::Previous, From::Layer("enc")])
        .loss("loss", nn::MeanSquaredError)
        .build()
        .unwrap()
}

/// These lists, on a V of two nodes: stages 0 and 3 on one, 1 and 2 on the other.
#[derive(Debug)]
struct Listed(&'static [&'static str]);

impl Schedule for Listed {
    fn name(&self) -> &str {
        "listed"
    }
    fn place(&self, nodes: NodeCount, _: Option<usize>) -> Result<Placement, PlanError> {
        Ok(Placement::v_shaped(nodes))
    }
    fn define(&self, _: &Task) -> Result<Definition, PlanError> {
        let compute = |text: &str| match text.parse().unwrap() {
            Action::Compute(compute) => compute,
            other => panic!("{other}"),
        };
        let row = |row: &&str| row.split(' ').map(compute).collect::<Vec<Compute>>();
        Ok(self.0.iter().map(row).collect::<Vec<_>>().into())
    }
}

fn one_micro_batch(nodes: usize, cuts: &[usize]) -> Config {
    Config {
        batch_size: 3,
        ..with(nodes, ScheduleKind::GPipe, Cuts::Before(cuts.to_vec()), 1)
    }
}

#[test]
fn an_order_that_needs_a_skip_before_it_is_made_is_refused_with_its_layers() {
    let (network, config) = (with_a_skip(), one_micro_batch(2, &[1, 2, 3]));
    let planned = |rows| Plan::with_schedule(&network, &config, &adamw(), &Listed(rows));
    planned(&["0F0 3F0 3B0 0B0", "1F0 2F0 2B0 1B0"]).unwrap();
    let refused = [
        (
            &["3F0 0F0 3B0 0B0", "1F0 2F0 2B0 1B0"],
            "the skip from `enc` to `dec`, stage 0 to stage 3: ",
            "; put 0F0 before 3F0 in the list of node 0",
        ),
        (
            &["0F0 3F0 0B0 3B0", "1F0 2F0 2B0 1B0"],
            "the gradient of the skip from `enc` to `dec`, stage 3 to stage 0: ",
            "; put 3B0 before 0B0 in the list of node 0",
        ),
        (
            &["0F0 3F0 3B0 0B0", "2F0 1F0 2B0 1B0"],
            "the edge from `down` to `up`, stage 1 to stage 2: ",
            "; put 1F0 before 2F0 in the list of node 1",
        ),
    ];
    for (rows, begins, ends) in refused {
        let error = planned(rows).unwrap_err();
        assert!(matches!(error, PlanError::Uncarried { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.starts_with(begins) && text.ends_with(ends), "{text}");
    }
}

/// Lists that send to neighbours only are whole for a chain, and not for this network.
#[test]
fn lists_without_the_messages_of_a_skip_are_refused_with_its_layers() {
    let (network, config) = (with_a_skip(), one_micro_batch(3, &[1, 3]));
    let whole = Plan::new(&network, &config, &adamw()).unwrap();
    let start = |plan: Plan| Trainer::start_with_plan(&network, &config, adamw(), plan);
    start(whole.clone()).unwrap();
    let without = |drop: &dyn Fn(&Action) -> bool| {
        let mut plan = whole.clone();
        for row in &mut plan.training.lowered.nodes {
            row.retain(|action| !drop(action));
        }
        let Error::Plan(error) = start(plan).err().unwrap() else {
            panic!("no error of the plan")
        };
        error.to_string()
    };
    let skip = { network.edges().iter() }
        .find(|edge| (edge.from, edge.to) == (LayerIndex::new(0), LayerIndex::new(3)));
    let skip = skip.unwrap().id;
    let of = |action: &Action, direction: Direction| match action {
        Action::Send(it) | Action::Post(it) | Action::Wait(it) => {
            it.lane.edge == skip && it.lane.direction == direction
        }
        _ => false,
    };
    let text = without(&|action| of(action, Direction::Forward));
    let begins = "the skip from `enc` to `dec`, stage 0 to stage 2: schedule, node 2";
    assert!(text.starts_with(begins), "{text}");
    let advice = format!(
        "send it with 0SEND_F0>2@{skip}, wait for it with 2WAIT_F0<0@{skip} before 2F0 on node 2"
    );
    assert!(text.contains(&advice), "{text}");

    let text = without(&|action| of(action, Direction::Backward));
    let begins = "the gradient of the skip from `enc` to `dec`, stage 2 to stage 0: schedule";
    assert!(text.starts_with(begins), "{text}");
    assert!(text.contains("2SEND_B0>0@"), "{text}");

    let waits = |action: &Action| matches!(action, Action::Wait(_) | Action::Post(_));
    let received = |action: &Action| waits(action) && of(action, Direction::Forward);
    let text = without(&received);
    assert!(text.starts_with("the skip from `enc` to `dec`"), "{text}");
    let sent = |action: &Action| matches!(action, Action::Send(_));
    let text = without(&|action| sent(action) && of(action, Direction::Forward));
    assert!(text.starts_with("the skip from `enc` to `dec`"), "{text}");
    assert_eq!(
        whole.layout.placement.node_of(whole.layout.routes[0].from),
        NodeId::new(0)
    );
}

/// PyTorch's files name the messages of a chain; what else the network needs is sent as well.
#[test]
fn a_file_that_sends_to_neighbours_trains_a_graph_with_the_same_bits() {
    use brigade::schedule::csv::{CsvSchedule, Dialect};
    let text = "\
0F0,0SEND_F0,0RECV_B0,0B0
1RECV_F0,1F0,1SEND_F0,1RECV_B0,1B0,1SEND_B0
2RECV_F0,2F0,2B0,2SEND_B0
";
    let schedule = CsvSchedule::parse("neighbours", text, Dialect::Current).unwrap();
    let (network, config) = (with_a_skip(), one_micro_batch(3, &[1, 3]));
    let mut in_order = Trainer::start_with_schedule(&network, &config, adamw(), &schedule).unwrap();
    let skip = |route: &&brigade::schedule::Route| (route.from.get(), route.to.get()) == (0, 2);
    assert_eq!(in_order.plan().layout.routes.iter().filter(skip).count(), 1);
    in_order.step(&numbers(3)).unwrap();
    let mut alone = Trainer::start(&network, &one_micro_batch(1, &[]), adamw()).unwrap();
    alone.step(&numbers(3)).unwrap();
    let sha256 = |trainer: &mut Trainer| trainer.weights_sha256().unwrap();
    assert_eq!(sha256(&mut in_order), sha256(&mut alone));
}
