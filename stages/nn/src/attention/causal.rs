//! Causal attention of queries, keys and values.

use super::cache;
use super::mixing::Mixing;
use super::sizes::Sizes;
use crate::kernels::attention::{Sequences, Sight};
use crate::kernels::random::check_probability;
use crate::shapes::one_input;
use brigade_layer::{
    BuildCtx, Cost, Ctx, Layer, LayerError, LayerSpec, Mode, Shape, Tensor, TensorSpec, Tensors,
};
use ndarray::{ArrayView4, Axis};
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
                    keys: length,
                    causal: true,
                    heads: [heads, heads],
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

impl LayerSpec for CausalAttention {
    type Layer = CausalAttentionLayer;

    fn outputs(&self, inputs: &[TensorSpec]) -> Result<Vec<TensorSpec>, LayerError> {
        check_probability("causal attention", self.dropout)?;
        let sizes = self.sizes(one_input("causal attention", inputs)?.shape)?;
        Ok(vec![TensorSpec::f32(sizes.rows()[0])])
    }

    fn cost(&self, inputs: &[TensorSpec]) -> Cost {
        let Ok(sizes) = self.sizes(inputs[0].shape) else {
            return Cost::default();
        };
        let [forward_flops, input_flops] = sizes.flops(self.dropout > 0.0);
        let stats = TensorSpec::f32(sizes.stats()).bytes();
        Cost {
            forward_flops,
            input_flops,
            stash_bytes: inputs[0].bytes() + stats,
            stashed_inputs: 1,
            forward_working_bytes: inputs[0].bytes() / 3 + stats + sizes.scratch_bytes(1),
            backward_working_bytes: inputs[0].bytes() + sizes.scratch_bytes(2),
            thread_bytes: sizes.scratch_bytes(2),
            sequence_bytes: cache::bytes(sizes),
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
    fn mixing(&self) -> Mixing<'static> {
        let CausalAttention { heads, dropout } = self.0;
        Mixing {
            heads,
            dropout,
            sight: Sight::Causal,
        }
    }
}

/// Queries, keys and values of [B, T, 3 H, C].
fn split(qkv: ArrayView4<'_, f32>, sizes: Sizes) -> Sequences<'_> {
    let (q, rest) = qkv.split_at(Axis(2), sizes.heads[0]);
    let (k, v) = rest.split_at(Axis(2), sizes.heads[1]);
    [q, k, v]
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
        let [qkv] = qkv.take()?;
        let sizes = self.0.sizes(qkv.shape())?;
        let (mixing, sequences) = (self.mixing(), split(sizes.view(&qkv)?, sizes));
        let [y, stats] = match cx.mode {
            Mode::Generate => mixing.go_on(sequences, sizes, cx)?,
            _ => mixing.forward(sequences, sizes, cx)?,
        };
        Ok((y.into(), (qkv, stats)))
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
        let (dq, rest) = sizes.view_mut(&mut dqkv).split_at(Axis(2), sizes.heads[0]);
        let (dk, dv) = rest.split_at(Axis(2), sizes.heads[1]);
        let saved = (&stats, split(sizes.view(&qkv)?, sizes));
        (self.mixing()).backward([dq, dk, dv], &dy, saved, sizes, cx)?;
        Ok((dqkv.freeze().into(), ()))
    }

    fn backward_weight(&mut self, (): (), _: &mut Ctx<'_>) -> Result<(), LayerError> {
        Ok(())
    }
}
