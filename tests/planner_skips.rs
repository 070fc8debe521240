//! Promise: for a network that is no chain the planner cuts as well as can be, or nearly so, held
//! against all ways to cut it, each simulated; and files can describe such a network.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use brigade::layer::Random;
use brigade::nn::Sgd;
use brigade::partition::CutCost;
use brigade::planner::{LayersFile, NodeSpec, Planned, Planner, Space};
use brigade::{Config, Cuts, PlanError, ScheduleKind};
use common::planning::described;

const LAYERS: usize = 9;
const NODES: usize = 3;

/// Down four layers and up again, each reading what its like made on the way down; no two cases
/// cost the same.
fn u_shaped(number: u64) -> LayersFile {
    let random = Random::named(11, "skips");
    let draw = |place: usize, most: u64| random.below(number, place as u32, most);
    let mut file = described(LAYERS, |layer| {
        [0, 1, 2].map(|part| 1.0 + draw(8 * layer + part, 8) as f64)
    });
    for (at, layer) in file.layers.iter_mut().enumerate() {
        layer.output_bytes = 4 * (1 + draw(8 * at + 3, 60));
        layer.stash_bytes = 4 * draw(8 * at + 4, 200);
        layer.kept_bytes = layer.stash_bytes / 2;
    }
    for up in 5..LAYERS - 1 {
        file.layers[up].inputs = vec![format!("l{}", up - 1), format!("l{}", 8 - up)];
    }
    file
}

struct Case {
    file: LayersFile,
    config: Config,
    nodes: Vec<NodeSpec>,
    cut_cost: CutCost,
}

impl Case {
    fn planned(&self, cuts: Cuts) -> Planned {
        let config = Config {
            cuts,
            ..self.config.clone()
        };
        let (network, optimizer) = (self.file.network().unwrap(), Sgd::default());
        let profile = self.file.profile(&config).unwrap();
        let planner = Planner::new(&network, &config, &optimizer, &profile).unwrap();
        let planner = planner.nodes(self.nodes.clone()).cut_cost(self.cut_cost);
        planner.space(Space::only(&config)).plan().unwrap()
    }

    /// The shortest step of all cuts.
    fn exhaustive(&self) -> (f64, Vec<usize>) {
        let mut best = (f64::INFINITY, Vec::new());
        for first in 1..LAYERS - 1 {
            for second in first + 1..LAYERS {
                let cuts = vec![first, second];
                let found = self.planned(Cuts::Before(cuts.clone()));
                let step = found.candidates[0].step_time;
                if step < best.0 {
                    best = (step, cuts);
                }
            }
        }
        best
    }
}

#[test]
fn the_cuts_of_a_graph_are_the_best_of_all_or_near_it() {
    let kinds = [
        ScheduleKind::OneFOneB,
        ScheduleKind::GPipe,
        ScheduleKind::ZbH1,
    ];
    let mut worst = 1.0f64;
    let mut as_good = 0;
    for number in 0..24u64 {
        let bandwidth = [200.0, 40.0, 15.0][number as usize % 3];
        let mut nodes = NodeSpec::equal(NODES);
        for (at, node) in nodes.iter_mut().enumerate() {
            node.bandwidth = Some(bandwidth * (1.0 + (number as usize % 2 * at) as f64));
            node.latency = 0.5;
        }
        let case = Case {
            file: u_shaped(number),
            config: Config {
                nodes: NODES,
                schedule: kinds[number as usize / 3 % 3],
                batch_size: 6,
                micro_batch_size: 1,
                ..Config::default()
            },
            nodes,
            cut_cost: [CutCost::Both, CutCost::Link][number as usize / 2 % 2],
        };
        let planned = case.planned(Cuts::Balanced);
        let found = planned.candidates[0].step_time;
        let (best, cuts) = case.exhaustive();
        let ratio = found / best;
        let chosen = planned.plan.partition.cuts();
        println!("{number}: {found:.3} of {best:.3}, {chosen:?} and {cuts:?}");
        assert!(ratio > 1.0 - 1e-9, "the best of all is the best");
        (worst, as_good) = (worst.max(ratio), as_good + usize::from(ratio < 1.0 + 1e-9));
    }
    println!("as good as the best in {as_good} of 24, at worst {worst:.3} of it");
    assert!(worst < 1.06 && as_good >= 18, "{as_good} as good, {worst}");
}

/// The same step, whether a skip is one long edge or nothing passes between: nodes in between pay
/// nothing.
#[test]
fn a_skip_costs_its_two_ends_and_nobody_between() {
    let mut file = described(6, |_| [1.0, 1.0, 1.0]);
    file.layers[0].output_bytes = 400;
    for at in 1..5 {
        file.layers[at].output_bytes = 40;
    }
    let chain = file.clone();
    file.layers[4].inputs = vec!["l3".into(), "l0".into()];
    let nodes = |number| {
        let mut nodes = NodeSpec::equal(number);
        for node in &mut nodes {
            node.bandwidth = Some(400.0);
        }
        nodes
    };
    let times = |file: &LayersFile, cuts: Vec<usize>| {
        let case = Case {
            file: file.clone(),
            config: Config {
                nodes: cuts.len() + 1,
                batch_size: 2,
                micro_batch_size: 1,
                ..Config::default()
            },
            nodes: nodes(cuts.len() + 1),
            cut_cost: CutCost::Both,
        };
        let planned = case.planned(Cuts::Before(cuts));
        planned.times.forward
    };
    let cuts = vec![1, 3, 4];
    let [plain, skips] = [&chain, &file].map(|file| times(file, cuts.clone()));
    let more: Vec<f64> = { skips.iter().zip(&plain) }
        .map(|(skips, plain)| skips - plain)
        .collect();
    // A second of transfer more where the value is made, and where it is read.
    let expected = [1.0, 0.0, 0.0, 1.0];
    let close = { more.iter().zip(expected) }.all(|(more, wanted)| (more - wanted).abs() < 1e-9);
    assert!(close, "{more:?}");
}

#[test]
fn inputs_in_a_file_are_read_and_refused_with_their_line() {
    let layer = |name: &str, more: &str| {
        format!(
            "{{\"name\": \"{name}\", \"forward\": 1, \"backward_input\": 1, \
             \"backward_weight\": 1, \"parameter_bytes\": 4, \"stash_bytes\": 4, \
             \"output_bytes\": 4{more}}}"
        )
    };
    let file = |inputs: &str| {
        let layers = [
            layer("a", ""),
            layer("b", ""),
            layer("c", &format!(",\n\"inputs\": {inputs}")),
            layer("loss", ""),
        ];
        LayersFile::parse("layers.json", &format!("[\n{}\n]", layers.join(",\n")))
    };
    let read = file("[\"b\", \"a\"]").unwrap();
    assert_eq!(read.layers[2].inputs, ["b", "a"]);
    let again = serde_json::to_string(&read).unwrap();
    assert_eq!(LayersFile::parse("again", &again).unwrap(), read);
    let edges = read.network().unwrap().edges().len();
    assert_eq!(edges, 4);
    let many = vec!["\"a\""; 100].join(", ");
    let wrong = [
        ("[\"b\", \"d\"]", "no layer \"d\" before this one"),
        ("[\"c\"]", "no layer \"c\" before this one"),
        ("[\"loss\"]", "no layer \"loss\" before this one"),
        ("[]", "no inputs; name layers"),
        ("\"b\"", "expected a list of names of layers before it"),
        ("[1]", "expected the name of a layer, as text"),
        (&*format!("[{many}]"), "the most of a layer"),
    ];
    for (inputs, problem) in wrong {
        let error = file(inputs).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(problem), "{text}");
        let PlanError::File { line, .. } = error else {
            panic!("{error}")
        };
        assert_eq!(line, 5, "{text}");
    }
    let unread = file("[\"a\"]").unwrap().network().unwrap_err().to_string();
    assert!(unread.contains("nothing uses its output"), "{unread}");
}

#[test]
fn the_example_is_a_graph_and_can_be_planned() {
    let file = LayersFile::read("docs/examples/unet.json").unwrap();
    let network = file.network().unwrap();
    let skips = |edge: &&brigade::layer::Edge| edge.to.index() > edge.from.index() + 1;
    assert_eq!(network.edges().iter().filter(skips).count(), 2);
    let config = Config {
        nodes: 3,
        ..Config::default()
    };
    let (optimizer, profile) = (Sgd::default(), file.profile(&config).unwrap());
    let planner = Planner::new(&network, &config, &optimizer, &profile).unwrap();
    planner.plan().unwrap();
}
