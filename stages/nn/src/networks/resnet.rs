//! Residual networks.

use super::decoder::check_sizes;
use super::images::{Fan, MOST_CHANNELS, MOST_HALVINGS, check_images, convolution};
use crate::{
    Accuracy, BatchNorm2d, Chain, CrossEntropy, GlobalAvgPool2d, Linear, MaxPool2d, Window,
};
use brigade_layer::{From, LayerError, Network, NetworkBuilder, TensorSpec};
use serde::{Deserialize, Serialize};

/// What comes before the blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Stem {
    /// A convolution of 3 x 3: for small images.
    #[default]
    Small,
    /// A convolution of 7 x 7 and a pooling of 3 x 3, both with stride 2: for images of ImageNet's
    /// size.
    Large,
}

/// A residual network for images, as ResNet-18, 34 and 50.
///
/// ```text
/// x ─ stem ─ layer1.0 ─ .. ─ layer4.1 ─ avgpool ─ fc ─ loss
///
/// a block:      ┌──────── [downsample] ───────┐
///            x ─┴─ conv1 bn1 relu ─ conv2 bn2 + ─ relu
/// ```
///
/// Every convolution is a layer of its own, with its normalisation and what follows, so that a cut
/// may go through a block: then what skips the convolutions crosses it. Parameters have
/// torchvision's keys (`layer1.0.conv1.weight`); weights of convolutions are [outputs, height,
/// width, inputs], in PyTorch `weight.permute(0, 2, 3, 1)`.
///
/// # Shapes
/// One row of x is an image [height, width, channels], one target a class, i32 []; the output is
/// [N, classes].
///
/// # Source
/// He, Zhang, Ren, Sun: "Deep residual learning for image recognition", 2015. The stride of a
/// bottleneck is in its convolution of 3 x 3, as torchvision has it, whose are the initial weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResNet {
    /// Height, width and channels of an image: 32, 32, 3 by default.
    pub image: [usize; 3],
    /// How many classes there are: 10 by default.
    pub classes: usize,
    /// Channels of the first blocks: 64 by default. Each later group of blocks has twice as many.
    pub width: usize,
    /// Blocks of every group: 2, 2, 2, 2 by default. Each group but the first halves the image.
    pub blocks: Vec<usize>,
    /// Whether blocks are bottlenecks: 1 x 1, 3 x 3 and 1 x 1 with four times the channels, instead
    /// of two of 3 x 3. Not by default.
    pub bottleneck: bool,
    /// What comes before the blocks.
    pub stem: Stem,
}

impl Default for ResNet {
    fn default() -> Self {
        Self {
            image: [32, 32, 3],
            classes: 10,
            width: 64,
            blocks: vec![2, 2, 2, 2],
            bottleneck: false,
            stem: Stem::Small,
        }
    }
}

/// Channels of a bottleneck's output, as a multiple of those inside.
const EXPANSION: usize = 4;

impl ResNet {
    /// ResNet-18, for images of [height, width, channels]. They have the small stem below 64
    /// pixels.
    pub fn resnet18(image: [usize; 3], classes: usize) -> Self {
        let stem = match image[0].min(image[1]) {
            0..64 => Stem::Small,
            _ => Stem::Large,
        };
        Self {
            image,
            classes,
            stem,
            ..Self::default()
        }
    }

    /// ResNet-34: as ResNet-18, with more blocks.
    pub fn resnet34(image: [usize; 3], classes: usize) -> Self {
        Self {
            blocks: vec![3, 4, 6, 3],
            ..Self::resnet18(image, classes)
        }
    }

    /// ResNet-50: as ResNet-34, with bottlenecks.
    pub fn resnet50(image: [usize; 3], classes: usize) -> Self {
        Self {
            bottleneck: true,
            ..Self::resnet34(image, classes)
        }
    }

    /// The network, ending in cross-entropy, with accuracy beside it.
    ///
    /// # Errors
    /// When a size is 0, or the image is too small for its groups.
    pub fn network(&self) -> Result<Network, LayerError> {
        let sizes = [
            ("width", self.width, MOST_CHANNELS),
            ("number of groups", self.blocks.len(), MOST_HALVINGS),
        ];
        let blocks = { self.blocks.iter() }.fold(0, |all: usize, more| all.saturating_add(*more));
        check_sizes("resnet", sizes, blocks)?;
        check_images("resnet", self.image, self.classes)?;
        let mut builder = Network::builder()
            .input(TensorSpec::f32(self.image))
            .target(TensorSpec::i32([]));
        builder = self.stem(builder);
        let (mut before, mut channels) = (self.stem_key().to_owned(), self.width);
        for (group, blocks) in self.blocks.iter().enumerate() {
            let inner = self.width << group;
            for block in 0..*blocks {
                let stride = if group > 0 && block == 0 { 2 } else { 1 };
                let of = Block {
                    key: format!("layer{}.{block}", group + 1),
                    before: &before,
                    channels: [channels, inner, inner * self.expansion()],
                    stride,
                };
                builder = match self.bottleneck {
                    true => of.bottleneck(builder),
                    false => of.basic(builder),
                };
                (before, channels) = (of.last(self.bottleneck), inner * self.expansion());
            }
        }
        builder
            .layer("avgpool", GlobalAvgPool2d)
            .layer("fc", Linear::new(channels, self.classes))
            .loss("loss", CrossEntropy::new())
            .metric(Accuracy::new())
            .build()
    }

    fn expansion(&self) -> usize {
        if self.bottleneck { EXPANSION } else { 1 }
    }

    fn stem_key(&self) -> &'static str {
        match self.stem {
            Stem::Small => "conv1",
            Stem::Large => "maxpool",
        }
    }

    fn stem(&self, builder: NetworkBuilder) -> NetworkBuilder {
        let window = match self.stem {
            Stem::Small => Window::square(3).padding(1),
            Stem::Large => Window::square(7).stride(2).padding(3),
        };
        let conv = convolution([self.image[2], self.width], window, Fan::Out);
        let norm = BatchNorm2d::new(self.width).relu();
        let builder = builder
            .layer("conv1", Chain::new("conv1", conv, "bn1", norm))
            .scope("");
        match self.stem {
            Stem::Small => builder,
            Stem::Large => builder.layer(
                "maxpool",
                MaxPool2d::new(Window::square(3).stride(2).padding(1)),
            ),
        }
    }
}

/// One residual block.
struct Block<'a> {
    key: String,
    /// The layer that feeds it.
    before: &'a str,
    /// Of its input, inside, of its output.
    channels: [usize; 3],
    stride: usize,
}

impl Block<'_> {
    /// The key of its last layer.
    fn last(&self, bottleneck: bool) -> String {
        format!("{}.conv{}", self.key, if bottleneck { 3 } else { 2 })
    }

    fn basic(&self, builder: NetworkBuilder) -> NetworkBuilder {
        let [inputs, inner, _] = self.channels;
        let window = Window::square(3).padding(1);
        let builder = self.inside(builder, 1, [inputs, inner], window.stride(self.stride));
        self.end(builder, 2, window)
    }

    fn bottleneck(&self, builder: NetworkBuilder) -> NetworkBuilder {
        let [inputs, inner, _] = self.channels;
        let window = Window::square(3).padding(1).stride(self.stride);
        let builder = self.inside(builder, 1, [inputs, inner], Window::square(1));
        let builder = self.inside(builder, 2, [inner; 2], window);
        self.end(builder, 3, Window::square(1))
    }

    /// Convolution, normalisation and ReLU within the block.
    fn inside(
        &self,
        builder: NetworkBuilder,
        number: usize,
        channels: [usize; 2],
        window: Window,
    ) -> NetworkBuilder {
        let conv = convolution(channels, window, Fan::Out);
        let norm = BatchNorm2d::new(channels[1]).relu();
        let names = [format!("conv{number}"), format!("bn{number}")];
        let layer = Chain::new(&names[0], conv, &names[1], norm);
        let from = if number == 1 {
            From::Layer(self.before)
        } else {
            From::Previous
        };
        builder
            .layer_from(&format!("{}.{}", self.key, names[0]), layer, &[from])
            .scope(&self.key)
    }

    /// What skips the block where its shape changes, and the last convolution, which meets it.
    fn end(&self, mut builder: NetworkBuilder, number: usize, window: Window) -> NetworkBuilder {
        let [inputs, inner, outputs] = self.channels;
        let inside = format!("{}.conv{}", self.key, number - 1);
        let downsample = format!("{}.downsample", self.key);
        let skip = match self.stride > 1 || inputs != outputs {
            true => {
                let window = Window::square(1).stride(self.stride);
                let conv = convolution([inputs, outputs], window, Fan::Out);
                let layer = Chain::new("0", conv, "1", BatchNorm2d::new(outputs));
                let from = From::Layer(self.before);
                builder = builder.layer_from(&downsample, layer, &[from]);
                From::Layer(&downsample)
            }
            false => From::Layer(self.before),
        };
        let conv = convolution([inner, outputs], window, Fan::Out);
        let norm = BatchNorm2d::new(outputs).adding().relu();
        let names = [format!("conv{number}"), format!("bn{number}")];
        let layer = Chain::new(&names[0], conv, &names[1], norm).others_pass_first();
        let inputs = [From::Layer(&inside), skip];
        builder
            .layer_from(&format!("{}.{}", self.key, names[0]), layer, &inputs)
            .scope(&self.key)
    }
}
