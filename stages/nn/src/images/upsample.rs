//! Images made larger.

use super::shape::Images;
use crate::kernels::resample::{Bilinear, Nearest, Resampling, Sides, Transposed, resample};
use crate::shapes::one_input;
use brigade_layer::{
    BuildCtx, Cost, Ctx, KernelWork, Layer, LayerError, LayerSpec, Shape, TensorSpec, Tensors,
};
use serde::{Deserialize, Serialize};

const WHAT: &str = "upsample";

/// How [`Upsample`] makes pixels that were not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum UpsampleMode {
    /// As the pixel that they are cut from.
    #[default]
    Nearest,
    /// On straight lines between the centres of pixels, along both axes; beyond the outermost
    /// centres as the outermost pixels.
    Bilinear,
}

impl UpsampleMode {
    /// Of how many pixels one is made along an axis.
    fn sources(self) -> u64 {
        match self {
            Self::Nearest => 1,
            Self::Bilinear => 2,
        }
    }
}

/// Makes images larger by a whole factor along height and width.
///
/// # Shapes
/// x [rows, H, W, C], y [rows, factor H, factor W, C].
///
/// # Source
/// As PyTorch's `Upsample` with `scale_factor` (its `align_corners` is false).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Upsample {
    /// How many pixels are made of one, along each axis: at least 1.
    pub factor: usize,
    /// How they are made.
    pub mode: UpsampleMode,
}

impl Upsample {
    /// By this factor, in this way.
    pub fn new(factor: usize, mode: UpsampleMode) -> Self {
        Self { factor, mode }
    }

    /// The images, and those that are made of them.
    fn check(&self, inputs: &[TensorSpec]) -> Result<(Images, Images), LayerError> {
        let x = Images::of(WHAT, one_input(WHAT, inputs)?)?;
        if self.factor == 0 {
            return Err(LayerError::spec(WHAT, "the factor must be at least 1"));
        }
        let [height, width] = x.sides.map(|side| side.saturating_mul(self.factor));
        Shape::new(&[x.rows, height, width, x.channels])?;
        let sides = [height, width];
        Ok((x, Images { sides, ..x }))
    }

    /// y from x, or dx from dy when it goes back.
    fn resample(
        &self,
        result: &mut [f32],
        from: &[f32],
        (x, y): (Images, Images),
        (back, threads): (bool, usize),
    ) {
        let sides = Sides {
            to: y.sides,
            from: x.sides,
            channels: x.channels,
        };
        let factor = self.factor;
        let axes = (back, sides, threads);
        match self.mode {
            UpsampleMode::Nearest => along(result, from, [Nearest { factor }; 2], axes),
            UpsampleMode::Bilinear => {
                let axis = |pixels| Bilinear { factor, pixels };
                along(result, from, x.sides.map(axis), axes);
            }
        }
    }

    fn flops(&self, y: Images) -> u64 {
        let sources = self.mode.sources().pow(2);
        (y.shape().elements() as u64).saturating_mul(2 * sources)
    }

    fn work(&self, (x, y): (Images, Images)) -> KernelWork {
        let bytes = x.spec().bytes().saturating_add(y.spec().bytes());
        KernelWork::new(WHAT, self.flops(y), bytes)
    }
}

fn along<R: Resampling>(
    result: &mut [f32],
    from: &[f32],
    axes: [R; 2],
    (back, sides, threads): (bool, Sides, usize),
) {
    match back {
        false => resample(result, from, axes, sides, threads),
        true => {
            let axes = axes.map(Transposed);
            resample(result, from, axes, sides.transposed(), threads);
        }
    }
}

impl LayerSpec for Upsample {
    type Layer = UpsampleLayer;

    fn outputs(&self, inputs: &[TensorSpec]) -> Result<Vec<TensorSpec>, LayerError> {
        Ok(vec![self.check(inputs)?.1.spec()])
    }

    fn cost(&self, inputs: &[TensorSpec]) -> Cost {
        let Ok((_, y)) = self.check(inputs) else {
            return Cost::default();
        };
        Cost {
            forward_flops: self.flops(y),
            input_flops: self.flops(y),
            forward_working_bytes: y.spec().bytes(),
            backward_working_bytes: inputs[0].bytes(),
            ..Cost::default()
        }
    }

    fn build(&self, _: &BuildCtx<'_>) -> Result<UpsampleLayer, LayerError> {
        Ok(UpsampleLayer(*self))
    }
}

/// The layer that [`Upsample`] describes.
#[derive(Debug)]
pub struct UpsampleLayer(Upsample);

impl Layer for UpsampleLayer {
    /// The shape of x.
    type Stash = Shape;
    type Kept = ();

    fn forward(&mut self, x: Tensors, cx: &mut Ctx<'_>) -> Result<(Tensors, Shape), LayerError> {
        let [x] = x.take()?;
        let images = self.0.check(&[x.spec()])?;
        let mut y = cx.f32(images.1.shape())?;
        let x_data = x.f32()?;
        cx.timed(self.0.work(images), |cx| {
            self.0
                .resample(y.data(), x_data, images, (false, cx.threads));
        });
        Ok((y.freeze().into(), x.shape()))
    }

    fn backward_input(
        &mut self,
        dy: Tensors,
        x: Shape,
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensors, ()), LayerError> {
        let [dy] = dy.take()?;
        if !cx.wants_gradient(0) {
            return Ok(([None].into(), ()));
        }
        let images = self.0.check(&[TensorSpec::f32(x)])?;
        let mut dx = cx.f32(x)?;
        let dy = dy.f32()?;
        cx.timed(self.0.work(images), |cx| {
            self.0.resample(dx.data(), dy, images, (true, cx.threads));
        });
        Ok((dx.freeze().into(), ()))
    }

    fn backward_weight(&mut self, (): (), _: &mut Ctx<'_>) -> Result<(), LayerError> {
        Ok(())
    }
}
