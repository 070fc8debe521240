//! Decoder-only transformers, whichever family.

use super::{Gpt, Llama};
use crate::RotaryScaling;
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

    /// The same network for sequences of this length: of a GPT at most as many as there are
    /// positions in its table, which stays; of a Llama any, unless longer ones turn otherwise.
    ///
    /// # Errors
    /// When it would be longer than that.
    ///
    /// # Example
    /// ```
    /// use brigade_nn::{Decoder, Gpt};
    /// let decoder = Decoder::from(Gpt { context: 1024, ..Gpt::default() });
    /// let short = decoder.with_context(128)?;
    /// assert_eq!((short.context(), short.parameters()), (128, decoder.parameters()));
    /// assert!(short.with_context(1025).is_err());
    /// # Ok::<(), brigade_layer::LayerError>(())
    /// ```
    pub fn with_context(&self, context: usize) -> Result<Self, LayerError> {
        let (mut decoder, most) = (self.clone(), self.positions());
        let (name, bounded, own, positions) = match &mut decoder {
            Self::Gpt(gpt) => ("gpt", true, &mut gpt.context, &mut gpt.positions),
            Self::Llama(llama) => {
                let dynamic = matches!(llama.rotary.scaling, RotaryScaling::Dynamic { .. });
                ("llama", dynamic, &mut llama.context, &mut llama.positions)
            }
        };
        if context > most && bounded {
            let problem =
                format!("a context of {context} with positions for {most}; make it {most} or less");
            return Err(LayerError::spec(name, problem));
        }
        *positions = (most > context).then_some(most);
        *own = context;
        Ok(decoder)
    }

    /// The longest sequence that it could be for.
    pub fn positions(&self) -> usize {
        match self {
            Self::Gpt(gpt) => gpt.positions.unwrap_or(gpt.context),
            Self::Llama(llama) => llama.positions.unwrap_or(llama.context),
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
