//! Decoder-only transformers, whichever family.

use super::{Gpt, Llama};
use brigade_layer::{LayerError, Network};
use serde::{Deserialize, Serialize};

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
