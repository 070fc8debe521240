//! Causal attention of queries, keys and values.

use crate::kernels::attention::{Attention, scratch};
use crate::kernels::random::{Mask, check_probability};
use crate::kernels::softmax::STATS;
use crate::shapes::one_input;
use brigade_layer::{
    BuildCtx, Cost, Ctx, KernelWork, Layer, LayerError, LayerSpec, Mode, Shape, Tensor, TensorSpec,
    Tensors,
};
use ndarray::{ArrayView4, ArrayViewMut4, ArrayViewMut5};
use serde::{Deserialize, Serialize};

/// Attention of every position to itself and those before it, in heads:
/// y = softmax(q k^T / sqrt(C), causal) v for each head of C = D / H columns.
///
/// The input holds queries, keys and values side by side.
/// [`CausalSelfAttention`](crate::CausalSelfAttention) puts projections around it.
///
/// # Shapes
/// qkv [B, T, 3 D], y [B, T, D]; H `heads`.
///
/// # Source
/// Vaswani et al.: "Attention is all you need", 2017, equation 1. Probabilities are computed again
/// for the backward pass, as in Dao et al.: "FlashAttention", 2022.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CausalAttention {
    /// How many heads share the width.
    pub heads: usize,
    /// With which probability a probability is dropped while training.
    pub dropout: f32,
}

impl CausalAttention {
    /// Attention in this many heads, without dropout.
    pub fn new(heads: usize) -> Self {
        Self {
            heads,
            dropout: 0.0,
        }
    }

    /// With dropout of probabilities.
    #[must_use]
    pub fn dropout(mut self, probability: f32) -> Self {
        self.dropout = probability;
        self
    }

    fn sizes(&self, qkv: Shape) -> Result<Sizes, LayerError> {
        let heads = self.heads;
        match *qkv.axes() {
            [batch, length, last]
                if heads > 0 && last > 0 && length > 0 && last % (3 * heads) == 0 =>
            {
                Ok(Sizes {
                    batch,
                    length,
                    heads,
                    columns: last / (3 * heads),
                })
            }
            _ => {
                let expected = format!("[rows, at least 1, 3 x a multiple of {heads} heads]");
                Err(LayerError::shape("causal attention", expected, qkv))
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Sizes {
    batch: usize,
    length: usize,
    heads: usize,
    columns: usize,
}

impl Sizes {
    fn output(&self) -> [usize; 3] {
        [self.batch, self.length, self.heads * self.columns]
    }

    fn stats(&self) -> [usize; 4] {
        [self.batch, self.heads, self.length, STATS]
    }

    /// Queries with the keys that they see, of all heads.
    fn pairs(&self) -> u64 {
        let [batch, heads, length] = [self.batch, self.heads, self.length].map(|n| n as u64);
        let each = length.saturating_mul(length + 1) / 2;
        (batch * heads).saturating_mul(each)
    }

    /// Floating-point operations of so many products over all pairs.
    fn product_flops(&self, products: u64) -> u64 {
        let each = 2 * products * self.columns as u64;
        each.saturating_mul(self.pairs())
    }

    /// Of all threads, for so many matrices of scores.
    fn scratch(&self, matrices: usize, threads: usize) -> [usize; 2] {
        [threads.max(1), scratch(self.length, self.columns, matrices)]
    }

    fn split<'a>(&self, qkv: &'a Tensor, parts: usize) -> Result<ArrayView4<'a, f32>, LayerError> {
        let shape = (self.batch, self.length, parts * self.heads, self.columns);
        Ok(ArrayView4::from_shape(shape, qkv.f32()?).expect("a shape taken from the tensor's"))
    }
}

impl LayerSpec for CausalAttention {
    type Layer = CausalAttentionLayer;

    fn outputs(&self, inputs: &[TensorSpec]) -> Result<Vec<TensorSpec>, LayerError> {
        check_probability("causal attention", self.dropout)?;
        let sizes = self.sizes(one_input("causal attention", inputs)?.shape)?;
        Ok(vec![TensorSpec::f32(sizes.output())])
    }

    fn cost(&self, inputs: &[TensorSpec]) -> Cost {
        let Ok(sizes) = self.sizes(inputs[0].shape) else {
            return Cost::default();
        };
        let others = |flops: u64| flops.saturating_mul(sizes.pairs());
        let scratch = |matrices| TensorSpec::f32(sizes.scratch(matrices, 1)).bytes();
        let dropping = if self.dropout > 0.0 { 20 } else { 0 };
        Cost {
            forward_flops: (sizes.product_flops(2)).saturating_add(others(20 + dropping)),
            input_flops: (sizes.product_flops(5)).saturating_add(others(25 + 2 * dropping)),
            weight_flops: 0,
            stash_bytes: inputs[0].bytes() + TensorSpec::f32(sizes.stats()).bytes(),
            kept_bytes: 0,
            forward_working_bytes: inputs[0].bytes() / 3
                + TensorSpec::f32(sizes.stats()).bytes()
                + scratch(1),
            backward_working_bytes: inputs[0].bytes() + scratch(2),
            thread_bytes: scratch(2),
            ..Cost::default()
        }
    }

    fn build(&self, _: &BuildCtx<'_>) -> Result<CausalAttentionLayer, LayerError> {
        check_probability("causal attention", self.dropout)?;
        Ok(CausalAttentionLayer(*self))
    }
}

/// The layer that [`CausalAttention`] describes.
#[derive(Debug)]
pub struct CausalAttentionLayer(CausalAttention);

impl CausalAttentionLayer {
    fn attention(&self, cx: &Ctx<'_>) -> Attention {
        Attention {
            heads: self.0.heads,
            mask: Mask::new(cx.random(), self.0.dropout).filter(|_| cx.training()),
            first_sample: cx.first_row,
            precision: cx.precision,
            threads: cx.threads,
        }
    }
}

impl Layer for CausalAttentionLayer {
    /// Queries, keys and values, and two numbers per query and head.
    type Stash = (Tensor, Tensor);
    type Kept = ();

    fn forward(
        &mut self,
        qkv: Tensors,
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensors, Self::Stash), LayerError> {
        if cx.mode == Mode::Generate {
            return Err(crate::no_generation("causal attention"));
        }
        let [qkv] = qkv.take()?;
        let sizes = self.0.sizes(qkv.shape())?;
        let (mut y, mut stats) = (cx.f32(sizes.output())?, cx.f32(sizes.stats())?);
        let mut scratch = cx.f32(sizes.scratch(1, cx.threads))?;
        let shape = (sizes.batch, sizes.length, sizes.heads, sizes.columns);
        let out = ArrayViewMut4::from_shape(shape, y.data()).expect("the output's own sizes");
        let (stats_data, qkv_view) = (stats.data(), sizes.split(&qkv, 3)?);
        let work = KernelWork::new("attention", sizes.product_flops(2), qkv.bytes() / 3 * 4);
        cx.timed(work, |cx| {
            self.attention(cx)
                .forward(out, stats_data, qkv_view, scratch.data());
        });
        Ok((y.freeze().into(), (qkv, stats.freeze())))
    }

    fn backward_input(
        &mut self,
        dy: Tensors,
        (qkv, stats): Self::Stash,
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensors, ()), LayerError> {
        let [dy] = dy.take()?;
        if !cx.wants_gradient(0) {
            return Ok(([None].into(), ()));
        }
        let sizes = self.0.sizes(qkv.shape())?;
        let mut dqkv = cx.f32(qkv.shape())?;
        let mut scratch = cx.f32(sizes.scratch(2, cx.threads))?;
        let shape = (sizes.batch, sizes.length, 3, sizes.heads, sizes.columns);
        let out = ArrayViewMut5::from_shape(shape, dqkv.data()).expect("the input's own sizes");
        let saved = (stats.f32()?, sizes.split(&qkv, 3)?);
        let dy = sizes.split(&dy, 1)?;
        let work = KernelWork::new("attention", sizes.product_flops(5), qkv.bytes() / 3 * 7);
        cx.timed(work, |cx| {
            self.attention(cx).backward(out, dy, saved, scratch.data());
        });
        Ok((dqkv.freeze().into(), ()))
    }

    fn backward_weight(&mut self, (): (), _: &mut Ctx<'_>) -> Result<(), LayerError> {
        Ok(())
    }
}
