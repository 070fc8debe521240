//! Promise: files of images are read as they were published; images that are flipped and cropped
//! at random, and their masks, give the same numbers on any number of nodes.
#![cfg(feature = "nn")]
#![allow(missing_docs, clippy::unwrap_used)]

use brigade::layer::{Network, Tensor, TensorSpec};
use brigade::nn::{
    Accuracy, Activation, AdamW, Arrays, Augmented, Batches, CrossEntropy, Dataset, Linear,
};
use brigade::{Config, ScheduleKind, Trainer};
use std::path::PathBuf;

fn digits(part: &str) -> Arrays {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/digits");
    let file = |name: &str| folder.join(format!("{part}-{name}"));
    Arrays::open_idx(file("images-idx3-ubyte"), file("labels-idx1-ubyte")).unwrap()
}

fn all(arrays: &Arrays) -> (Tensor, Tensor) {
    let samples: Vec<_> = (0..arrays.len()).collect();
    let [images] = arrays.inputs(&samples).unwrap().take().unwrap();
    let [labels] = arrays.targets(&samples).unwrap().take().unwrap();
    (images, labels)
}

/// What NumPy says of scikit-learn's `load_digits`.
#[test]
fn the_digits_are_as_published() {
    let (images, labels) = all(&digits("train"));
    assert_eq!(images.shape().axes(), [1437, 8, 8, 1]);
    let first = images.f32().unwrap()[..8].iter();
    let first: Vec<_> = first.map(|x| (x * 255.0 / 15.0).round()).collect();
    assert_eq!(first, [0.0, 0.0, 5.0, 13.0, 9.0, 1.0, 0.0, 0.0]);
    let numbers = images.f32().unwrap().iter().map(|x| f64::from(*x));
    let mean = numbers.sum::<f64>() / images.shape().elements() as f64;
    assert!((mean - 0.287_422_223_586_720_7).abs() < 1e-7, "{mean}");
    assert_eq!(labels.i32().unwrap()[..10], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    let (images, labels) = all(&digits("test"));
    assert_eq!(images.shape().axes(), [360, 8, 8, 1]);
    assert_eq!(labels.i32().unwrap()[..10], [2, 3, 4, 5, 6, 7, 8, 9, 0, 9]);
}

/// Tells ink from paper, pixel by pixel.
fn network() -> Network {
    Network::builder()
        .input(TensorSpec::f32([6, 6, 1]))
        .target(TensorSpec::i32([6, 6]))
        .layer("in", Linear::new(1, 8))
        .layer("relu", Activation::Relu)
        .layer("middle", Linear::new(8, 8))
        .layer("relu2", Activation::Relu)
        .layer("out", Linear::new(8, 2))
        .loss("loss", CrossEntropy::new())
        .metric(Accuracy::new())
        .build()
        .unwrap()
}

#[test]
fn augmented_images_and_masks_are_the_same_on_any_number_of_nodes() {
    let (images, _) = all(&digits("test"));
    let ink = images.f32().unwrap().iter().map(|x| i32::from(*x > 0.5));
    let masks = Tensor::from_vec([360, 8, 8], ink.collect()).unwrap();
    let data = Batches::shuffled(Arrays::new(images, masks).unwrap(), 16, 1).unwrap();
    let data = Augmented::new(data, [8, 8], 1).flip().masks();
    let data = data.crop([6, 6], 2).unwrap();
    let trained = |nodes, schedule| {
        let config = Config {
            nodes,
            schedule,
            batch_size: 16,
            micro_batch_size: 4,
            ..Config::default()
        };
        let mut trainer = Trainer::start(&network(), &config, AdamW::new(3e-2)).unwrap();
        for _ in 0..40 {
            trainer.step(&data).unwrap();
        }
        let accuracy = trainer.evaluate(&data).unwrap().metrics[0].1.unwrap();
        assert!(accuracy > 0.95, "{accuracy}");
        trainer.weights_sha256().unwrap()
    };
    let one = trained(1, ScheduleKind::GPipe);
    for (nodes, schedule) in [(2, ScheduleKind::OneFOneB), (5, ScheduleKind::ZbH1)] {
        assert_eq!(trained(nodes, schedule), one, "{nodes}, {schedule}");
    }
}
