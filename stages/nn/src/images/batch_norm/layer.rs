//! The layer.

use super::statistics::Gathered;
use super::{BatchNorm2d, blocks};
use crate::images::place;
use crate::images::shape::Images;
use crate::kernels::channel_norm::{After, Centre, Norm};
use crate::kernels::channels::Blocks;
use crate::kernels::elementwise::add;
use crate::kernels::reduce::column_sums;
use crate::kernels::{bits, channel_norm, moments};
use crate::shapes::element_work;
use brigade_layer::{
    Ctx, Keep, Layer, LayerError, Mode, Param, ParamAccess, Tensor, TensorMut, Tensors,
};

/// The layer that [`BatchNorm2d`] describes.
#[derive(Debug)]
pub struct BatchNorm2dLayer {
    spec: BatchNorm2d,
    weight: Param,
    bias: Param,
    mean: Param,
    variance: Param,
}

/// What F keeps: x, mean and inverse deviation of its channels, and where the y of a sum is
/// greater than 0. A frozen layer keeps no more of that than it needs.
#[derive(Debug)]
pub struct BatchNormStash {
    images: Images,
    x: Option<Tensor>,
    stats: Tensor,
    /// Whether x was normalised by itself.
    by_batch: bool,
    bits: Option<Tensor>,
}

impl Keep for BatchNormStash {
    fn tensors(&self, visit: &mut dyn FnMut(&Tensor)) {
        let kept = [self.x.as_ref(), Some(&self.stats), self.bits.as_ref()];
        kept.into_iter().flatten().for_each(visit);
    }
}

impl BatchNormStash {
    fn x(&self) -> Result<&[f32], LayerError> {
        self.x
            .as_ref()
            .ok_or(LayerError::Missing { index: 0 })?
            .f32()
    }
}

impl BatchNorm2dLayer {
    pub(super) fn new(spec: BatchNorm2d, [weight, bias, mean, variance]: [Param; 4]) -> Self {
        Self {
            spec,
            weight,
            bias,
            mean,
            variance,
        }
    }

    fn trains(&self) -> bool {
        self.weight.info().trains
    }

    fn norm<'a>(&'a self, stats: &'a [f32]) -> Norm<'a> {
        Norm {
            stats,
            weight: self.weight.value(),
            bias: self.bias.value(),
        }
    }

    /// Mean and inverse deviation of the micro-batch, whose moments are left for the step's end.
    fn of_batch(&self, x: &[f32], blocks: Blocks, cx: &mut Ctx<'_>) -> Result<Tensor, LayerError> {
        if blocks.pixels < 2 {
            return Err(LayerError::Value(
                "batch norm: a micro-batch of one pixel has no variance to train with; use a \
                 larger micro-batch (one that leaves no remainder of one row) or larger images, \
                 or freeze the layer"
                    .into(),
            ));
        }
        let mut stats = cx.f32([2, blocks.channels])?;
        let mut parts = cx.f32([blocks.count(), 2 * blocks.channels])?;
        cx.timed(element_work("batch norm moments", x.len(), 6, 1), |cx| {
            moments::of_blocks(parts.data(), x, blocks, cx.threads);
            moments::of_samples(stats.data(), parts.read(), blocks, cx.threads);
        });
        drop(parts);
        if cx.mode == Mode::Train {
            let mut own = cx.f32([2, blocks.channels])?;
            own.data().copy_from_slice(stats.read());
            let of = cx.micro_batch;
            let gathered = cx.step_state::<Gathered>();
            gathered.put(of, blocks.pixels, own.freeze());
        }
        Ok(self.inverted(stats))
    }

    fn of_running(&self, cx: &Ctx<'_>) -> Result<Tensor, LayerError> {
        let mut stats = cx.f32([2, self.spec.channels])?;
        let (mean, variance) = stats.data().split_at_mut(self.spec.channels);
        mean.copy_from_slice(self.mean.value());
        variance.copy_from_slice(self.variance.value());
        Ok(self.inverted(stats))
    }

    fn inverted(&self, mut stats: TensorMut) -> Tensor {
        moments::invert(stats.data(), self.spec.channels, self.spec.eps);
        stats.freeze()
    }

    /// What of dy comes to the sum, and this micro-batch's gradients of weight and bias [2, C].
    fn gradients(
        &self,
        mut dy: Tensor,
        stash: &BatchNormStash,
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensor, Tensor), LayerError> {
        let (x, blocks) = (stash.x()?, blocks(stash.images));
        let norm = self.norm(stash.stats.f32()?);
        let mut gradients = cx.f32([2, blocks.channels])?;
        let mut parts = cx.f32([blocks.count(), 2 * blocks.channels])?;
        let work = element_work("batch norm sums", x.len(), 8, 2);
        if let Some(bits) = &stash.bits {
            let mut masked = cx.writable::<f32>(dy)?;
            let of = (masked.data(), bits.i32()?, x);
            cx.timed(work, |cx| {
                channel_norm::masked_sums(parts.data(), of, norm, (blocks, cx.threads));
            });
            dy = masked.freeze();
        } else {
            let (of, by) = ((dy.f32()?, x), (norm, self.spec.gated()));
            cx.timed(work, |cx| {
                channel_norm::sums(parts.data(), of, by, (blocks, cx.threads));
            });
        }
        let width = 2 * blocks.channels;
        column_sums(gradients.data(), true, parts.read(), width, cx.threads);
        Ok((dy, gradients.freeze()))
    }

    /// The gradient of x where mean and deviation depend on it.
    fn through_batch(
        &self,
        dy: Tensor,
        gradients: &Tensor,
        stash: &BatchNormStash,
        cx: &mut Ctx<'_>,
    ) -> Result<Tensor, LayerError> {
        let (x, blocks) = (stash.x()?, blocks(stash.images));
        let norm = self.norm(stash.stats.f32()?);
        let mut means = cx.f32([2, blocks.channels])?;
        let share = 1.0 / blocks.pixels as f32;
        let weights = self.weight.value().iter().cycle();
        let both = gradients.f32()?.iter().zip(weights);
        for (mean, (sum, weight)) in means.data().iter_mut().zip(both) {
            *mean = sum * weight * share;
        }
        let centre = Centre {
            means: means.read(),
            gated: self.spec.gated(),
        };
        let (mut dx, dy) = place(dy, cx)?;
        let dy = dy.as_ref().map(Tensor::f32).transpose()?;
        cx.timed(element_work("batch norm", x.len(), 10, 3), |cx| {
            let sizes = (blocks, cx.threads);
            channel_norm::backward(dx.data(), (dy, x), norm, centre, sizes);
        });
        Ok(dx.freeze())
    }

    /// The gradient of x where they do not.
    fn through_running(
        &self,
        dy: Tensor,
        stash: &BatchNormStash,
        cx: &mut Ctx<'_>,
    ) -> Result<Tensor, LayerError> {
        let norm = self.norm(stash.stats.f32()?);
        let mut dx = cx.writable::<f32>(dy)?;
        let x = self.spec.gated().then(|| stash.x()).transpose()?;
        let work = element_work("batch norm", dx.read().len(), 2, 3);
        cx.timed(work, |cx| {
            if let Some(x) = x {
                channel_norm::close(dx.data(), x, norm, (blocks(stash.images), cx.threads));
            }
            channel_norm::scale(dx.data(), norm, cx.threads);
        });
        Ok(dx.freeze())
    }

    /// What of dy comes to the sum, where no gradients of parameters are asked for.
    fn masked(dy: Tensor, stash: &BatchNormStash, cx: &Ctx<'_>) -> Result<Tensor, LayerError> {
        let Some(bits) = &stash.bits else {
            return Ok(dy);
        };
        let mut masked = cx.writable::<f32>(dy)?;
        bits::mask(masked.data(), bits.i32()?, cx.threads);
        Ok(masked.freeze())
    }
}

impl Layer for BatchNorm2dLayer {
    type Stash = BatchNormStash;
    /// This micro-batch's gradients of weight and bias: dx needs them too. None of a frozen layer.
    type Kept = Option<Tensor>;

    fn forward(
        &mut self,
        mut inputs: Tensors,
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensors, Self::Stash), LayerError> {
        let specs: Vec<_> = inputs.iter().flatten().map(Tensor::spec).collect();
        let images = self.spec.check(&specs)?;
        let x = inputs.remove(0).ok_or(LayerError::Missing { index: 0 })?;
        let (blocks, x_data) = (blocks(images), x.f32()?);
        let by_batch = cx.training() && self.trains();
        let stats = match by_batch {
            true => self.of_batch(x_data, blocks, cx)?,
            false => self.of_running(cx)?,
        };
        let (mut y, skip) = match inputs.remove(1) {
            Some(skip) => place(skip, cx)?,
            None => (cx.f32(x.shape())?, None),
        };
        let words = self.spec.keeps_bits().then(|| bits::words(x_data.len()));
        let mut bits = words
            .map(|words| cx.pool().take::<i32>([words]))
            .transpose()?;
        let after = After {
            skip: skip.as_ref().map(Tensor::f32).transpose()?,
            adds: self.spec.adds,
            floor: if self.spec.relu {
                0.0
            } else {
                f32::NEG_INFINITY
            },
        };
        let norm = self.norm(stats.f32()?);
        cx.timed(element_work("batch norm", x_data.len(), 6, 2), |cx| {
            let (bits, sizes) = (bits.as_mut().map(TensorMut::data), (blocks, cx.threads));
            channel_norm::forward(y.data(), bits, x_data, norm, after, sizes);
        });
        let stash = BatchNormStash {
            images,
            x: (self.trains() || self.spec.gated()).then_some(x),
            stats,
            by_batch,
            bits: bits.map(TensorMut::freeze),
        };
        Ok((y.freeze().into(), stash))
    }

    fn backward_input(
        &mut self,
        dy: Tensors,
        stash: Self::Stash,
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensors, Self::Kept), LayerError> {
        let [dy] = dy.take()?;
        let (dy, kept) = match self.trains() {
            true => self
                .gradients(dy, &stash, cx)
                .map(|(dy, kept)| (dy, Some(kept)))?,
            false => (Self::masked(dy, &stash, cx)?, None),
        };
        let mut all = Tensors::none();
        let skip = (self.spec.adds && cx.wants_gradient(1)).then(|| dy.clone());
        all.push(match (cx.wants_gradient(0), &kept) {
            (false, _) => None,
            (true, Some(kept)) if stash.by_batch => Some(self.through_batch(dy, kept, &stash, cx)?),
            (true, _) => Some(self.through_running(dy, &stash, cx)?),
        })?;
        if self.spec.adds {
            all.push(skip)?;
        }
        Ok((all, kept))
    }

    fn backward_weight(&mut self, kept: Self::Kept, cx: &mut Ctx<'_>) -> Result<(), LayerError> {
        let Some(kept) = kept else {
            return Ok(());
        };
        let (weight, bias) = kept.f32()?.split_at(self.spec.channels);
        add(self.weight.gradient_add(cx.pool())?, weight, 1);
        add(self.bias.gradient_add(cx.pool())?, bias, 1);
        Ok(())
    }

    fn commit(&mut self, cx: &mut Ctx<'_>) -> Result<(), LayerError> {
        let running = [&mut self.mean, &mut self.variance].map(Param::value_mut);
        let gathered = std::mem::take(cx.step_state::<Gathered>());
        gathered.commit(running, self.spec.momentum)
    }

    fn params(&mut self, visit: &mut dyn FnMut(&mut dyn ParamAccess)) {
        let (trained, running) = (
            [&mut self.weight, &mut self.bias],
            [&mut self.mean, &mut self.variance],
        );
        { trained.into_iter().chain(running) }.for_each(|param| visit(param));
    }
}
