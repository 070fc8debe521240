//! Decoder-only transformers, whichever family.

use super::{Gpt, Llama};
use brigade_layer::{Init, LayerError, Network, SharedId};
use serde::{Deserialize, Serialize};

/// The token table, held by the embedding and a tied head.
pub(super) const TOKENS: SharedId = SharedId::new(0);
/// Of initial weights.
pub(super) const DEVIATION: f32 = 0.02;
/// Beyond these a size is taken for a mistake.
const MOST_BLOCKS: usize = 100_000;
pub(super) const MOST_CONTEXT: usize = 1 << 24;
pub(super) const MOST_WIDTH: usize = 1 << 20;

/// Whether sizes, each with the most it may be, and blocks are what somebody may have meant.
pub(super) fn check_sizes<const N: usize>(
    family: &str,
    sizes: [(&str, usize, usize); N],
    blocks: usize,
) -> Result<(), LayerError> {
    let wrong = |(_, size, most): &(&str, usize, usize)| !(1..=*most).contains(size);
    if let Some((name, size, most)) = sizes.into_iter().find(wrong) {
        let problem = format!("{name} is {size}; it must be between 1 and {most}");
        return Err(LayerError::spec(family, problem));
    }
    if blocks > MOST_BLOCKS {
        let problem = format!("{blocks} blocks; the most is {MOST_BLOCKS}");
        return Err(LayerError::spec(family, problem));
    }
    Ok(())
}

/// Projections into the stream start smaller the more of them there are: their sum keeps its size.
pub(super) fn residual_init(blocks: usize) -> Init {
    Init::Normal(DEVIATION / libm::sqrtf(2.0 * blocks.max(1) as f32))
}

/// A decoder-only transformer of one of the families: what predicts the next token.
///
/// # Example
/// ```
/// use brigade_nn::{Decoder, Gpt};
/// let decoder: Decoder = Gpt::default().into();
/// assert_eq!(decoder.context(), 64);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "family", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Decoder {
    /// GPT-2's.
    Gpt(Gpt),
    /// Llama's.
    Llama(Llama),
}

impl Decoder {
    /// The network, ending in cross-entropy, with accuracy beside it.
    ///
    /// # Errors
    /// The family's.
    pub fn network(&self) -> Result<Network, LayerError> {
        match self {
            Self::Gpt(gpt) => gpt.network(),
            Self::Llama(llama) => llama.network(),
        }
    }

    /// How many parameters it has; a tied table counts once.
    pub fn parameters(&self) -> u64 {
        match self {
            Self::Gpt(gpt) => gpt.parameters(),
            Self::Llama(llama) => llama.parameters(),
        }
    }

    /// How many tokens there are.
    pub fn vocab(&self) -> usize {
        match self {
            Self::Gpt(gpt) => gpt.vocab,
            Self::Llama(llama) => llama.vocab,
        }
    }

    /// The longest sequence.
    pub fn context(&self) -> usize {
        match self {
            Self::Gpt(gpt) => gpt.context,
            Self::Llama(llama) => llama.context,
        }
    }

    /// The family's name, as people say it.
    pub fn family(&self) -> &'static str {
        match self {
            Self::Gpt(_) => "GPT",
            Self::Llama(_) => "Llama",
        }
    }
}

impl From<Gpt> for Decoder {
    fn from(gpt: Gpt) -> Self {
        Self::Gpt(gpt)
    }
}

impl From<Llama> for Decoder {
    fn from(llama: Llama) -> Self {
        Self::Llama(llama)
    }
}
