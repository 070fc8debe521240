//! Promise: a `config.json` of Hugging Face is read as `transformers` reads it, in both styles, and
//! what would give other numbers is refused with its name and what is supported.

use brigade_nn::{Activation, Decoder, Gpt, HuggingFaceError, Llama, Rotary, RotaryScaling};

fn read(config: &str) -> Result<Decoder, HuggingFaceError> {
    Decoder::from_hugging_face(config)
}

fn llama(settings: &str) -> Llama {
    let config = format!(r#"{{"model_type": "llama", "head_dim": null {settings}}}"#);
    match read(&config).unwrap() {
        Decoder::Llama(llama) => llama,
        other => panic!("{other:?}"),
    }
}

fn gpt(settings: &str) -> Gpt {
    match read(&format!(r#"{{"model_type": "gpt2" {settings}}}"#)).unwrap() {
        Decoder::Gpt(gpt) => gpt,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_left_out_is_as_there() {
    let gpt = gpt("");
    assert_eq!(gpt.parameters(), 124_439_808);
    assert!(gpt.tied && gpt.biases && gpt.context == 1024 && gpt.dropout == 0.0);
    let llama = llama("");
    // Llama 2 of 7 thousand million.
    assert_eq!(llama.parameters(), 6_738_415_616);
    assert_eq!(
        (llama.kv_heads, llama.head_width, llama.eps),
        (32, 128, 1e-6)
    );
    assert_eq!(llama.rotary, Rotary::default());
    assert!(!llama.tied && llama.context == 2048);
}

#[test]
fn gpt2_has_its_activations_and_sizes() {
    for (name, activation) in [
        ("gelu_new", Activation::GeluTanh),
        ("gelu_pytorch_tanh", Activation::GeluTanh),
        ("gelu", Activation::GeluErf),
        ("relu", Activation::Relu),
        ("silu", Activation::Silu),
        ("swish", Activation::Silu),
    ] {
        let settings = format!(r#", "activation_function": "{name}", "n_inner": 100"#);
        let gpt = gpt(&settings);
        assert_eq!((gpt.activation, gpt.inner), (activation, Some(100)));
    }
    let gpt = gpt(
        r#", "layer_norm_epsilon": 1e-6, "n_inner": null, "tie_word_embeddings": false,
        "resid_pdrop": 0.1, "pretraining_tp": 2, "unknown": {"a": [1]}"#,
    );
    assert_eq!(
        (gpt.eps, gpt.inner, gpt.tied, gpt.dropout),
        (1e-6, None, false, 0.0)
    );
}

#[test]
fn gpt2_has_its_sizes_by_the_names_of_other_families() {
    let named = r#", "hidden_size": 96, "num_attention_heads": 6, "num_hidden_layers": 3,
        "max_position_embeddings": 40, "n_head": 6"#;
    let gpt = gpt(named);
    assert_eq!((gpt.width, gpt.heads), (96, 6));
    assert_eq!((gpt.blocks, gpt.context), (3, 40));
}

#[test]
fn scalings_are_read_in_both_styles() {
    let none = RotaryScaling::None;
    for (settings, theta, scaling) in [
        (r#", "rope_theta": 500000"#, 5e5, none),
        (r#", "rope_scaling": null, "rope_theta": 1e6"#, 1e6, none),
        (
            r#", "rope_parameters": {"rope_theta": 3.5, "rope_type": "default"}"#,
            3.5,
            none,
        ),
        (
            r#", "rope_scaling": {"type": "linear", "factor": 2.0}"#,
            1e4,
            RotaryScaling::Linear { factor: 2.0 },
        ),
        (
            r#", "rope_scaling": {"type": "dynamic", "factor": 4}, "rope_theta": 100.0"#,
            100.0,
            RotaryScaling::Dynamic { factor: 4.0 },
        ),
        (
            r#", "rope_parameters": {"rope_type": "llama3", "factor": 8.0, "rope_theta": 5e5,
                "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192}"#,
            5e5,
            RotaryScaling::Llama3 {
                factor: 8.0,
                low_frequency_factor: 1.0,
                high_frequency_factor: 4.0,
                original_context: 8192,
            },
        ),
        (
            // The original context is the whole one unless it is said.
            r#", "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "beta_fast": 16,
                "attention_factor": 1.25, "truncate": false}"#,
            1e4,
            RotaryScaling::Yarn {
                factor: 4.0,
                beta_fast: 16.0,
                beta_slow: 1.0,
                attention_factor: 1.25,
                original_context: 2048,
                truncate: false,
            },
        ),
    ] {
        let wanted = Rotary { theta, scaling };
        assert_eq!(llama(settings).rotary, wanted, "{settings}");
        // And written again.
        let again = Decoder::from(llama(settings))
            .to_hugging_face("float32")
            .unwrap();
        assert_eq!(read(&again).unwrap(), llama(settings).into(), "{again}");
    }
}

#[test]
fn what_yarn_multiplies_with_follows_as_there() {
    let factor = |settings: &str| {
        let scaling = format!(
            r#", "rope_scaling": {{"rope_type": "yarn", "original_max_position_embeddings": 512
            {settings}}}"#
        );
        match llama(&scaling).rotary.scaling {
            RotaryScaling::Yarn {
                factor,
                attention_factor,
                ..
            } => (factor, attention_factor),
            other => panic!("{other:?}"),
        }
    };
    let near = |found: (f64, f64), wanted: (f64, f64)| {
        let apart = (found.0 - wanted.0).abs() + (found.1 - wanted.1).abs();
        assert!(apart < 1e-12, "{found:?}, {wanted:?}");
    };
    let scale = |by: f64, factor: f64| 0.1 * by * factor.ln() + 1.0;
    near(factor(""), (4.0, scale(1.0, 4.0)));
    near(factor(r#", "factor": 8"#), (8.0, scale(1.0, 8.0)));
    near(factor(r#", "factor": 0.5"#), (0.5, 1.0));
    let both = factor(r#", "factor": 8, "mscale": 1.5, "mscale_all_dim": 0.5"#);
    near(both, (8.0, scale(1.5, 8.0) / scale(0.5, 8.0)));
    let one = factor(r#", "factor": 8, "mscale": 0, "mscale_all_dim": 0.5"#);
    near(one, (8.0, scale(1.0, 8.0)));
}

#[test]
fn what_would_give_other_numbers_is_refused_by_name() {
    for (family, settings, setting, value, supported) in [
        ("mistral", "", "model_type", "\"mistral\"", "gpt2 and llama"),
        (
            "gpt2",
            r#""activation_function": "gelu_fast""#,
            "activation_function",
            "fast",
            "silu",
        ),
        (
            "gpt2",
            r#""scale_attn_weights": false"#,
            "scale_attn_weights",
            "false",
            "true",
        ),
        (
            "gpt2",
            r#""scale_attn_by_inverse_layer_idx": true"#,
            "scale_attn_by_inverse_layer_idx",
            "true",
            "false",
        ),
        (
            "gpt2",
            r#""add_cross_attention": true"#,
            "add_cross_attention",
            "true",
            "false",
        ),
        (
            "gpt2",
            r#""quantization_config": {"bits": 4}"#,
            "quantization_config",
            "4",
            "not quant",
        ),
        (
            "gpt2",
            r#""pruned_heads": {"0": [1]}"#,
            "pruned_heads",
            "[1]",
            "nothing",
        ),
        (
            "gpt2",
            r#""n_head": 7"#,
            "n_embd",
            "missing",
            "multiple of n_head, which is 7",
        ),
        (
            "gpt2",
            r#""n_layer": 2, "num_hidden_layers": 3"#,
            "num_hidden_layers",
            "3",
            "the same as n_layer, which is 2",
        ),
        (
            "llama",
            r#""is_causal": false"#,
            "is_causal",
            "false",
            "true",
        ),
        (
            "gpt2",
            r#""per_layer_config": {"0": {}}"#,
            "per_layer_config",
            "0",
            "nothing",
        ),
        ("gpt2", r#""n_layer": 0"#, "n_layer", "0", "at least 1"),
        ("gpt2", r#""n_embd": -3"#, "n_embd", "-3", "at least 1"),
        ("gpt2", r#""n_embd": 1e30"#, "n_embd", "1e+30", "at least 1"),
        (
            "gpt2",
            r#""n_embd": "768""#,
            "n_embd",
            "\"768\"",
            "a whole number",
        ),
        (
            "gpt2",
            r#""layer_norm_epsilon": 1e300"#,
            "layer_norm_epsilon",
            "1e+300",
            "32 bits",
        ),
        (
            "llama",
            r#""hidden_act": "gelu""#,
            "hidden_act",
            "gelu",
            "silu",
        ),
        (
            "llama",
            r#""partial_rotary_factor": 0.5"#,
            "partial_rotary_factor",
            "0.5",
            "1",
        ),
        ("llama", r#""rope_theta": 0"#, "rope_theta", "0", "above 0"),
        (
            "llama",
            r#""num_key_value_heads": 5"#,
            "num_key_value_heads",
            "5",
            "divisor",
        ),
        ("llama", r#""head_dim": 5"#, "head_dim", "5", "even"),
        (
            "llama",
            r#""attention_bias": 1"#,
            "attention_bias",
            "1",
            "true and false",
        ),
        (
            "llama",
            r#""rope_scaling": {"rope_type": "longrope"}"#,
            "rope_scaling.rope_type",
            "longrope",
            "default, linear, dynamic, llama3 and yarn",
        ),
        (
            "llama",
            r#""rope_scaling": {"type": "linear"}"#,
            "rope_scaling.factor",
            "missing",
            "above 0",
        ),
        (
            "llama",
            r#""rope_parameters": {"full_attention": {"rope_type": "default"}}"#,
            "rope_parameters",
            "full_attention",
            "one for all layers",
        ),
    ] {
        let comma = if settings.is_empty() { "" } else { "," };
        let config = format!(r#"{{"model_type": "{family}"{comma}{settings}}}"#);
        let error = read(&config).unwrap_err();
        let HuggingFaceError::Setting {
            setting: found,
            value: with,
            supported: instead,
        } = &error
        else {
            panic!("{error}");
        };
        assert_eq!(found, setting);
        assert!(
            with.contains(value) && instead.contains(supported),
            "{error}"
        );
    }
    let long = format!(r#"{{"model_type": "{}"}}"#, "\u{1b}x".repeat(1000));
    let error = read(&long).unwrap_err().to_string();
    assert!(
        error.len() < 200 && !error.contains(char::is_control),
        "{error}"
    );
    for no_json in ["", "[]", "{", "{\"model_type\": }", &"[".repeat(1000)] {
        let error = read(no_json).unwrap_err();
        assert!(matches!(error, HuggingFaceError::Json { .. }), "{error}");
    }
}

#[test]
fn contexts_are_as_long_as_positions_allow() {
    let decoder = Decoder::from(gpt(""));
    let short = decoder.with_context(100).unwrap();
    assert_eq!((short.context(), short.positions()), (100, 1024));
    assert_eq!(short.with_context(1024).unwrap(), decoder);
    let error = short.with_context(1025).unwrap_err().to_string();
    assert!(error.contains("make it 1024 or less"), "{error}");
    // The whole table is there, and written.
    let network = short.network().unwrap();
    let table = network
        .params()
        .into_iter()
        .find(|(key, _)| key == "wpe.weight")
        .unwrap();
    assert_eq!(table.1.shape.axes(), [1024, 768]);
    assert!(
        short
            .to_hugging_face("float32")
            .unwrap()
            .contains("\"n_positions\": 1024")
    );
    let bad = Gpt {
        positions: Some(32),
        ..Gpt::default()
    };
    let error = bad.network().unwrap_err().to_string();
    assert!(
        error.contains("64 tokens with a table of 32 positions"),
        "{error}"
    );

    let turned = Decoder::from(llama(""));
    let longer = turned.with_context(5000).unwrap();
    assert_eq!((longer.context(), longer.positions()), (5000, 5000));
    let dynamic = r#", "rope_scaling": {"type": "dynamic", "factor": 4}"#;
    let dynamic = Decoder::from(llama(dynamic)).with_context(100).unwrap();
    assert!(dynamic.with_context(2048).is_ok());
    assert!(dynamic.with_context(2049).is_err());
}

/// What `transformers` refuses, though it could be computed.
#[test]
fn a_llama_that_is_not_there_is_not_written() {
    let odd = Llama {
        width: 60,
        heads: 8,
        ..Llama::default()
    };
    let error = Decoder::from(odd).to_hugging_face("float32").unwrap_err();
    assert!(
        error.to_string().contains("width 60 with 8 heads"),
        "{error}"
    );
}
