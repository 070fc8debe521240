//! Causal self-attention.

use crate::compose::{Chain, ChainLayer};
use crate::kernels::attention::{Attention, STATS, scratch_shape};
use crate::kernels::random::{Mask, check_probability};
use crate::linear::{Linear, LinearLayer};
use crate::shapes::{one_input, product_flops};
use brigade_layer::{
    BuildCtx, Cost, Ctx, Init, Layer, LayerError, LayerSpec, Mode, ParamSpec, Shape, Tensor,
    TensorSpec, Tensors,
};
use ndarray::{ArrayView4, ArrayViewMut4, ArrayViewMut5};
use serde::{Deserialize, Serialize};

/// Attention of every position to itself and those before it, in heads:
/// y = softmax(q k^T / sqrt(C), causal) v for each head of C = D / H columns.
///
/// The input holds queries, keys and values side by side. [`CausalSelfAttention`] puts projections around it.
///
/// # Shapes
/// qkv [B, T, 3 D], y [B, T, D]; H `heads`.
///
/// # Source
/// Vaswani et al.: "Attention is all you need", 2017, equation 1. Probabilities are computed again for the backward
/// pass, as in Dao et al.: "FlashAttention", 2022.
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
        let pairs = sizes.length * (sizes.length + 1) / 2;
        let heads = sizes.batch * sizes.heads;
        let product = product_flops(heads, pairs, sizes.columns);
        let each = (heads * pairs) as u64;
        let dropping = if self.dropout > 0.0 { 20 } else { 0 };
        Cost {
            forward_flops: 2 * product + (20 + dropping) * each,
            input_flops: 5 * product + (25 + 2 * dropping) * each,
            weight_flops: 0,
            stash_bytes: inputs[0].bytes() + TensorSpec::f32(sizes.stats()).bytes(),
            kept_bytes: 0,
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
        let mut scratch = cx.f32(scratch_shape(sizes.length, cx.threads, 1))?;
        let shape = (sizes.batch, sizes.length, sizes.heads, sizes.columns);
        let out = ArrayViewMut4::from_shape(shape, y.data()).expect("the output's own sizes");
        let (stats_data, qkv_view) = (stats.data(), sizes.split(&qkv, 3)?);
        self.attention(cx)
            .forward(out, stats_data, qkv_view, scratch.data());
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
        let mut scratch = cx.f32(scratch_shape(sizes.length, cx.threads, 2))?;
        let shape = (sizes.batch, sizes.length, 3, sizes.heads, sizes.columns);
        let out = ArrayViewMut5::from_shape(shape, dqkv.data()).expect("the input's own sizes");
        let saved = (stats.f32()?, sizes.split(&qkv, 3)?);
        self.attention(cx)
            .backward(out, sizes.split(&dy, 1)?, saved, scratch.data());
        Ok((dqkv.freeze().into(), ()))
    }

    fn backward_weight(&mut self, (): (), _: &mut Ctx<'_>) -> Result<(), LayerError> {
        Ok(())
    }
}

/// Causal self-attention with its projections, as GPT-2 has it: `c_attn` makes queries, keys and values of x,
/// [`CausalAttention`] mixes them, `c_proj` projects what comes out.
///
/// # Shapes
/// x [B, T, D], c_attn.weight [3 D, D], c_attn.bias [3 D], c_proj.weight [D, D], c_proj.bias [D], y [B, T, D].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CausalSelfAttention {
    /// Length of the last axis.
    pub width: usize,
    /// How many heads share the width.
    pub heads: usize,
    /// Whether the projections have biases (they start at 0).
    pub bias: bool,
    /// Initial weight of `c_attn`.
    pub init: Init,
    /// Initial weight of `c_proj`.
    pub projection_init: Init,
    /// With which probability an attention probability is dropped while training.
    pub dropout: f32,
}

impl CausalSelfAttention {
    /// With biases, weights that start normal with deviation 0.02, and no dropout.
    pub fn new(width: usize, heads: usize) -> Self {
        let init = Init::Normal(0.02);
        Self {
            width,
            heads,
            bias: true,
            init,
            projection_init: init,
            dropout: 0.0,
        }
    }

    /// Without biases.
    #[must_use]
    pub fn without_bias(mut self) -> Self {
        self.bias = false;
        self
    }

    /// With these initial weights of `c_attn` and `c_proj`.
    #[must_use]
    pub fn init(mut self, c_attn: Init, c_proj: Init) -> Self {
        (self.init, self.projection_init) = (c_attn, c_proj);
        self
    }

    /// With dropout of attention probabilities.
    #[must_use]
    pub fn dropout(mut self, probability: f32) -> Self {
        self.dropout = probability;
        self
    }

    fn chain(&self) -> Chain<Chain<Linear, CausalAttention>, Linear> {
        let linear = |outputs, init| {
            let linear = Linear::new(self.width, outputs).init(init);
            if self.bias {
                linear.bias(Init::Zeros)
            } else {
                linear.without_bias()
            }
        };
        let attention = CausalAttention::new(self.heads).dropout(self.dropout);
        Chain::new("c_attn", linear(3 * self.width, self.init), "", attention)
            .then("c_proj", linear(self.width, self.projection_init))
    }

    fn check(&self) -> Result<(), LayerError> {
        if self.heads > 0 && self.width > 0 && self.width.is_multiple_of(self.heads) {
            return Ok(());
        }
        let problem = format!(
            "a width of {} cannot be shared by {} heads; make the width a multiple of the heads",
            self.width, self.heads
        );
        Err(LayerError::spec("causal self-attention", problem))
    }
}

impl LayerSpec for CausalSelfAttention {
    type Layer = ChainLayer<ChainLayer<LinearLayer, CausalAttentionLayer>, LinearLayer>;

    fn params(&self) -> Vec<ParamSpec> {
        self.chain().params()
    }

    fn outputs(&self, inputs: &[TensorSpec]) -> Result<Vec<TensorSpec>, LayerError> {
        self.check()?;
        let x = one_input("causal self-attention", inputs)?.shape;
        if x.rank() != 3 || x.last() != self.width {
            let expected = format!("[rows, length, {}]", self.width);
            return Err(LayerError::shape("causal self-attention", expected, x));
        }
        self.chain().outputs(inputs)
    }

    fn cost(&self, inputs: &[TensorSpec]) -> Cost {
        self.chain().cost(inputs)
    }

    fn build(&self, cx: &BuildCtx<'_>) -> Result<Self::Layer, LayerError> {
        self.check()?;
        self.chain().build(cx)
    }
}
