//! Causal self-attention with its projections.

use super::causal::{CausalAttention, CausalAttentionLayer};
use super::sizes::check_heads;
use crate::compose::{Chain, ChainLayer};
use crate::linear::{Linear, LinearLayer};
use crate::shapes::one_input;
use brigade_layer::{BuildCtx, Cost, Init, LayerError, LayerSpec, ParamSpec, TensorSpec};
use serde::{Deserialize, Serialize};

/// Causal self-attention with its projections, as GPT-2 has it: `c_attn` makes queries, keys and
/// values of x, [`CausalAttention`] mixes them, `c_proj` projects what comes out.
///
/// # Shapes
/// x [B, T, D], c_attn.weight [3 D, D], c_attn.bias [3 D], c_proj.weight [D, D], c_proj.bias \[D\],
/// y [B, T, D].
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
        check_heads("causal self-attention", self.width, self.heads)
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
