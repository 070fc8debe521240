//! Promise: only the nodes that need data ask for them; a dataset in memory or in files gives the
//! same numbers on any number of nodes; and a run goes on where its data were, also in mini-batches
//! of another size.
#![cfg(feature = "nn")]
#![allow(missing_docs, clippy::unwrap_used)]

use brigade::layer::{LayerError, Network, Tensor, TensorSpec, Tensors};
use brigade::nn::{AdamW, Arrays, Batches, Dataset, MeanSquaredError, Mlp, Npy, Position};
use brigade::{Checkpoint, Config, Recompute, SaveTo, ScheduleKind, Trainer};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

const SAMPLES: usize = 21;

fn arrays() -> Arrays {
    let inputs = (0..SAMPLES * 4).map(|at| (at as f32 * 0.7).sin());
    let targets = (0..SAMPLES * 2).map(|at| (at as f32 * 0.3).cos());
    Arrays::new(
        Tensor::from_vec([SAMPLES, 4], inputs.collect::<Vec<_>>()).unwrap(),
        Tensor::from_vec([SAMPLES, 2], targets.collect::<Vec<_>>()).unwrap(),
    )
    .unwrap()
}

fn network() -> Network {
    let mlp = Mlp::new([4, 8, 8, 8, 2]);
    mlp.network(MeanSquaredError, TensorSpec::f32([2])).unwrap()
}

fn on(nodes: usize, batch_size: usize) -> Config {
    Config {
        nodes,
        batch_size,
        micro_batch_size: 2,
        ..Config::default()
    }
}

/// Notes which threads ask for what.
struct Noted {
    of: Arrays,
    asked: Mutex<BTreeSet<(String, &'static str)>>,
}

impl Noted {
    fn note(&self, what: &'static str) {
        let thread = std::thread::current();
        let name = thread.name().unwrap_or_default().to_owned();
        self.asked.lock().unwrap().insert((name, what));
    }
}

impl Dataset for Noted {
    fn len(&self) -> usize {
        self.of.len()
    }
    fn inputs(&self, samples: &[usize]) -> Result<Tensors, LayerError> {
        self.note("inputs");
        self.of.inputs(samples)
    }
    fn targets(&self, samples: &[usize]) -> Result<Tensors, LayerError> {
        self.note("targets");
        self.of.targets(samples)
    }
}

#[test]
fn a_node_in_the_middle_never_asks() {
    for recompute in [Recompute::Never, Recompute::Always] {
        let noted = Arc::new(Noted {
            of: arrays(),
            asked: Mutex::default(),
        });
        let data = Batches::shuffled(noted.clone(), 8, 1).unwrap();
        let config = Config {
            recompute,
            ..on(4, 8)
        };
        let mut trainer = Trainer::start(&network(), &config, AdamW::new(1e-2)).unwrap();
        for _ in 0..3 {
            trainer.step(&data).unwrap();
        }
        let whole = Batches::whole(noted.clone()).unwrap();
        trainer.evaluate(&whole).unwrap();
        trainer.predict(&whole).unwrap();
        let asked = noted.asked.lock().unwrap();
        let asked: Vec<_> = asked.iter().map(|(name, what)| (&**name, *what)).collect();
        let wanted = [
            ("brigade-node-0.0", "inputs"),
            ("brigade-node-3.0", "targets"),
        ];
        assert_eq!(asked, wanted);
    }
}

/// As NumPy writes it.
fn save(path: &Path, tensor: &Tensor) {
    let [rows, columns] = tensor.shape().axes().try_into().unwrap();
    let header =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
    let length = (header.len() as u16).to_le_bytes();
    let numbers = tensor.f32().unwrap().iter().flat_map(|n| n.to_le_bytes());
    let begin = [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes()].concat();
    fs::write(path, begin.into_iter().chain(numbers).collect::<Vec<_>>()).unwrap();
}

#[test]
fn the_same_numbers_from_memory_and_from_files_on_any_number_of_nodes() {
    let folder = tempfile::tempdir().unwrap();
    let all: Vec<_> = (0..SAMPLES).collect();
    let [x, y] = ["x.npy", "y.npy"].map(|name| folder.path().join(name));
    let [inputs] = arrays().inputs(&all).unwrap().take().unwrap();
    let [targets] = arrays().targets(&all).unwrap().take().unwrap();
    save(&x, &inputs);
    save(&y, &targets);
    assert_eq!(Npy::open(&x).unwrap().shape().axes(), [SAMPLES, 4]);
    let trained = |nodes, schedule, data: Arc<dyn Dataset>| {
        let data = Batches::shuffled(data, 8, 1).unwrap();
        let config = Config {
            schedule,
            ..on(nodes, 8)
        };
        let mut trainer = Trainer::start(&network(), &config, AdamW::new(1e-2)).unwrap();
        for _ in 0..7 {
            trainer.step(&data).unwrap();
        }
        trainer.weights_sha256().unwrap()
    };
    let one = trained(1, ScheduleKind::GPipe, Arc::new(arrays()));
    for nodes in [1, 2, 4] {
        for schedule in [ScheduleKind::GPipe, ScheduleKind::ZbH1] {
            let files: Arc<dyn Dataset> = Arc::new(Arrays::open_npy(&x, &y).unwrap());
            assert_eq!(trained(nodes, schedule, files), one, "{nodes}, {schedule}");
        }
    }
}

#[test]
fn a_run_goes_on_in_mini_batches_of_another_size() {
    let folder = tempfile::tempdir().unwrap();
    let data = Batches::shuffled(arrays(), 6, 1).unwrap();
    let (network, optimizer) = (network(), AdamW::new(1e-2));
    let mut trainer = Trainer::start(&network, &on(2, 6), optimizer.clone()).unwrap();
    for _ in 0..5 {
        trainer.step(&data).unwrap();
    }
    let position = serde_json::to_string(&data.position(trainer.steps())).unwrap();
    let to = SaveTo::new(folder.path()).note("position", position);
    let saved = trainer.save(to).unwrap();

    let checkpoint = Checkpoint::open(&saved).unwrap();
    let position = &checkpoint.manifest().notes["position"];
    let position: Position = serde_json::from_str(position).unwrap();
    assert_eq!((position.step, position.samples), (5, 30));
    let rest = |nodes| {
        let data = Batches::shuffled(arrays(), 4, 1)
            .unwrap()
            .starting_at(position);
        let mut trainer = Trainer::start(&network, &on(nodes, 4), optimizer.clone()).unwrap();
        trainer.resume(&checkpoint).unwrap();
        for _ in 0..3 {
            trainer.step(&data).unwrap();
        }
        assert_eq!(
            data.position(trainer.steps()).samples,
            42,
            "two epochs are over"
        );
        trainer.weights_sha256().unwrap()
    };
    assert_eq!(rest(1), rest(4));
}
