//! Group normalisation.

use super::place;
use super::shape::Images;
use crate::kernels::channel_norm::{self, After, Centre, Norm};
use crate::kernels::channels::Blocks;
use crate::kernels::elementwise::add;
use crate::kernels::moments;
use crate::kernels::reduce::column_sums;
use crate::shapes::{element_work, one_input};
use brigade_layer::{
    BuildCtx, Cost, Ctx, Init, Layer, LayerError, LayerSpec, Param, ParamAccess, ParamRole,
    ParamSpec, Tensor, TensorSpec, Tensors,
};
use serde::{Deserialize, Serialize};

/// y = (x - mean) / sqrt(variance + eps) * weight + bias, with mean and biased variance of each
/// sample and group of channels, over height, width and the channels of the group.
///
/// # Shapes
/// x, y [rows, height, width, channels], weight and bias \[channels\]. A group is channels / groups
/// channels in a row.
///
/// # Source
/// Wu, He: "Group normalization", 2018.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GroupNorm {
    /// How many groups.
    pub groups: usize,
    /// Length of the last axis, a multiple of `groups`.
    pub channels: usize,
    /// Added to the variance.
    pub eps: f32,
}

impl GroupNorm {
    /// A normalisation with eps 1e-5. Weights start at 1, biases at 0.
    pub fn new(groups: usize, channels: usize) -> Self {
        Self {
            groups,
            channels,
            eps: 1e-5,
        }
    }

    /// With this added to the variance.
    #[must_use]
    pub fn eps(mut self, eps: f32) -> Self {
        self.eps = eps;
        self
    }

    fn check_settings(&self) -> Result<(), LayerError> {
        let (groups, channels) = (self.groups, self.channels);
        let problem = if groups == 0 || channels == 0 || !channels.is_multiple_of(groups) {
            format!(
                "{channels} channels do not make {groups} groups: channels must be a multiple of \
                 the groups, and there must be at least one of each"
            )
        } else if !self.eps.is_finite() || self.eps < 0.0 {
            "eps must be a number that is not negative".to_owned()
        } else {
            return Ok(());
        };
        Err(LayerError::spec("group norm", problem))
    }

    fn check(&self, inputs: &[TensorSpec]) -> Result<Images, LayerError> {
        self.check_settings()?;
        let x = one_input("group norm", inputs)?;
        let images = Images::of("group norm", x)?;
        if images.channels != self.channels {
            let expected = format!("[rows, height, width, {}]", self.channels);
            return Err(LayerError::shape("group norm", expected, x.shape));
        }
        if images.sides.contains(&0) {
            let expected = "a height and width of at least 1";
            return Err(LayerError::shape("group norm", expected, x.shape));
        }
        Ok(images)
    }
}

fn blocks(images: Images) -> Blocks {
    Blocks {
        samples: images.rows,
        pixels: images.sides[0] * images.sides[1],
        channels: images.channels,
    }
}

impl LayerSpec for GroupNorm {
    type Layer = GroupNormLayer;

    fn params(&self) -> Vec<ParamSpec> {
        let of = |name, init| ParamSpec::new(name, [self.channels], ParamRole::Norm, init);
        vec![of("weight", Init::Ones), of("bias", Init::Zeros)]
    }

    fn outputs(&self, inputs: &[TensorSpec]) -> Result<Vec<TensorSpec>, LayerError> {
        Ok(vec![self.check(inputs)?.spec()])
    }

    fn cost(&self, inputs: &[TensorSpec]) -> Cost {
        let Ok(images) = self.check(inputs) else {
            return Cost::default();
        };
        let (bytes, blocks) = (inputs[0].bytes(), blocks(images));
        let elements = blocks.elements() as u64;
        // Two numbers a channel: moments or gradients, of each sample or block.
        let pair = 8 * self.channels as u64;
        let (samples, parts) = (images.rows as u64 * pair, blocks.count() as u64 * pair);
        Cost {
            forward_flops: 12 * elements,
            input_flops: 18 * elements,
            weight_flops: 2 * self.channels as u64,
            stash_bytes: bytes + samples,
            stashed_inputs: 1,
            kept_bytes: pair,
            forward_working_bytes: samples + parts.max(bytes),
            backward_working_bytes: samples + pair + parts.max(bytes),
            ..Cost::default()
        }
    }

    fn build(&self, cx: &BuildCtx<'_>) -> Result<GroupNormLayer, LayerError> {
        self.check_settings()?;
        let params = self.params();
        Ok(GroupNormLayer {
            spec: self.clone(),
            weight: Param::build(&params[0], cx)?,
            bias: Param::build(&params[1], cx)?,
        })
    }
}

/// The layer that [`GroupNorm`] describes.
#[derive(Debug)]
pub struct GroupNormLayer {
    spec: GroupNorm,
    weight: Param,
    bias: Param,
}

impl GroupNormLayer {
    fn norm<'a>(&'a self, stats: &'a [f32]) -> Norm<'a> {
        Norm {
            stats,
            weight: self.weight.value(),
            bias: self.bias.value(),
        }
    }

    /// Sums over the pixels of each sample [S, 2, C] become what dy is centred by: means over the
    /// group, of dy * weight * normal x and of dy * weight.
    fn centre(&self, sums: &mut [f32], pixels: usize) {
        let width = self.spec.channels / self.spec.groups;
        let share = 1.0 / (pixels * width) as f64;
        let weights = self.weight.value().chunks_exact(width).cycle();
        for (sums, weights) in sums.chunks_exact_mut(width).zip(weights) {
            let both = sums.iter().zip(weights);
            let sum: f64 = both.map(|(sum, w)| f64::from(*sum) * f64::from(*w)).sum();
            sums.fill((sum * share) as f32);
        }
    }
}

impl Layer for GroupNormLayer {
    /// x, and mean and inverse deviation of each sample's channels [S, 2, C].
    type Stash = (Tensor, Tensor);
    /// This micro-batch's gradients of weight and bias: their sums are what dx needs.
    type Kept = Tensor;

    fn forward(
        &mut self,
        x: Tensors,
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensors, Self::Stash), LayerError> {
        let [x] = x.take()?;
        let blocks = blocks(self.spec.check(&[x.spec()])?);
        let (channels, x_data) = (blocks.channels, x.f32()?);
        let mut stats = cx.f32([blocks.samples, 2, channels])?;
        let mut parts = cx.f32([blocks.count(), 2 * channels])?;
        cx.timed(
            element_work("group norm moments", x_data.len(), 6, 1),
            |cx| {
                moments::of_blocks(parts.data(), x_data, blocks, cx.threads);
                moments::of_samples(stats.data(), parts.read(), blocks, cx.threads);
                moments::join_groups(stats.data(), channels, self.spec.groups);
                moments::invert(stats.data(), channels, self.spec.eps);
            },
        );
        drop(parts);
        let mut y = cx.f32(x.shape())?;
        let norm = self.norm(stats.read());
        cx.timed(element_work("group norm", x_data.len(), 6, 2), |cx| {
            let sizes = (blocks, cx.threads);
            channel_norm::forward(y.data(), None, x_data, norm, After::default(), sizes);
        });
        Ok((y.freeze().into(), (x, stats.freeze())))
    }

    fn backward_input(
        &mut self,
        dy: Tensors,
        (x, stats): Self::Stash,
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensors, Tensor), LayerError> {
        let [dy] = dy.take()?;
        let blocks = blocks(self.spec.check(&[x.spec()])?);
        let (norm, x, width) = (self.norm(stats.f32()?), x.f32()?, 2 * blocks.channels);
        let mut kept = cx.f32([2, blocks.channels])?;
        let mut sums = cx.f32([blocks.samples, width])?;
        let mut parts = cx.f32([blocks.count(), width])?;
        let of = (dy.f32()?, x);
        cx.timed(element_work("group norm sums", x.len(), 8, 2), |cx| {
            let sizes = (blocks, cx.threads);
            channel_norm::sums(parts.data(), of, (norm, false), sizes);
            let each = parts.read().chunks_exact(width * blocks.of_a_sample());
            for (sums, parts) in sums.data().chunks_exact_mut(width).zip(each) {
                column_sums(sums, true, parts, width, cx.threads);
            }
            column_sums(kept.data(), true, sums.read(), width, cx.threads);
        });
        drop(parts);
        if !cx.wants_gradient(0) {
            return Ok(([None].into(), kept.freeze()));
        }
        self.centre(sums.data(), blocks.pixels);
        let centre = Centre {
            means: sums.read(),
            gated: false,
        };
        let (mut dx, dy) = place(dy, cx)?;
        let dy = dy.as_ref().map(Tensor::f32).transpose()?;
        cx.timed(element_work("group norm", x.len(), 10, 3), |cx| {
            let sizes = (blocks, cx.threads);
            channel_norm::backward(dx.data(), (dy, x), norm, centre, sizes);
        });
        Ok((dx.freeze().into(), kept.freeze()))
    }

    fn backward_weight(&mut self, kept: Tensor, cx: &mut Ctx<'_>) -> Result<(), LayerError> {
        let (weight, bias) = kept.f32()?.split_at(self.spec.channels);
        add(self.weight.gradient_add(cx.pool())?, weight, 1);
        add(self.bias.gradient_add(cx.pool())?, bias, 1);
        Ok(())
    }

    fn params(&mut self, visit: &mut dyn FnMut(&mut dyn ParamAccess)) {
        visit(&mut self.weight);
        visit(&mut self.bias);
    }
}
