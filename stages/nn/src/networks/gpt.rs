//! The decoder of GPT-2.

use super::decoder::{
    DEVIATION, MOST_CONTEXT, MOST_WIDTH, TOKENS, check_shared, check_sizes, residual_init,
};
use crate::{
    Accuracy, Activation, CausalSelfAttention, Chain, CrossEntropy, Dropout, Embedding,
    FeedForward, LayerNorm, Linear, PositionEmbedding, Residual,
};
use brigade_layer::{Init, LayerError, LayerSpec, Network, TensorSpec};
use serde::{Deserialize, Serialize};

/// A decoder-only transformer, as GPT-2: learned positions, normalisation before each half of a
/// block, GELU by tanh.
///
/// ```text
/// ids ─ embed ─ h.0.attn ─ h.0.mlp ─ .. ─ h.N.attn ─ h.N.mlp ─ ln_f ─ lm_head ─ loss
///     wte + wpe     │          └ x + mlp(ln_2(x))
///                   └ x + attn(ln_1(x))
/// ```
///
/// Parameters have GPT-2's keys (`h.0.attn.c_attn.weight`); weights are [outputs, inputs].
///
/// # Shapes
/// One row of ids and of targets is i32 \[T\], T `context`; the output is [B, T, V], V `vocab`.
///
/// # Example
/// ```
/// use brigade_nn::Gpt;
/// let large = Gpt { vocab: 50_257, context: 1024, width: 768, ..Gpt::default() };
/// let gpt = Gpt { heads: 12, blocks: 12, ..large };
/// assert_eq!(gpt.parameters(), 124_439_808);
/// assert_eq!(gpt.network()?.layers().len(), 28);
/// # Ok::<(), brigade_layer::LayerError>(())
/// ```
///
/// # Source
/// Radford et al.: "Language models are unsupervised multitask learners", 2019.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gpt {
    /// How many tokens there are: 256 by default (bytes).
    pub vocab: usize,
    /// The longest sequence: 64 by default.
    pub context: usize,
    /// Rows of the table of positions, of which sequences use the first ones: the context by
    /// default (`None`).
    pub positions: Option<usize>,
    /// Width of the stream between blocks: 64 by default.
    pub width: usize,
    /// Heads of attention, which share the width: 4 by default.
    pub heads: usize,
    /// Width within a block's second half: 4 times the width by default (`None`).
    pub inner: Option<usize>,
    /// Between the linear layers of a block's second half: GELU by tanh by default.
    pub activation: Activation,
    /// Added to variances by norms: 1e-5 by default.
    pub eps: f32,
    /// Blocks, of two layers each: 2 by default.
    pub blocks: usize,
    /// Whether the head's weight is the token table: by default.
    pub tied: bool,
    /// Whether linear layers and norms have biases (the head never has): by default.
    pub biases: bool,
    /// With which probability embeddings, attention and the outputs of halves are dropped while
    /// training: 0 by default.
    pub dropout: f32,
}

impl Default for Gpt {
    fn default() -> Self {
        Self {
            vocab: 256,
            context: 64,
            positions: None,
            width: 64,
            heads: 4,
            inner: None,
            activation: Activation::GeluTanh,
            eps: 1e-5,
            blocks: 2,
            tied: true,
            biases: true,
            dropout: 0.0,
        }
    }
}

impl Gpt {
    /// How many parameters it has; a tied table counts once.
    pub fn parameters(&self) -> u64 {
        let sizes = [self.vocab, self.positions(), self.width];
        let [vocab, positions, width] = sizes.map(|n| n as u64);
        let norm = if self.biases { 2 * width } else { width };
        let inner = self.inner() as u64;
        let biases = if self.biases { 5 * width + inner } else { 0 };
        let tables = vocab * width * if self.tied { 1 } else { 2 } + positions * width;
        let matrices = 4 * width * width + 2 * width * inner;
        tables + self.blocks as u64 * (matrices + biases + 2 * norm) + norm
    }

    /// The network, ending in cross-entropy, with accuracy beside it.
    ///
    /// # Errors
    /// When a size is 0 or taken for a mistake, the heads cannot share the width, or the dropout is
    /// no probability.
    pub fn network(&self) -> Result<Network, LayerError> {
        self.check()?;
        let row = TensorSpec::i32([self.context]);
        let mut builder = Network::builder().input(row).target(row);
        builder = builder.layer("embed", self.embed()).scope("");
        for block in 0..self.blocks {
            let scope = format!("h.{block}");
            builder = builder
                .layer(&format!("{scope}.attn"), self.attention_half())
                .scope(&scope)
                .layer(&format!("{scope}.mlp"), self.mlp_half())
                .scope(&scope);
        }
        builder
            .layer("ln_f", self.norm())
            .layer("lm_head", self.head())
            .loss("loss", CrossEntropy::new())
            .metric(Accuracy::new())
            .build()
    }

    fn check(&self) -> Result<(), LayerError> {
        let sizes = [
            ("vocab", self.vocab, i32::MAX as usize),
            ("context", self.context, MOST_CONTEXT),
            ("positions", self.positions(), MOST_CONTEXT),
            ("width", self.width, MOST_WIDTH),
            ("heads", self.heads, MOST_WIDTH),
            ("inner", self.inner(), 4 * MOST_WIDTH),
        ];
        check_sizes("gpt", sizes, self.blocks)?;
        if self.context > self.positions() {
            let (context, positions) = (self.context, self.positions());
            let problem = format!(
                "sequences of {context} tokens with a table of {positions} positions; make the \
                 context {positions} or less"
            );
            return Err(LayerError::spec("gpt", problem));
        }
        check_shared("gpt", self.width, self.heads)
    }

    /// Rows of the table of positions.
    fn positions(&self) -> usize {
        self.positions.unwrap_or(self.context)
    }

    /// Width within a block's second half.
    fn inner(&self) -> usize {
        self.inner.unwrap_or(self.width.saturating_mul(4))
    }

    fn embed(&self) -> impl LayerSpec {
        let mut tokens = Embedding::new(self.vocab, self.width).init(Init::Normal(DEVIATION));
        if self.tied {
            tokens = tokens.shared(TOKENS);
        }
        let positions =
            PositionEmbedding::new(self.positions(), self.width).init(Init::Normal(DEVIATION));
        Chain::new("wte", tokens, "wpe", positions).then("", Dropout::new(self.dropout))
    }

    fn attention_half(&self) -> impl LayerSpec {
        let attention = CausalSelfAttention {
            bias: self.biases,
            dropout: self.dropout,
            ..CausalSelfAttention::new(self.width, self.heads)
        };
        let attention = attention.init(Init::Normal(DEVIATION), residual_init(2 * self.blocks));
        let half = Chain::new("ln_1", self.norm(), "attn", attention);
        Residual::new(half.then("", Dropout::new(self.dropout)))
    }

    fn mlp_half(&self) -> impl LayerSpec {
        let mlp = FeedForward::new(
            self.linear(self.width, self.inner(), Init::Normal(DEVIATION)),
            self.activation,
            self.linear(self.inner(), self.width, residual_init(2 * self.blocks)),
        );
        let half = Chain::new("ln_2", self.norm(), "mlp", mlp);
        Residual::new(half.then("", Dropout::new(self.dropout)))
    }

    fn head(&self) -> Linear {
        let head = self
            .linear(self.width, self.vocab, Init::Normal(DEVIATION))
            .without_bias();
        if self.tied { head.shared(TOKENS) } else { head }
    }

    fn linear(&self, inputs: usize, outputs: usize, init: Init) -> Linear {
        let linear = Linear::new(inputs, outputs).init(init);
        if self.biases {
            linear.bias(Init::Zeros)
        } else {
            linear.without_bias()
        }
    }

    fn norm(&self) -> LayerNorm {
        let norm = LayerNorm::new(self.width).eps(self.eps);
        if self.biases {
            norm
        } else {
            norm.without_bias()
        }
    }
}
