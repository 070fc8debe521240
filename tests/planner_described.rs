//! Promise: files say what is planned with, and it is planned without allocating any of it.
#![allow(missing_docs, clippy::unwrap_used)]

use brigade::nn::{AdamW, Sgd};
use brigade::planner::{DescribedLayer, LayersFile, NodeSpec};
use brigade::{Config, Plan, PlanError, Trainer};
use std::fs;

fn layers(text: &str) -> Result<LayersFile, PlanError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, text).unwrap();
    LayersFile::read(&file)
}

fn nodes(text: &str) -> Result<Vec<NodeSpec>, PlanError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, text).unwrap();
    NodeSpec::read_file(&file)
}

/// Layers in the shortest form, but that the second one has an update.
const SHORT: &str = r#"[
    {"name": "a", "forward": 1, "backward_input": 2, "backward_weight": 3,
     "parameter_bytes": 40, "stash_bytes": 50, "output_bytes": 60},
    {"name": "b", "forward": 1, "backward_input": 2, "backward_weight": 3,
     "parameter_bytes": 40, "stash_bytes": 50, "output_bytes": 60, "update": 0.5}
]"#;

#[test]
fn units_and_defaults_are_applied() {
    let text = format!("{{\"layers\": {SHORT}, \"unit\": \"us\"}}");
    let file = layers(&text).unwrap();
    let first = DescribedLayer {
        name: "a".into(),
        forward: 1e-6,
        backward_input: 2e-6,
        backward_weight: 3e-6,
        parameter_bytes: 40,
        stash_bytes: 50,
        output_bytes: 60,
        kept_bytes: 50,
        update: 0.0,
        working_bytes: 60,
        inputs: Vec::new(),
    };
    assert_eq!(file.layers[0], first);
    assert_eq!(file.layers[1].update, 0.5e-6);
    assert_eq!(layers(SHORT).unwrap().layers[0].forward, 1.0);
    // What is written is read again.
    let again = layers(&serde_json::to_string(&file).unwrap()).unwrap();
    assert_eq!(again, file);
    let text = serde_json::to_string(&first).unwrap();
    let one: DescribedLayer = serde_json::from_str(&text).unwrap();
    assert_eq!(one, first);
}

#[test]
fn a_described_network_is_planned_with_its_bytes() {
    let file = LayersFile::read("docs/examples/layers.json").unwrap();
    let config = Config {
        nodes: 2,
        batch_size: 16,
        micro_batch_size: 1,
        ..Config::default()
    };
    let network = file.network().unwrap();
    let plan = Plan::new(&network, &config, &AdamW::new(1e-3)).unwrap();
    let cut = plan.partition.cuts()[0];
    let sides = [&file.layers[..cut], &file.layers[cut..]];
    // Two, then one micro-batch in flight.
    for ((layers, memory), flying) in sides.iter().zip(&plan.memory).zip([2, 1]) {
        let sum = |of: fn(&DescribedLayer) -> u64| layers.iter().map(of).sum::<u64>();
        let parameters = sum(|layer| layer.parameter_bytes);
        assert_eq!(memory.parameter_bytes, parameters);
        assert_eq!(memory.optimizer_bytes, 2 * parameters);
        let least = flying * sum(|layer| layer.stash_bytes);
        let most = least + sum(|layer| 2 * layer.output_bytes + layer.working_bytes);
        assert!(
            (least..=most).contains(&memory.working_bytes),
            "{memory:?} {least}"
        );
    }
    // The times decide where the cut is.
    let time = |layers: &[DescribedLayer]| -> f64 {
        let of =
            |layer: &DescribedLayer| layer.forward + layer.backward_input + layer.backward_weight;
        layers.iter().map(of).sum()
    };
    let slower = |cut| time(&file.layers[..cut]).max(time(&file.layers[cut..]));
    assert!(
        (1..file.layers.len()).all(|other| slower(cut) <= slower(other)),
        "{cut}"
    );
    // The rows of a micro-batch change nothing.
    let other = Config {
        batch_size: 32,
        micro_batch_size: 2,
        ..config.clone()
    };
    let other = Plan::new(&network, &other, &AdamW::new(1e-3)).unwrap();
    assert_eq!(other.memory, plan.memory);
    let error = Trainer::start(&network, &config, AdamW::new(1e-3))
        .err()
        .unwrap();
    assert!(
        error.to_string().contains("can be planned, not trained"),
        "{error}"
    );
}

#[test]
fn huge_layers_are_planned_in_no_time() {
    let huge = |name: String| DescribedLayer {
        name,
        forward: 1e3,
        backward_input: 1e3,
        backward_weight: 1e3,
        parameter_bytes: 1_000_000_000_000,
        stash_bytes: 1_000_000_000_000,
        output_bytes: 1 << 40,
        kept_bytes: 1_000_000_000_000,
        update: 0.0,
        working_bytes: 1 << 40,
        inputs: Vec::new(),
    };
    let layers = (0..10_000).map(|n| huge(format!("{n}"))).collect();
    let config = Config {
        nodes: 2,
        batch_size: 8,
        micro_batch_size: 1,
        ..Config::default()
    };
    let network = LayersFile { layers }.network().unwrap();
    let plan = Plan::new(&network, &config, &Sgd::new(0.1)).unwrap();
    let parameters: u64 = plan
        .memory
        .iter()
        .map(|memory| memory.parameter_bytes)
        .sum();
    assert_eq!(parameters, 10_000_000_000_000_000);
    // Even the most that is allowed does not wrap around.
    let most = |name: &str| DescribedLayer {
        parameter_bytes: 1 << 53,
        stash_bytes: 1 << 53,
        ..huge(name.into())
    };
    let layers = (0..60).map(|n| most(&format!("{n}"))).collect();
    let config = Config {
        batch_size: 4096,
        schedule: brigade::ScheduleKind::GPipe,
        ..config
    };
    let network = LayersFile { layers }.network().unwrap();
    let plan = Plan::new(&network, &config, &AdamW::new(0.1)).unwrap();
    assert_eq!(plan.memory[0].peak_bytes(), u64::MAX);
}

#[test]
fn layers_from_elsewhere_are_checked_as_well() {
    let file = LayersFile::read("docs/examples/layers.json").unwrap();
    let changed = |change: fn(&mut Vec<DescribedLayer>)| {
        let mut file = file.clone();
        change(&mut file.layers);
        file.network().unwrap_err().to_string()
    };
    assert!(changed(|layers| layers[1].forward = f64::NAN).contains("block 0: a time of NaN"));
    assert!(changed(|layers| layers[2].update = -1.0).contains("block 1: a time of -1"));
    assert!(changed(|layers| layers[3].kept_bytes = u64::MAX).contains("head: 1844"));
    assert!(changed(|layers| layers.truncate(1)).contains("1 layers; give 2 to"));
    assert!(changed(|layers| layers[1].name = "head".into()).contains("this key already"));
}

#[test]
fn nodes_are_read_with_their_units() {
    let all = NodeSpec::read_file("docs/examples/nodes.json").unwrap();
    let [left, right, old] = all.as_slice() else {
        panic!("{all:?}")
    };
    assert_eq!((left.memory_bytes, left.speed), (Some(80_000_000_000), 1.0));
    assert_eq!((old.memory_bytes, old.speed), (Some(40 << 30), 0.6));
    assert_eq!(left.link(right).per_byte, 1.0 / 50e9);
    for link in [left.link(old), old.link(right)] {
        assert_eq!((link.latency, link.per_byte), (20e-6, 1.0 / 12.5e9));
    }
    let plain = nodes("{\"nodes\": [{\"name\": \"x\"}]}").unwrap();
    assert_eq!(
        plain[0],
        NodeSpec {
            name: "x".into(),
            ..NodeSpec::equal(1)[0].clone()
        }
    );
    assert_eq!(plain[0].link(&plain[0]), brigade::schedule::Link::default());
    assert_eq!(plain[0].link(old).per_byte, 1.0 / 12.5e9);
    assert_eq!(nodes(&serde_json::to_string(&all).unwrap()).unwrap(), all);
    let equal = NodeSpec::equal(3);
    assert!(equal.len() == 3 && equal[0].name != equal[1].name);
}
