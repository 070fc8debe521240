//! The decoder of Llama.

use super::decoder::{
    DEVIATION, MOST_CONTEXT, MOST_WIDTH, TOKENS, check_shared, check_sizes, residual_init,
};
use crate::{
    Accuracy, Chain, CrossEntropy, Dropout, Embedding, GatedFeedForward, GroupedQueryAttention,
    Linear, Residual, RmsNorm, Rotary, RotaryScaling,
};
use brigade_layer::{Init, LayerError, LayerSpec, Network, TensorSpec};
use serde::{Deserialize, Serialize};

/// A decoder-only transformer, as Llama: rotary positions, root-mean-square normalisation before
/// each half of a block, heads that share keys and values in groups, gated SiLU.
///
/// ```text
/// ids ─ embed_tokens ─ layers.0.self_attn ─ layers.0.mlp ─ .. ─ norm ─ lm_head ─ loss
///                          │                   └ x + mlp(post_attention_layernorm(x))
///                          └ x + self_attn(input_layernorm(x))
/// ```
///
/// Parameters have Llama's keys without its `model.` (`layers.0.self_attn.q_proj.weight`); weights
/// are [outputs, inputs].
///
/// # Shapes
/// One row of ids and of targets is i32 \[T\], T `context`; the output is [B, T, V], V `vocab`.
///
/// # Source
/// Touvron et al.: "LLaMA: open and efficient foundation language models", 2023; grouped heads:
/// Ainslie et al.: "GQA", 2023.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Llama {
    /// How many tokens there are: 256 by default (bytes).
    pub vocab: usize,
    /// The longest sequence: 64 by default.
    pub context: usize,
    /// The longest sequence that it is for, wherever longer ones than `context` matter: the context
    /// by default (`None`).
    pub positions: Option<usize>,
    /// Width of the stream between blocks: 64 by default.
    pub width: usize,
    /// Width within a block's second half: 176 by default.
    pub inner: usize,
    /// Heads of queries: 4 by default.
    pub heads: usize,
    /// Heads of keys and values, each for a group of queries' heads: 4 by default.
    pub kv_heads: usize,
    /// Columns of a head: 16 by default.
    pub head_width: usize,
    /// Blocks, of two layers each: 2 by default.
    pub blocks: usize,
    /// Whether the head's weight is the token table: not by default.
    pub tied: bool,
    /// Whether the projections of attention have biases: not by default.
    pub attention_biases: bool,
    /// Whether the linear layers of a block's second half have biases: not by default.
    pub mlp_biases: bool,
    /// Added to mean squares by norms: 1e-5 by default.
    pub eps: f32,
    /// Positions.
    pub rotary: Rotary,
    /// With which probability attention and the outputs of halves are dropped while training: 0 by
    /// default.
    pub dropout: f32,
}

impl Default for Llama {
    fn default() -> Self {
        Self {
            vocab: 256,
            context: 64,
            positions: None,
            width: 64,
            inner: 176,
            heads: 4,
            kv_heads: 4,
            head_width: 16,
            blocks: 2,
            tied: false,
            attention_biases: false,
            mlp_biases: false,
            eps: 1e-5,
            rotary: Rotary::default(),
            dropout: 0.0,
        }
    }
}

impl Llama {
    /// One whose heads share the width. Its MLPs have about as many parameters as a GPT's: three
    /// matrices, 8 thirds as wide, in whole strips of 16.
    ///
    /// # Errors
    /// When the heads cannot share the width: says which width they could share.
    pub fn of_width(width: usize, heads: usize) -> Result<Self, LayerError> {
        check_shared("llama", width, heads)?;
        Ok(Self {
            width,
            inner: (width.saturating_mul(8) / 3).next_multiple_of(16),
            heads,
            kv_heads: heads,
            head_width: width / heads,
            ..Self::default()
        })
    }

    /// How many parameters it has; a tied table counts once.
    pub fn parameters(&self) -> u64 {
        let sizes = [self.vocab, self.width, self.inner, self.head_width];
        let [vocab, width, inner, columns] = sizes.map(|n| n as u64);
        let [queries, keys] = [self.heads, self.kv_heads].map(|heads| heads as u64 * columns);
        let attention = 2 * width * (queries + keys);
        let attention_biases = match self.attention_biases {
            true => queries + 2 * keys + width,
            false => 0,
        };
        let mlp_biases = if self.mlp_biases {
            2 * inner + width
        } else {
            0
        };
        let block = attention + attention_biases + 3 * width * inner + mlp_biases + 2 * width;
        let tables = vocab * width * if self.tied { 1 } else { 2 };
        tables + self.blocks as u64 * block + width
    }

    /// The network, ending in cross-entropy, with accuracy beside it.
    ///
    /// # Errors
    /// When a size is 0 or taken for a mistake, the heads cannot be grouped, or the dropout is no
    /// probability.
    pub fn network(&self) -> Result<Network, LayerError> {
        self.check()?;
        let row = TensorSpec::i32([self.context]);
        let mut builder = Network::builder().input(row).target(row);
        builder = builder.layer("embed_tokens", self.embed());
        for block in 0..self.blocks {
            let scope = format!("layers.{block}");
            builder = builder
                .layer(&format!("{scope}.self_attn"), self.attention_half())
                .scope(&scope)
                .layer(&format!("{scope}.mlp"), self.mlp_half())
                .scope(&scope);
        }
        builder
            .layer("norm", self.norm())
            .layer("lm_head", self.head())
            .loss("loss", CrossEntropy::new())
            .metric(Accuracy::new())
            .build()
    }

    fn check(&self) -> Result<(), LayerError> {
        let sizes = [
            ("vocab", self.vocab, i32::MAX as usize),
            ("context", self.context, MOST_CONTEXT),
            ("width", self.width, MOST_WIDTH),
            ("inner", self.inner, 4 * MOST_WIDTH),
            ("heads", self.heads, MOST_WIDTH),
            ("kv_heads", self.kv_heads, MOST_WIDTH),
            ("head_width", self.head_width, MOST_WIDTH),
        ];
        check_sizes("llama", sizes, self.blocks)?;
        let most = self.positions.unwrap_or(self.context);
        if let (RotaryScaling::Dynamic { .. }, true) = (self.rotary.scaling, self.context > most) {
            let context = self.context;
            let problem = format!(
                "a context of {context} where dynamic scaling begins after {most} positions; make \
                 it {most} or less"
            );
            return Err(LayerError::spec("llama", problem));
        }
        Ok(())
    }

    fn embed(&self) -> Embedding {
        let tokens = Embedding::new(self.vocab, self.width).init(Init::Normal(DEVIATION));
        match self.tied {
            true => tokens.shared(TOKENS),
            false => tokens,
        }
    }

    fn attention_half(&self) -> impl LayerSpec {
        let attention = GroupedQueryAttention {
            head_width: self.head_width,
            rotary: self.rotary,
            bias: self.attention_biases,
            dropout: self.dropout,
            ..GroupedQueryAttention::new(self.width, self.heads, self.kv_heads)
        };
        let attention = attention.init(Init::Normal(DEVIATION), residual_init(2 * self.blocks));
        let half = Chain::new("input_layernorm", self.norm(), "self_attn", attention);
        Residual::new(half.then("", Dropout::new(self.dropout)))
    }

    fn mlp_half(&self) -> impl LayerSpec {
        let linear = |inputs, outputs, init| {
            let linear = Linear::new(inputs, outputs).init(init);
            match self.mlp_biases {
                true => linear.bias(Init::Zeros),
                false => linear.without_bias(),
            }
        };
        let into = || linear(self.width, self.inner, Init::Normal(DEVIATION));
        let out = linear(self.inner, self.width, residual_init(2 * self.blocks));
        let mlp = GatedFeedForward::new([into(), into(), out]);
        let half = Chain::new("post_attention_layernorm", self.norm(), "mlp", mlp);
        Residual::new(half.then("", Dropout::new(self.dropout)))
    }

    fn norm(&self) -> RmsNorm {
        RmsNorm::new(self.width).eps(self.eps)
    }

    fn head(&self) -> Linear {
        let head = Linear::new(self.width, self.vocab);
        let head = head.init(Init::Normal(DEVIATION)).without_bias();
        match self.tied {
            true => head.shared(TOKENS),
            false => head,
        }
    }
}
