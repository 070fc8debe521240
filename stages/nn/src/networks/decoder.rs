//! Decoder-only transformers, whichever family.

use super::{Gpt, Llama};
use crate::RotaryScaling;
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

/// Whether so many heads can share the width.
pub(super) fn check_shared(family: &str, width: usize, heads: usize) -> Result<(), LayerError> {
    if heads == 0 {
        return Err(LayerError::spec(
            family,
            "heads is 0; it must be at least 1",
        ));
    }
    if width.is_multiple_of(heads) {
        return Ok(());
    }
    let below = width / heads * heads;
    let above = below.saturating_add(heads);
    let wider = match below {
        0 => format!("{above}"),
        _ => format!("{below} or {above}"),
    };
    let problem = format!("a width of {width} cannot be shared by {heads} heads; make it {wider}");
    Err(LayerError::spec(family, problem))
}

/// Projections into the stream start smaller the more of them there are: their sum keeps its size.
pub(super) fn residual_init(projections: usize) -> Init {
    Init::Normal(DEVIATION / libm::sqrtf(projections.max(1) as f32))
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
