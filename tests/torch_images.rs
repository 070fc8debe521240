//! Promise: the right numbers. Residual networks trained by PyTorch in one piece over the same
//! micro-batches, and here through a pipeline: losses, and the statistics that batch normalisation
//! gathered.
//!
//! The golden files and the script that made them are those of `stages/nn/tests/goldens`.
#![allow(missing_docs, clippy::unwrap_used)]

use brigade::checkpoint::NamedTensor;
use brigade::layer::{Batch, Network, Tensor};
use brigade::nn::{ResNet, Sgd, Stem};
use brigade::{Config, Cuts, Recompute, ScheduleKind, Trainer, Weights};
use safetensors::{Dtype, SafeTensors};

const ROWS: usize = 12;
const MICRO: usize = 4;

/// A file of goldens.
struct Golden(Vec<u8>);

impl Golden {
    fn open(name: &str) -> Self {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/stages/nn/tests/goldens");
        Self(std::fs::read(format!("{folder}/{name}.safetensors")).unwrap())
    }

    fn file(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.0).unwrap()
    }

    fn tensor(&self, key: &str) -> Tensor {
        let file = self.file();
        let tensor = file.tensor(&format!("resnet/{key}")).unwrap();
        let (shape, words) = (tensor.shape(), tensor.data().as_chunks().0.iter());
        let shape = brigade::layer::Shape::new(shape).unwrap();
        match tensor.dtype() {
            Dtype::I32 => {
                let all: Vec<i32> = words.map(|raw| i32::from_le_bytes(*raw)).collect();
                Tensor::from_vec(shape, all).unwrap()
            }
            _ => {
                let all: Vec<f32> = words.map(|raw| f32::from_le_bytes(*raw)).collect();
                Tensor::from_vec(shape, all).unwrap()
            }
        }
    }

    fn numbers(&self, key: &str) -> Vec<f32> {
        self.tensor(key).f32().unwrap().to_vec()
    }

    /// The rest of the keys that begin like this.
    fn keys(&self, begin: &str) -> Vec<String> {
        let begin = format!("resnet/{begin}/");
        let names = self.file();
        let keys = names.names().into_iter();
        keys.filter_map(|key| key.strip_prefix(&begin).map(str::to_owned))
            .collect()
    }
}

fn trains_as_pytorch(name: &str, network: &Network) {
    let golden = Golden::open(name);
    let data = Batch::new(golden.tensor("images"), golden.tensor("labels")).unwrap();
    let losses = golden.numbers("losses");
    for (nodes, schedule, recompute) in [
        (1, ScheduleKind::GPipe, Recompute::Never),
        (2, ScheduleKind::OneFOneB, Recompute::Always),
        (4, ScheduleKind::ZbH1, Recompute::Never),
    ] {
        let config = Config {
            nodes,
            schedule,
            recompute,
            cuts: Cuts::Balanced,
            batch_size: ROWS,
            micro_batch_size: MICRO,
            ..Config::default()
        };
        let sgd = Sgd {
            momentum: 0.9,
            weight_decay: 5e-4,
            ..Sgd::new(0.002)
        };
        let mut trainer = Trainer::start(network, &config, sgd).unwrap();
        start(&mut trainer, &golden);
        let mut worst = 0.0f64;
        for (step, wanted) in losses.iter().enumerate() {
            let loss = trainer.step(&data).unwrap().loss;
            let apart = (loss - f64::from(*wanted)).abs();
            assert!(
                apart < 1e-4,
                "step {step} on {nodes} nodes: {loss} for {wanted}"
            );
            worst = worst.max(apart);
        }
        let evaluated = trainer.evaluate(&data).unwrap().loss;
        let wanted = f64::from(golden.numbers("evaluated")[0]);
        assert!(
            (evaluated - wanted).abs() < 1e-3,
            "{evaluated} for {wanted}"
        );
        let weights = trainer.weights().unwrap();
        for key in golden.keys("end") {
            let found = &weights.get(&key).unwrap().values;
            for (found, wanted) in found.iter().zip(golden.numbers(&format!("end/{key}"))) {
                let near = 1e-4 * (1.0 + wanted.abs());
                assert!((found - wanted).abs() < near, "{key}: {found} for {wanted}");
            }
        }
        println!("{name} on {nodes} nodes: losses within {worst:.1e} of PyTorch's");
    }
}

/// Gives the trainer PyTorch's initial parameters; running statistics begin alike.
fn start(trainer: &mut Trainer, golden: &Golden) {
    let own = trainer.weights().unwrap();
    let params = own.params.iter().map(|param| {
        if param.key.contains("running_") {
            return param.clone();
        }
        let values = golden.tensor(&format!("start/{}", param.key));
        assert_eq!(values.shape().axes(), param.shape, "{}", param.key);
        let numbers = values.f32().unwrap().to_vec();
        NamedTensor::new(&param.key, param.shape.clone(), numbers)
    });
    let params: Vec<NamedTensor> = params.collect();
    let trained = params
        .iter()
        .filter(|param| !param.key.contains("running_"));
    assert_eq!(trained.count(), golden.keys("start").len());
    trainer.load_weights(&Weights::new(params)).unwrap();
}

#[test]
fn a_resnet_of_basic_blocks_trains_as_in_pytorch() {
    let resnet = ResNet {
        width: 4,
        ..ResNet::resnet18([16, 16, 3], 5)
    };
    trains_as_pytorch("resnet18", &resnet.network().unwrap());
}

#[test]
fn a_resnet_of_bottlenecks_trains_as_in_pytorch() {
    let resnet = ResNet {
        width: 4,
        blocks: vec![2, 2],
        stem: Stem::Large,
        ..ResNet::resnet50([32, 32, 3], 5)
    };
    trains_as_pytorch("resnet50", &resnet.network().unwrap());
}
