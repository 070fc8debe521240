//! Decoders as Hugging Face's `transformers` describes them: `config.json` in and out, and the
//! names of its tensors.

mod error;
mod gpt2;
mod llama;
mod rope;
mod settings;

use crate::Decoder;
use brigade_layer::{ForeignNames, LayerError};
pub use error::HuggingFaceError;
use serde_json::{Map, Value, json};
use settings::Settings;

/// The families that can be read, by their `model_type`.
const FAMILIES: &str = "gpt2 and llama";

impl Decoder {
    /// The decoder that the text of a `config.json` describes, in the style of older versions of
    /// `transformers` (`rope_theta`, `rope_scaling`, `torch_dtype`) or of newer ones
    /// (`rope_parameters`, `dtype`). What is left out is what it is there.
    ///
    /// Probabilities of dropout are not taken over: they are a matter of training. Settings that
    /// change no number are not looked at.
    ///
    /// # Errors
    /// When it is no JSON, or asks for what would give other numbers here: which setting, its
    /// value, and what is supported.
    ///
    /// # Example
    /// ```
    /// use brigade_nn::Decoder;
    /// let decoder = Decoder::from_hugging_face(r#"{"model_type": "gpt2", "n_positions": 256}"#)?;
    /// assert_eq!((decoder.vocab(), decoder.context()), (50_257, 256));
    /// # Ok::<(), brigade_nn::HuggingFaceError>(())
    /// ```
    pub fn from_hugging_face(config: &str) -> Result<Self, HuggingFaceError> {
        let config: Map<String, Value> = serde_json::from_str(config)?;
        let settings = Settings::new(&config);
        settings.none("quantization_config", "weights that are not quantized")?;
        settings.is("is_encoder_decoder", false)?;
        settings.is("add_cross_attention", false)?;
        settings.is("is_causal", true)?;
        settings.empty("pruned_heads")?;
        settings.empty("per_layer_config")?;
        match settings.text("model_type", "missing")? {
            "gpt2" => gpt2::read(&settings).map(Self::Gpt),
            "llama" => llama::read(&settings).map(Self::Llama),
            _ => Err(settings.refused("model_type", FAMILIES)),
        }
    }

    /// The text of a `config.json` for this decoder with tensors of this type (`float32`,
    /// `bfloat16`, `float16`), in the style that older and newer versions of `transformers` read.
    ///
    /// # Errors
    /// When `transformers` has no such network: what does not go.
    pub fn to_hugging_face(&self, dtype: &str) -> Result<String, HuggingFaceError> {
        let mut config = match self {
            Self::Gpt(gpt) => gpt2::write(gpt),
            Self::Llama(llama) => llama::write(llama)?,
        };
        let common = json!({
            "torch_dtype": dtype,
            "bos_token_id": null,
            "eos_token_id": null,
        });
        for (name, value) in common.as_object().into_iter().flatten() {
            config[name] = value.clone();
        }
        Ok(format!("{config:#}\n"))
    }

    /// The names of its parameters in `transformers`.
    ///
    /// # Errors
    /// As [`Decoder::network`].
    pub fn hugging_face_names(&self) -> Result<ForeignNames, LayerError> {
        let params = self.network()?.params();
        let keys = params.into_iter().map(|(key, _)| key);
        Ok(match self {
            Self::Gpt(gpt) => gpt2::names(gpt, keys),
            Self::Llama(llama) => llama::names(llama, keys),
        })
    }
}

/// A number of 32 bits as people write it: 1e-5, not 0.000009999999747378752.
fn short(number: f32) -> f64 {
    number.to_string().parse().unwrap_or(f64::from(number))
}
