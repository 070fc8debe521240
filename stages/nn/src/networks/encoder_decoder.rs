//! The encoder-decoder transformer.

use super::decoder::{
    DEVIATION, MOST_CONTEXT, MOST_WIDTH, TOKENS, check_shared, check_sizes, residual_init,
};
use crate::{
    Accuracy, Activation, CausalSelfAttention, Chain, CrossEntropy, Dropout, Embedding,
    FeedForward, LayerNorm, Linear, MultiHeadAttention, PositionEmbedding, Residual,
};
use brigade_layer::{From, Init, LayerError, LayerSpec, Network, NetworkBuilder, TensorSpec};
use serde::{Deserialize, Serialize};

const NAME: &str = "encoder-decoder";
/// The layer that every block of the decoder reads.
const MEMORY: &str = "encoder.ln_f";

/// An encoder-decoder transformer: the encoder reads a source, and every block of the decoder reads
/// what comes out of it. Learned positions, normalisation before each part of a block.
///
/// ```text
/// source ─ encoder.embed ─ h.0.attn ─ h.0.mlp ─ .. ─ ln_f
///                                                     ├─────────────────────────┐  memory
/// input ── decoder.embed ─ h.0.attn ─────────── h.0.cross_attn ─ h.0.mlp ─ h.1.attn ..
///        wte + wpe            │                       │             └ x + mlp(ln_2(x))
///                             └ x + attn(ln_1(x))     └ x + crossattention(ln(x), memory)
///
/// .. ─ decoder.ln_f ─ lm_head ─ loss
/// ```
///
/// Parameters have GPT-2's keys within `encoder` and `decoder`
/// (`decoder.h.0.crossattention.c_attn.weight`); weights are [outputs, inputs].
///
/// # Shapes
/// One row of source ids (input 0) is i32 \[S\], S `source_context`; one row of the decoder's ids
/// (input 1) and of targets is i32 \[T\], T `context`. The output is [N, T, V], V `vocab`.
///
/// The decoder's ids are the targets one position later, behind a token to start with. Sources that
/// are shorter end in `padding`; targets that are shorter in -100, which does not count, whatever
/// the decoder's ids are there.
///
/// # Example
/// ```
/// use brigade_nn::EncoderDecoder;
/// let base = EncoderDecoder { vocab: 37_000, width: 512, heads: 8, ..Default::default() };
/// let base = EncoderDecoder { encoder_blocks: 6, decoder_blocks: 6, ..base };
/// assert_eq!(base.parameters(), 63_150_080);
/// assert_eq!(base.network()?.layers().len(), 36);
/// # Ok::<(), brigade_layer::LayerError>(())
/// ```
///
/// # Source
/// Vaswani et al.: "Attention is all you need", 2017; normalisation before as in Xiong et al.: "On
/// layer normalization in the transformer architecture", 2020; learned positions as in Lewis et
/// al.: "BART", 2019.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EncoderDecoder {
    /// How many tokens the decoder has: 256 by default (bytes).
    pub vocab: usize,
    /// How many tokens a source has, where it has a vocabulary of its own: that of the decoder by
    /// default (`None`).
    pub source_vocab: Option<usize>,
    /// The longest source: 64 by default.
    pub source_context: usize,
    /// The longest sequence of the decoder: 64 by default.
    pub context: usize,
    /// The id at the end of sources that are shorter, where nobody looks: none by default.
    pub padding: Option<i32>,
    /// Width of the streams between blocks: 64 by default.
    pub width: usize,
    /// Heads of attention, which share the width: 4 by default.
    pub heads: usize,
    /// Width within a block's last part: 4 times the width by default (`None`).
    pub inner: Option<usize>,
    /// Between the linear layers of a block's last part: ReLU by default.
    pub activation: Activation,
    /// Added to variances by norms: 1e-5 by default.
    pub eps: f32,
    /// Blocks of the encoder, of two layers each: 2 by default.
    pub encoder_blocks: usize,
    /// Blocks of the decoder, of three layers each: 2 by default.
    pub decoder_blocks: usize,
    /// Whether the head's weight is the decoder's token table, which is the encoder's, too, unless
    /// sources have a vocabulary of their own: by default.
    pub tied: bool,
    /// Whether linear layers and norms have biases (the head never has): by default.
    pub biases: bool,
    /// With which probability embeddings, attention and the outputs of a block's parts are dropped
    /// while training: 0 by default.
    pub dropout: f32,
}

impl Default for EncoderDecoder {
    fn default() -> Self {
        Self {
            vocab: 256,
            source_vocab: None,
            source_context: 64,
            context: 64,
            padding: None,
            width: 64,
            heads: 4,
            inner: None,
            activation: Activation::Relu,
            eps: 1e-5,
            encoder_blocks: 2,
            decoder_blocks: 2,
            tied: true,
            biases: true,
            dropout: 0.0,
        }
    }
}

impl EncoderDecoder {
    /// How many parameters it has; a tied table counts once.
    pub fn parameters(&self) -> u64 {
        let sizes = [self.vocab, self.source_vocab(), self.width, self.inner()];
        let [vocab, source_vocab, width, inner] = sizes.map(|n| n as u64);
        let bias = |n: u64| if self.biases { n } else { 0 };
        let norm = width + bias(width);
        let attention = 4 * width * width + bias(4 * width) + norm;
        let mlp = 2 * width * inner + bias(inner + width) + norm;
        let tables = match (self.tied, self.source_vocab) {
            (true, None) => vocab,
            (true, Some(_)) => vocab + source_vocab,
            (false, _) => 2 * vocab + source_vocab,
        };
        let positions = (self.source_context + self.context) as u64;
        (tables + positions) * width
            + self.encoder_blocks as u64 * (attention + mlp)
            + self.decoder_blocks as u64 * (2 * attention + mlp)
            + 2 * norm
    }

    /// The network, ending in cross-entropy, with accuracy beside it. Every part of a block is a
    /// layer, so that it can be cut anywhere.
    ///
    /// # Errors
    /// When a size is 0 or taken for a mistake, the heads cannot share the width, the padding is no
    /// token of a source, or the dropout is no probability.
    pub fn network(&self) -> Result<Network, LayerError> {
        self.check()?;
        let builder = Network::builder()
            .input(TensorSpec::i32([self.source_context]))
            .input(TensorSpec::i32([self.context]))
            .target(TensorSpec::i32([self.context]));
        self.decoder(self.encoder(builder))
            .layer("lm_head", self.head())
            .loss("loss", CrossEntropy::new())
            .metric(Accuracy::new())
            .build()
    }

    fn encoder(&self, builder: NetworkBuilder) -> NetworkBuilder {
        let positions = self.source_context;
        let embed = self.embed(self.source_vocab(), self.source_vocab.is_none(), positions);
        let mut builder = builder.layer("encoder.embed", embed).scope("encoder");
        let init = residual_init(2 * self.encoder_blocks);
        for block in 0..self.encoder_blocks {
            let scope = format!("encoder.h.{block}");
            let attention = self.attention(None, init);
            let half = Chain::new("ln_1", self.norm(), "attn", attention).others_pass_first();
            let half = Residual::new(half.then("", Dropout::new(self.dropout)));
            builder = builder
                .layer_from(
                    &format!("{scope}.attn"),
                    half,
                    &self.with_ids([From::Previous]),
                )
                .scope(&scope)
                .layer(&format!("{scope}.mlp"), self.mlp(init))
                .scope(&scope);
        }
        builder.layer(MEMORY, self.norm())
    }

    fn decoder(&self, builder: NetworkBuilder) -> NetworkBuilder {
        let embed = self.embed(self.vocab, true, self.context);
        let mut builder = builder
            .layer_from("decoder.embed", embed, &[From::Input(1)])
            .scope("decoder");
        let init = residual_init(3 * self.decoder_blocks);
        for block in 0..self.decoder_blocks {
            let scope = format!("decoder.h.{block}");
            let attention = CausalSelfAttention {
                bias: self.biases,
                dropout: self.dropout,
                ..CausalSelfAttention::new(self.width, self.heads)
            };
            let attention = attention.init(Init::Normal(DEVIATION), init);
            let first = Chain::new("ln_1", self.norm(), "attn", attention);
            let first = Residual::new(first.then("", Dropout::new(self.dropout)));
            let cross = self.attention(Some(self.width), init);
            let second = Chain::new("ln_cross_attn", self.norm(), "crossattention", cross);
            let second = second
                .others_pass_first()
                .then("", Dropout::new(self.dropout));
            let inputs = self.with_ids([From::Previous, From::Layer(MEMORY)]);
            builder = builder
                .layer(&format!("{scope}.attn"), first)
                .scope(&scope)
                .layer_from(
                    &format!("{scope}.cross_attn"),
                    Residual::new(second),
                    &inputs,
                )
                .scope(&scope)
                .layer(&format!("{scope}.mlp"), self.mlp(init))
                .scope(&scope);
        }
        builder.layer("decoder.ln_f", self.norm())
    }

    fn check(&self) -> Result<(), LayerError> {
        let sizes = [
            ("vocab", self.vocab, i32::MAX as usize),
            ("source_vocab", self.source_vocab(), i32::MAX as usize),
            ("source_context", self.source_context, MOST_CONTEXT),
            ("context", self.context, MOST_CONTEXT),
            ("width", self.width, MOST_WIDTH),
            ("heads", self.heads, MOST_WIDTH),
            ("inner", self.inner(), 4 * MOST_WIDTH),
            ("decoder_blocks", self.decoder_blocks, usize::MAX),
        ];
        let blocks = self.encoder_blocks.saturating_add(self.decoder_blocks);
        check_sizes(NAME, sizes, blocks)?;
        let is_token = |id| usize::try_from(id).is_ok_and(|id| id < self.source_vocab());
        if let Some(id) = self.padding.filter(|id| !is_token(*id)) {
            let most = self.source_vocab() - 1;
            let problem = format!("padding is {id}; it must be a token of a source, 0 to {most}");
            return Err(LayerError::spec(NAME, problem));
        }
        check_shared(NAME, self.width, self.heads)
    }

    fn source_vocab(&self) -> usize {
        self.source_vocab.unwrap_or(self.vocab)
    }

    /// Width within a block's last part.
    fn inner(&self) -> usize {
        self.inner.unwrap_or(self.width.saturating_mul(4))
    }

    /// A layer's inputs, and the source's ids where they say what is padded.
    fn with_ids<'a, const N: usize>(&self, inputs: [From<'a>; N]) -> Vec<From<'a>> {
        let ids = self.padding.map(|_| From::Input(0));
        inputs.into_iter().chain(ids).collect()
    }

    fn embed(&self, vocab: usize, shares: bool, positions: usize) -> impl LayerSpec + use<> {
        let mut tokens = Embedding::new(vocab, self.width).init(Init::Normal(DEVIATION));
        if self.tied && shares {
            tokens = tokens.shared(TOKENS);
        }
        let positions = PositionEmbedding::new(positions, self.width).init(Init::Normal(DEVIATION));
        Chain::new("wte", tokens, "wpe", positions).then("", Dropout::new(self.dropout))
    }

    /// To all of the source: within the encoder, or from the decoder.
    fn attention(&self, memory: Option<usize>, init: Init) -> MultiHeadAttention {
        let attention = MultiHeadAttention {
            memory,
            padding: self.padding,
            bias: self.biases,
            dropout: self.dropout,
            ..MultiHeadAttention::new(self.width, self.heads)
        };
        attention.init(Init::Normal(DEVIATION), init)
    }

    fn mlp(&self, init: Init) -> impl LayerSpec + use<> {
        let mlp = FeedForward::new(
            self.linear(self.width, self.inner(), Init::Normal(DEVIATION)),
            self.activation,
            self.linear(self.inner(), self.width, init),
        );
        let half = Chain::new("ln_2", self.norm(), "mlp", mlp);
        Residual::new(half.then("", Dropout::new(self.dropout)))
    }

    fn head(&self) -> Linear {
        let head = Linear::new(self.width, self.vocab).init(Init::Normal(DEVIATION));
        let head = head.without_bias();
        if self.tied { head.shared(TOKENS) } else { head }
    }

    fn linear(&self, inputs: usize, outputs: usize, init: Init) -> Linear {
        let linear = Linear::new(inputs, outputs).init(init);
        match self.biases {
            true => linear.bias(Init::Zeros),
            false => linear.without_bias(),
        }
    }

    fn norm(&self) -> LayerNorm {
        let norm = LayerNorm::new(self.width).eps(self.eps);
        match self.biases {
            true => norm,
            false => norm.without_bias(),
        }
    }
}
