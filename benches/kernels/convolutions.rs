//! Convolutions of a ResNet-18 on images of 32 x 32.

use super::{Group, Pass, Work};
use brigade::bench::{LayerRun, Layers};
use brigade::layer::{Batch, Network, Precision, Tensor, TensorSpec};
use brigade::nn::{Conv2d, Linear, MeanSquaredError, Window};
use criterion::Criterion;

/// One of them.
struct Filters {
    name: &'static str,
    side: usize,
    inputs: usize,
    outputs: usize,
    window: fn() -> Window,
}

/// Images of a micro-batch.
const ROWS: usize = 32;

const fn filters(
    name: &'static str,
    side: usize,
    [inputs, outputs]: [usize; 2],
    window: fn() -> Window,
) -> Filters {
    Filters {
        name,
        side,
        inputs,
        outputs,
        window,
    }
}

const FILTERS: [Filters; 7] = [
    filters("stem", 32, [3, 64], near),
    filters("64", 32, [64, 64], near),
    filters("128", 16, [128, 128], near),
    filters("256", 8, [256, 256], near),
    filters("512", 4, [512, 512], near),
    filters("stride 2", 32, [64, 128], || near().stride(2)),
    filters("shortcut", 32, [64, 128], || Window::square(1).stride(2)),
];

fn near() -> Window {
    Window::square(3).padding(1)
}

impl Filters {
    /// The layer before it has parameters, so that dx is wanted.
    fn network(&self) -> Network {
        let layer = Conv2d::new(self.inputs, self.outputs, (self.window)()).without_bias();
        let [height, width, _] = self.y();
        Network::builder()
            .input(TensorSpec::f32([self.side, self.side, 1]))
            .target(TensorSpec::f32([height, width, self.outputs]))
            .layer("first", Linear::new(1, self.inputs))
            .layer("convolution", layer)
            .loss("loss", MeanSquaredError)
            .build()
            .unwrap()
    }

    /// Height, width and channels.
    fn y(&self) -> [usize; 3] {
        let side = self.side / (self.window)().stride[0];
        [side, side, self.outputs]
    }

    fn run(&self, precision: Precision) -> LayerRun {
        let network = self.network();
        let numbers = |shape: [usize; 4]| {
            let numbers = (0..shape.iter().product()).map(|n: usize| (n as f32).sin());
            Tensor::from_vec(shape, numbers.collect()).unwrap()
        };
        let [height, width, channels] = self.y();
        let x = numbers([ROWS, self.side, self.side, 1]);
        let data = Batch::new(x, numbers([ROWS, height, width, channels])).unwrap();
        let layers = Layers::new(&network, &data, ROWS).unwrap();
        let mut runs = layers.precision(precision).map(|run| run.unwrap());
        runs.find(|run| run.key() == "convolution").unwrap()
    }

    /// Of the definition: ways that multiply less may reach more than the limit.
    fn flops(&self) -> usize {
        let [height, width, channels] = self.y();
        let [down, along] = (self.window)().kernel;
        2 * ROWS * height * width * channels * down * along * self.inputs
    }
}

pub(crate) fn convolutions(criterion: &mut Criterion) {
    for (name, precision) in [
        ("convolution f32", Precision::F32),
        ("convolution bf16", Precision::Bf16),
    ] {
        let mut group = Group::new(criterion, name, precision);
        for filters in &FILTERS {
            let (mut run, work) = (filters.run(precision), Work::Flops(filters.flops()));
            for pass in [Pass::Forward, Pass::Input, Pass::Weight] {
                group.bench(filters.name, &mut run, (pass, work));
            }
        }
    }
}
