//! VGG.

use super::decoder::check_sizes;
use super::images::{Fan, MOST_CHANNELS, MOST_HALVINGS, check_images, convolution};
use crate::{
    Accuracy, Activation, BatchNorm2d, Chain, CrossEntropy, Dropout, Flatten, Linear, MaxPool2d,
    Window,
};
use brigade_layer::{Init, LayerError, Network, NetworkBuilder, TensorSpec};
use serde::{Deserialize, Serialize};

/// A network of convolutions of 3 x 3 and poolings, as VGG-16: a chain whose first layers have the
/// large values and whose last ones the large parameters.
///
/// ```text
/// x ─ features.0 ─ features.2 ─ pool ─ .. ─ flatten ─ classifier.0 ─ .3 ─ .6 ─ loss
/// ```
///
/// Parameters have torchvision's keys; weights of convolutions are [outputs, height, width,
/// inputs], in PyTorch `weight.permute(0, 2, 3, 1)`, and pixels are flattened as (height, width,
/// channel).
///
/// # Shapes
/// One row of x is an image [height, width, channels], one target a class, i32 []; the output is
/// [N, classes].
///
/// # Source
/// Simonyan, Zisserman: "Very deep convolutional networks for large-scale image recognition",
/// 2014.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Vgg {
    /// Height, width and channels of an image: 224, 224, 3 by default.
    pub image: [usize; 3],
    /// How many classes there are: 1000 by default.
    pub classes: usize,
    /// Channels of the convolutions between two poolings: VGG-16's by default.
    pub groups: Vec<Vec<usize>>,
    /// Width of the two linear layers before the last: 4096 by default.
    pub hidden: usize,
    /// Whether convolutions are normalised: not by default.
    pub batch_norm: bool,
    /// With which probability the linear layers' outputs are dropped while training: 0.5 by
    /// default.
    pub dropout: f32,
}

impl Default for Vgg {
    fn default() -> Self {
        let groups = [(2, 64), (2, 128), (3, 256), (3, 512), (3, 512)];
        Self {
            image: [224, 224, 3],
            classes: 1000,
            groups: groups
                .map(|(layers, channels)| vec![channels; layers])
                .into(),
            hidden: 4096,
            batch_norm: false,
            dropout: 0.5,
        }
    }
}

impl Vgg {
    /// VGG-16, for images of [height, width, channels].
    pub fn vgg16(image: [usize; 3], classes: usize) -> Self {
        Self {
            image,
            classes,
            ..Self::default()
        }
    }

    /// The network, ending in cross-entropy, with accuracy beside it.
    ///
    /// # Errors
    /// When a size is 0, or the image is too small for its poolings.
    pub fn network(&self) -> Result<Network, LayerError> {
        let [height, width, mut channels] = self.image;
        let sizes = [
            ("number of groups", self.groups.len(), MOST_HALVINGS),
            ("hidden", self.hidden, MOST_CHANNELS),
        ];
        check_sizes("vgg", sizes, self.groups.iter().map(Vec::len).sum())?;
        check_images("vgg", self.image, self.classes)?;
        for channels in self.groups.iter().flatten() {
            check_sizes("vgg", [("channels", *channels, MOST_CHANNELS)], 0)?;
        }
        let mut builder = Network::builder()
            .input(TensorSpec::f32(self.image))
            .target(TensorSpec::i32([]));
        let mut number = 0;
        for group in &self.groups {
            for outputs in group {
                (builder, number) = self.convolution(builder, number, [channels, *outputs]);
                channels = *outputs;
            }
            let pool = MaxPool2d::new(Window::square(2).stride(2));
            builder = builder.layer(&format!("features.{number}"), pool);
            number += 1;
        }
        let pooled = |side: usize| side >> self.groups.len();
        let features = pooled(height) * pooled(width) * channels;
        builder
            .layer("flatten", Flatten)
            .layer("classifier.0", self.hidden([features, self.hidden]))
            .layer("classifier.3", self.hidden([self.hidden; 2]))
            .layer("classifier.6", linear([self.hidden, self.classes]))
            .loss("loss", CrossEntropy::new())
            .metric(Accuracy::new())
            .build()
    }

    /// One convolution with what follows it; the number of the next layer.
    fn convolution(
        &self,
        builder: NetworkBuilder,
        number: usize,
        channels: [usize; 2],
    ) -> (NetworkBuilder, usize) {
        let conv = convolution(channels, Window::square(3).padding(1), Fan::Out);
        let key = format!("features.{number}");
        if !self.batch_norm {
            let layer = Chain::new("", conv.bias(Init::Zeros), "", Activation::Relu);
            return (builder.layer(&key, layer), number + 2);
        }
        let norm = BatchNorm2d::new(channels[1]).relu();
        let names = [number.to_string(), (number + 1).to_string()];
        let layer = Chain::new(&names[0], conv, &names[1], norm);
        (builder.layer(&key, layer).scope("features"), number + 3)
    }

    fn hidden(&self, sizes: [usize; 2]) -> impl brigade_layer::LayerSpec + use<> {
        Chain::new("", linear(sizes), "", Activation::Relu).then("", Dropout::new(self.dropout))
    }
}

fn linear([inputs, outputs]: [usize; 2]) -> Linear {
    let linear = Linear::new(inputs, outputs);
    linear.init(Init::Normal(0.01)).bias(Init::Zeros)
}
