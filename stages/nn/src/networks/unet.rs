//! The U-Net.

use super::decoder::check_sizes;
use crate::{
    Accuracy, Activation, BatchNorm2d, Chain, Concatenate, Conv2d, CrossEntropy, GroupNorm,
    MaxPool2d, Upsample, UpsampleMode, Window,
};
use brigade_layer::{From, Init, LayerError, Network, NetworkBuilder, TensorSpec};
use serde::{Deserialize, Serialize};

/// What normalises the output of a [`UNet`]'s convolutions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum UNetNorm {
    /// [`BatchNorm2d`].
    #[default]
    Batch,
    /// [`GroupNorm`] with so many groups.
    Group(usize),
    /// Nothing; the convolutions have biases.
    None,
}

/// A class for every pixel: images are halved level by level, and doubled again beside what each
/// level had.
///
/// ```text
/// image ─ down.0.0 ─ down.0.1 ────────────────────────────── up.0.join ─ up.0.0 ─ up.0.1 ─ head
///                       └ down.0.pool ─ down.1.0 ─ .. ─ up.0.up ┘
///                                            bottom.0 ─ bottom.1
/// ```
///
/// Convolutions are of 3 x 3 pixels with padding 1, so that sizes stay, each with its norm and a
/// ReLU as one layer. The way up is an [`Upsample`] and a convolution that halves the channels.
/// What a level had goes straight to where it is read, whatever lies between.
///
/// # Shapes
/// One row of images is [height, width, C], C `channels`; one of targets i32 [height, width]; the
/// output is [B, height, width, V], V `classes`.
///
/// # Example
/// ```
/// use brigade_nn::UNet;
/// let unet = UNet { sides: [256, 256], channels: 1, classes: 2, ..UNet::default() };
/// assert_eq!(unet.network()?.layers().len(), 32);
/// # Ok::<(), brigade_layer::LayerError>(())
/// ```
///
/// # Source
/// Ronneberger, Fischer, Brox: "U-Net: convolutional networks for biomedical image segmentation",
/// 2015, with padding as is usual since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UNet {
    /// Height and width of the images, multiples of 2^depth: 64 x 64 by default.
    pub sides: [usize; 2],
    /// Channels of the images: 3 by default.
    pub channels: usize,
    /// How many classes there are: 2 by default.
    pub classes: usize,
    /// How often images are halved: 4 by default.
    pub depth: usize,
    /// Channels of the first level, twice as many on each below: 64 by default.
    pub width: usize,
    /// What normalises: [`BatchNorm2d`] by default.
    pub norm: UNetNorm,
    /// How images are doubled: to the nearest pixel by default.
    pub upsample: UpsampleMode,
}

impl Default for UNet {
    fn default() -> Self {
        Self {
            sides: [64, 64],
            channels: 3,
            classes: 2,
            depth: 4,
            width: 64,
            norm: UNetNorm::Batch,
            upsample: UpsampleMode::Nearest,
        }
    }
}

const MOST_SIDE: usize = 1 << 20;
const MOST_CHANNELS: usize = 1 << 20;
const MOST_DEPTH: usize = 16;

impl UNet {
    /// How many parameters it has; running statistics do not count.
    pub fn parameters(&self) -> u64 {
        let pixels = |inputs: usize, outputs: usize| (9 * inputs * outputs) as u64;
        let conv = |inputs, outputs| {
            let others = if self.norm == UNetNorm::None { 1 } else { 2 };
            pixels(inputs, outputs) + others * outputs as u64
        };
        let level = |inputs, outputs| conv(inputs, outputs) + conv(outputs, outputs);
        let mut all = level(self.channels, self.width);
        for number in 1..=self.depth {
            let (outer, inner) = (self.width(number - 1), self.width(number));
            let up = pixels(inner, outer) + outer as u64;
            all += level(outer, inner) + up + level(2 * outer, outer);
        }
        all + (self.classes * (self.width + 1)) as u64
    }

    /// The network, ending in cross-entropy over pixels, with accuracy beside it.
    ///
    /// # Errors
    /// When a size is 0 or taken for a mistake, images cannot be halved as often as `depth` says,
    /// or channels do not make the groups.
    pub fn network(&self) -> Result<Network, LayerError> {
        self.check()?;
        let [height, width] = self.sides;
        let mut builder = Network::builder()
            .input(TensorSpec::f32([height, width, self.channels]))
            .target(TensorSpec::i32([height, width]));
        for level in 0..self.depth {
            builder = self.down(builder, level);
        }
        let (inner, outer) = (self.width(self.depth), self.width(self.depth - 1));
        builder = self.convolution(builder, "bottom.0", outer, inner, From::Previous);
        builder = self.convolution(builder, "bottom.1", inner, inner, From::Previous);
        for level in (0..self.depth).rev() {
            builder = self.up(builder, level);
        }
        let head = convolution(1, self.width, self.classes);
        builder
            .layer("head", head.bias(Init::Zeros))
            .loss("loss", CrossEntropy::new())
            .metric(Accuracy::new())
            .build()
    }

    fn check(&self) -> Result<(), LayerError> {
        let sizes = [
            ("height", self.sides[0], MOST_SIDE),
            ("width of images", self.sides[1], MOST_SIDE),
            ("channels", self.channels, MOST_CHANNELS),
            ("classes", self.classes, i32::MAX as usize),
            ("depth", self.depth, MOST_DEPTH),
            ("width", self.width, MOST_CHANNELS),
        ];
        check_sizes("unet", sizes, 0)?;
        let part = 1 << self.depth;
        if self.sides.iter().any(|side| !side.is_multiple_of(part)) {
            let ([height, width], depth) = (self.sides, self.depth);
            let problem = format!(
                "images of {height} x {width} cannot be halved {depth} times: make height and \
                 width multiples of {part}, or the depth less"
            );
            return Err(LayerError::spec("unet", problem));
        }
        Ok(())
    }

    /// Channels of a level.
    fn width(&self, level: usize) -> usize {
        self.width << level
    }

    /// Two convolutions, and half the size of what they make.
    fn down(&self, builder: NetworkBuilder, level: usize) -> NetworkBuilder {
        let (inputs, from) = match level {
            0 => (self.channels, From::Input(0)),
            _ => (self.width(level - 1), From::Previous),
        };
        let [first, second] = [0, 1].map(|number| format!("down.{level}.{number}"));
        let width = self.width(level);
        let builder = self.convolution(builder, &first, inputs, width, from);
        let builder = self.convolution(builder, &second, width, width, From::Previous);
        let half = MaxPool2d::new(Window::square(2).stride(2));
        builder.layer(&format!("down.{level}.pool"), half)
    }

    /// Twice the size of what came from below, beside what the level had, and two convolutions.
    fn up(&self, builder: NetworkBuilder, level: usize) -> NetworkBuilder {
        let (inner, width) = (self.width(level + 1), self.width(level));
        let key = |part: &str| format!("up.{level}.{part}");
        let twice = Upsample::new(2, self.upsample);
        let narrow = convolution(3, inner, width).bias(Init::Zeros);
        let skip = format!("down.{level}.1");
        let both = [From::Layer(&skip), From::Previous];
        let builder = builder
            .layer(&key("up"), Chain::new("", twice, "conv", narrow))
            .layer_from(&key("join"), Concatenate, &both);
        let builder = self.convolution(builder, &key("0"), 2 * width, width, From::Previous);
        self.convolution(builder, &key("1"), width, width, From::Previous)
    }

    /// A convolution with its norm and a ReLU.
    fn convolution(
        &self,
        builder: NetworkBuilder,
        key: &str,
        inputs: usize,
        outputs: usize,
        from: From<'_>,
    ) -> NetworkBuilder {
        let conv = convolution(3, inputs, outputs);
        match self.norm {
            UNetNorm::Batch => {
                let norm = BatchNorm2d::new(outputs).relu();
                builder.layer_from(key, Chain::new("conv", conv, "norm", norm), &[from])
            }
            UNetNorm::Group(groups) => {
                let norm = GroupNorm::new(groups, outputs);
                let both = Chain::new("conv", conv, "norm", norm);
                builder.layer_from(key, both.then("", Activation::Relu), &[from])
            }
            UNetNorm::None => {
                let conv = conv.bias(Init::Zeros);
                builder.layer_from(key, Chain::new("conv", conv, "", Activation::Relu), &[from])
            }
        }
    }
}

/// A convolution of so many pixels each way that leaves sizes as they are, without a bias. The
/// paper's weights: normal, with a variance of 2 / elements of a filter.
fn convolution(side: usize, inputs: usize, outputs: usize) -> Conv2d {
    let window = Window::square(side).padding(side / 2);
    let deviation = (2.0 / (side * side * inputs) as f32).sqrt();
    Conv2d::new(inputs, outputs, window)
        .without_bias()
        .init(Init::Normal(deviation))
}
