//! The U-Net.

use super::decoder::check_sizes;
use super::images::{Fan, MOST_CHANNELS, MOST_HALVINGS, check_images, convolution};
use crate::{
    Accuracy, Activation, BatchNorm2d, Chain, Concatenate, CrossEntropy, GroupNorm, MaxPool2d,
    Upsample, UpsampleMode, Window,
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
/// One row of x is an image [height, width, channels], one of targets i32 [height, width]; the
/// output is [N, height, width, classes].
///
/// # Example
/// ```
/// use brigade_nn::UNet;
/// let unet = UNet { image: [256, 256, 1], classes: 2, ..UNet::default() };
/// assert_eq!(unet.network()?.layers().len(), 32);
/// # Ok::<(), brigade_layer::LayerError>(())
/// ```
///
/// # Source
/// Ronneberger, Fischer, Brox: "U-Net: convolutional networks for biomedical image segmentation",
/// 2015, with padding as is usual since; the initial weights are the paper's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UNet {
    /// Height and width, multiples of 2^depth, and channels of an image: 64, 64, 3 by default.
    pub image: [usize; 3],
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
            image: [64, 64, 3],
            classes: 2,
            depth: 4,
            width: 64,
            norm: UNetNorm::Batch,
            upsample: UpsampleMode::Nearest,
        }
    }
}

impl UNet {
    /// How many parameters it has, of sizes that [`Self::network`] takes; running statistics do not
    /// count.
    pub fn parameters(&self) -> u64 {
        // Those of an output: elements of its filter, and what it has beside.
        let conv = |pixels: u64, [inputs, outputs]: [u64; 2], beside: u64| {
            let filter = pixels.saturating_mul(inputs).saturating_add(beside);
            filter.saturating_mul(outputs)
        };
        let beside = if self.norm == UNetNorm::None { 1 } else { 2 };
        let level = |inputs, outputs| {
            let of = [[inputs, outputs], [outputs; 2]];
            of.map(|channels| conv(9, channels, beside))
        };
        let width = |level: usize| (self.width as u64).saturating_mul(1u64 << level);
        let mut all = level(self.image[2] as u64, width(0)).to_vec();
        for number in 1..=self.depth.min(MOST_HALVINGS) {
            let (outer, inner) = (width(number - 1), width(number));
            all.extend(level(outer, inner));
            all.push(conv(9, [inner, outer], 1));
            all.extend(level(outer.saturating_mul(2), outer));
        }
        all.push(conv(1, [width(0), self.classes as u64], 1));
        all.into_iter().fold(0, u64::saturating_add)
    }

    /// The network, ending in cross-entropy over pixels, with accuracy beside it.
    ///
    /// # Errors
    /// When a size is 0 or taken for a mistake, images cannot be halved as often as `depth` says,
    /// or channels do not make the groups.
    pub fn network(&self) -> Result<Network, LayerError> {
        self.check()?;
        let [height, width, _] = self.image;
        let mut builder = Network::builder()
            .input(TensorSpec::f32(self.image))
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
        let head = convolution([self.width, self.classes], Window::square(1), Fan::In);
        builder
            .layer("head", head.bias(Init::Zeros))
            .loss("loss", CrossEntropy::new())
            .metric(Accuracy::new())
            .build()
    }

    fn check(&self) -> Result<(), LayerError> {
        let sizes = [
            ("depth", self.depth, MOST_HALVINGS),
            ("width", self.width, MOST_CHANNELS),
        ];
        check_sizes("unet", sizes, 0)?;
        check_images("unet", self.image, self.classes)?;
        let ([height, width, _], part) = (self.image, 1 << self.depth);
        if [height, width]
            .iter()
            .any(|side| !side.is_multiple_of(part))
        {
            let problem = format!(
                "images of {height} x {width} cannot be halved {} times: make height and width \
                 multiples of {part}, or the depth less",
                self.depth
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
            0 => (self.image[2], From::Input(0)),
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
        let narrow = convolution([inner, width], square(), Fan::In).bias(Init::Zeros);
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
        let conv = convolution([inputs, outputs], square(), Fan::In);
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

/// What a convolution sees: as many places as there are pixels.
fn square() -> Window {
    Window::square(3).padding(1)
}
