//! Rotary positions as `transformers` writes them: `rope_theta` and `rope_scaling`, or
//! `rope_parameters` for both.

use super::{HuggingFaceError, Settings};
use crate::{Rotary, RotaryScaling};
use serde_json::{Value, json};

const KINDS: &str = "default, linear, dynamic, llama3 and yarn";

/// `context` is the longest sequence that the network is for.
pub(super) fn read(settings: &Settings<'_>, context: usize) -> Result<Rotary, HuggingFaceError> {
    whole(settings)?;
    // As there, the older setting counts more where both are.
    let scaling = match settings.inner("rope_scaling")? {
        Some(older) => Some(("rope_scaling", older)),
        None => { settings.inner("rope_parameters")? }.map(|newer| ("rope_parameters", newer)),
    };
    let theta = settings.number("rope_theta", 1e4)?;
    let Some((name, scaling)) = scaling else {
        let scaling = RotaryScaling::None;
        return Ok(Rotary { theta, scaling });
    };
    if scaling.is_nested() {
        return Err(settings.refused(name, "one for all layers"));
    }
    whole(&scaling)?;
    let theta = scaling.number("rope_theta", theta)?;
    let original = match settings.size_if("original_max_position_embeddings")? {
        Some(outer) => outer,
        None => scaling.size("original_max_position_embeddings", context)?,
    };
    let kind = match scaling.get("rope_type") {
        Some(_) => "rope_type",
        None => "type",
    };
    let scaling = match scaling.text(kind, "default")? {
        "default" => RotaryScaling::None,
        "linear" => RotaryScaling::Linear {
            factor: scaling.needed("factor")?,
        },
        "dynamic" => RotaryScaling::Dynamic {
            factor: scaling.needed("factor")?,
        },
        "llama3" => RotaryScaling::Llama3 {
            factor: scaling.needed("factor")?,
            low_frequency_factor: scaling.needed("low_freq_factor")?,
            high_frequency_factor: scaling.needed("high_freq_factor")?,
            original_context: original,
        },
        "yarn" => yarn(&scaling, context, original)?,
        _ => return Err(scaling.refused(kind, KINDS)),
    };
    Ok(Rotary { theta, scaling })
}

/// All columns of a head turn.
fn whole(settings: &Settings<'_>) -> Result<(), HuggingFaceError> {
    match settings.number("partial_rotary_factor", 1.0)? == 1.0 {
        true => Ok(()),
        false => Err(settings.refused("partial_rotary_factor", "1")),
    }
}

fn yarn(
    scaling: &Settings<'_>,
    context: usize,
    original: usize,
) -> Result<RotaryScaling, HuggingFaceError> {
    let factor = scaling.number("factor", context as f64 / original as f64)?;
    let scale = |by: f64| match factor <= 1.0 {
        true => 1.0,
        false => 0.1 * by * libm::log(factor) + 1.0,
    };
    // A 0 is as good as nothing there.
    let given = |name: &str| match scaling.get(name).and_then(Value::as_f64) {
        Some(0.0) => Ok(None),
        _ => scaling.number_if(name),
    };
    let follows = match (given("mscale")?, given("mscale_all_dim")?) {
        (Some(one), Some(all)) => scale(one) / scale(all),
        _ => scale(1.0),
    };
    Ok(RotaryScaling::Yarn {
        factor,
        beta_fast: given("beta_fast")?.unwrap_or(32.0),
        beta_slow: given("beta_slow")?.unwrap_or(1.0),
        attention_factor: scaling.number("attention_factor", follows)?,
        original_context: original,
        truncate: scaling.flag("truncate", true)?,
    })
}

pub(super) fn write(scaling: &RotaryScaling) -> Value {
    match scaling {
        RotaryScaling::None => Value::Null,
        RotaryScaling::Linear { factor } => json!({ "rope_type": "linear", "factor": factor }),
        RotaryScaling::Dynamic { factor } => json!({ "rope_type": "dynamic", "factor": factor }),
        RotaryScaling::Llama3 {
            factor,
            low_frequency_factor,
            high_frequency_factor,
            original_context,
        } => json!({
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": low_frequency_factor,
            "high_freq_factor": high_frequency_factor,
            "original_max_position_embeddings": original_context,
        }),
        RotaryScaling::Yarn {
            factor,
            beta_fast,
            beta_slow,
            attention_factor,
            original_context,
            truncate,
        } => json!({
            "rope_type": "yarn",
            "factor": factor,
            "beta_fast": beta_fast,
            "beta_slow": beta_slow,
            "attention_factor": attention_factor,
            "original_max_position_embeddings": original_context,
            "truncate": truncate,
        }),
    }
}
