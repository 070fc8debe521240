//! Llama as `transformers` has it.

use super::{HuggingFaceError, Settings, rope, short};
use crate::Llama;
use brigade_layer::{ForeignNames, ForeignParam};
use serde_json::{Value, json};

const PREFIX: &str = "model.";
const HEAD: &str = "lm_head.weight";

/// What a setting that is left out is there.
pub(super) fn read(settings: &Settings<'_>) -> Result<Llama, HuggingFaceError> {
    if !["silu", "swish"].contains(&settings.text("hidden_act", "silu")?) {
        return Err(settings.refused("hidden_act", "silu"));
    }
    let (width, heads) = (
        settings.size("hidden_size", 4096)?,
        settings.size("num_attention_heads", 32)?,
    );
    let head_width = match settings.size_if("head_dim")? {
        Some(given) => given,
        None if width.is_multiple_of(heads) => width / heads,
        None => {
            let supported =
                format!("a multiple of num_attention_heads, which is {heads}, without head_dim");
            return Err(settings.refused("hidden_size", supported));
        }
    };
    if head_width % 2 == 1 {
        let supported = "an even number of columns, which turn in pairs";
        return Err(settings.refused("head_dim", supported));
    }
    let kv_heads = settings.size("num_key_value_heads", heads)?;
    if !heads.is_multiple_of(kv_heads) {
        let supported = format!("a divisor of num_attention_heads, which is {heads}");
        return Err(settings.refused("num_key_value_heads", supported));
    }
    let context = settings.size("max_position_embeddings", 2048)?;
    Ok(Llama {
        vocab: settings.size("vocab_size", 32_000)?,
        context,
        positions: None,
        width,
        inner: settings.size("intermediate_size", 11_008)?,
        heads,
        kv_heads,
        head_width,
        blocks: settings.size("num_hidden_layers", 32)?,
        tied: settings.flag("tie_word_embeddings", false)?,
        attention_biases: settings.flag("attention_bias", false)?,
        mlp_biases: settings.flag("mlp_bias", false)?,
        eps: settings.single("rms_norm_eps", 1e-6)?,
        rotary: rope::read(settings, context)?,
        dropout: 0.0,
    })
}

pub(super) fn write(llama: &Llama) -> Result<Value, HuggingFaceError> {
    let (width, heads) = (llama.width, llama.heads);
    if !width.is_multiple_of(heads.max(1)) {
        return Err(HuggingFaceError::NotThere {
            problem: format!(
                "a Llama of width {width} with {heads} heads: transformers wants the width to be a \
                 multiple of the heads, also where a head's width is given"
            ),
        });
    }
    let positions = llama.positions.unwrap_or(llama.context);
    Ok(json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": llama.vocab,
        "max_position_embeddings": positions,
        "hidden_size": width,
        "intermediate_size": llama.inner,
        "num_attention_heads": heads,
        "num_key_value_heads": llama.kv_heads,
        "head_dim": llama.head_width,
        "num_hidden_layers": llama.blocks,
        "hidden_act": "silu",
        "rms_norm_eps": short(llama.eps),
        "attention_bias": llama.attention_biases,
        "mlp_bias": llama.mlp_biases,
        "tie_word_embeddings": llama.tied,
        "attention_dropout": short(llama.dropout),
        "rope_theta": llama.rotary.theta,
        "rope_scaling": rope::write(&llama.rotary.scaling),
    }))
}

pub(super) fn names(llama: &Llama, keys: impl Iterator<Item = String>) -> ForeignNames {
    let params = keys.map(|key| ForeignParam {
        name: match key.as_str() {
            HEAD => key.clone(),
            _ => format!("{PREFIX}{key}"),
        },
        transposed: false,
        key,
    });
    let copies = match llama.tied {
        true => vec![(HEAD.to_owned(), format!("{PREFIX}embed_tokens.weight"))],
        false => Vec::new(),
    };
    ForeignNames {
        params: params.collect(),
        prefix: PREFIX.into(),
        copies,
        ignored: vec![".rotary_emb.inv_freq".into()],
        zeros: Vec::new(),
    }
}
