//! The decoder of Llama.

use crate::Rotary;
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
    pub fn network(&self) -> Result<brigade_layer::Network, brigade_layer::LayerError> {
        Err(brigade_layer::LayerError::spec("llama", "skeleton"))
    }
}
