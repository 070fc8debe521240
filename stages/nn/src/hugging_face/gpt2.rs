//! GPT-2 as `transformers` has it.

use super::{HuggingFaceError, Settings, short};
use crate::{Activation, Gpt};
use brigade_layer::{ForeignNames, ForeignParam};
use serde_json::{Value, json};

const PREFIX: &str = "transformer.";
const HEAD: &str = "lm_head.weight";
/// What is kept as [inputs, outputs] there.
const TRANSPOSED: [&str; 4] = [
    "attn.c_attn.weight",
    "attn.c_proj.weight",
    "mlp.c_fc.weight",
    "mlp.c_proj.weight",
];
/// Settings that go by the names of other families, too.
const WIDTH: [&str; 2] = ["n_embd", "hidden_size"];
const HEADS: [&str; 2] = ["n_head", "num_attention_heads"];
const LAYERS: [&str; 2] = ["n_layer", "num_hidden_layers"];
const POSITIONS: [&str; 2] = ["n_positions", "max_position_embeddings"];
const ACTIVATIONS: &str = "gelu_new, gelu_pytorch_tanh, gelu, relu, silu and swish";

/// What a setting that is left out is there.
pub(super) fn read(settings: &Settings<'_>) -> Result<Gpt, HuggingFaceError> {
    settings.is("scale_attn_weights", true)?;
    settings.is("scale_attn_by_inverse_layer_idx", false)?;
    let activation = match settings.text("activation_function", "gelu_new")? {
        "gelu_new" | "gelu_pytorch_tanh" => Activation::GeluTanh,
        "gelu" => Activation::GeluErf,
        "relu" => Activation::Relu,
        "silu" | "swish" => Activation::Silu,
        _ => return Err(settings.refused("activation_function", ACTIVATIONS)),
    };
    let (width, heads) = (settings.size_by(WIDTH, 768)?, settings.size_by(HEADS, 12)?);
    if !width.is_multiple_of(heads) {
        let supported = format!("a multiple of n_head, which is {heads}");
        let given = WIDTH.into_iter().find(|name| settings.get(name).is_some());
        return Err(settings.refused(given.unwrap_or(WIDTH[0]), supported));
    }
    let inner = settings.size_if("n_inner")?;
    Ok(Gpt {
        vocab: settings.size("vocab_size", 50_257)?,
        context: settings.size_by(POSITIONS, 1024)?,
        positions: None,
        width,
        heads,
        inner: inner.filter(|inner| *inner != 4 * width),
        activation,
        eps: settings.single("layer_norm_epsilon", 1e-5)?,
        blocks: settings.size_by(LAYERS, 12)?,
        tied: settings.flag("tie_word_embeddings", true)?,
        biases: true,
        dropout: 0.0,
    })
}

pub(super) fn write(gpt: &Gpt) -> Value {
    let activation = match gpt.activation {
        Activation::GeluTanh => "gelu_new",
        Activation::GeluErf => "gelu",
        Activation::Relu => "relu",
        Activation::Silu => "silu",
    };
    let positions = gpt.positions.unwrap_or(gpt.context);
    let dropout = short(gpt.dropout);
    json!({
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": gpt.vocab,
        "n_positions": positions,
        "n_ctx": positions,
        "n_embd": gpt.width,
        "n_head": gpt.heads,
        "n_layer": gpt.blocks,
        "n_inner": gpt.inner,
        "activation_function": activation,
        "layer_norm_epsilon": short(gpt.eps),
        "tie_word_embeddings": gpt.tied,
        "attn_pdrop": dropout,
        "embd_pdrop": dropout,
        "resid_pdrop": dropout,
    })
}

pub(super) fn names(gpt: &Gpt, keys: impl Iterator<Item = String>) -> ForeignNames {
    let params = keys.map(|key| ForeignParam {
        name: match key.as_str() {
            HEAD => key.clone(),
            _ => format!("{PREFIX}{key}"),
        },
        transposed: TRANSPOSED.iter().any(|end| key.ends_with(end)),
        key,
    });
    let copies = match gpt.tied {
        true => vec![(HEAD.to_owned(), format!("{PREFIX}wte.weight"))],
        false => Vec::new(),
    };
    ForeignNames {
        params: params.collect(),
        prefix: PREFIX.into(),
        copies,
        ignored: vec![".attn.bias".into(), ".attn.masked_bias".into()],
        zeros: if gpt.biases { Vec::new() } else { biases(gpt) },
    }
}

/// Biases that a network without them has there: zeros, which give the same numbers.
fn biases(gpt: &Gpt) -> Vec<(String, Vec<usize>)> {
    let (width, inner) = (gpt.width, gpt.inner.unwrap_or(4 * gpt.width));
    let of_block = [
        ("ln_1", width),
        ("attn.c_attn", 3 * width),
        ("attn.c_proj", width),
        ("ln_2", width),
        ("mlp.c_fc", inner),
        ("mlp.c_proj", width),
    ];
    let mut all = Vec::new();
    for block in 0..gpt.blocks {
        for (part, size) in of_block {
            all.push((format!("{PREFIX}h.{block}.{part}.bias"), vec![size]));
        }
    }
    all.push((format!("{PREFIX}ln_f.bias"), vec![width]));
    all
}
