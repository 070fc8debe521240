//! Llama's layers: PyTorch's numbers, the laws of the contract, and the network of them.

use crate::bench::{Golden, How, PLAIN, decimal, ids, pass, wave};
use crate::goldens::Case;
use brigade_layer::{AnySpec, Init, Precision, Tensors, conformance};
use brigade_nn::{
    Activation, Decoder, GatedFeedForward, GroupedQueryAttention, Linear, Llama, RmsNorm, Rotary,
    RotaryScaling,
};

fn check(spec: &impl brigade_layer::LayerSpec, inputs: impl Into<Tensors>) {
    conformance::check(spec, &inputs.into()).unwrap_or_else(|law| panic!("{spec:?}: {law}"));
}

fn case<'a>(golden: &'a Golden, name: &'a str, share: f32) -> Case<'a> {
    Case {
        golden,
        name,
        share,
    }
}

const PROJECTIONS: [(&str, &str); 8] = [
    ("q_proj.weight", "q_proj.weight"),
    ("q_proj.bias", "q_proj.bias"),
    ("k_proj.weight", "k_proj.weight"),
    ("k_proj.bias", "k_proj.bias"),
    ("v_proj.weight", "v_proj.weight"),
    ("v_proj.bias", "v_proj.bias"),
    ("o_proj.weight", "o_proj.weight"),
    ("o_proj.bias", "o_proj.bias"),
];
const MLP: [(&str, &str); 6] = [
    ("gate_proj.weight", "gate_proj.weight"),
    ("gate_proj.bias", "gate_proj.bias"),
    ("up_proj.weight", "up_proj.weight"),
    ("up_proj.bias", "up_proj.bias"),
    ("down_proj.weight", "down_proj.weight"),
    ("down_proj.bias", "down_proj.bias"),
];

#[test]
fn rms_norm_as_in_pytorch() {
    let golden = Golden::open("rms_norm");
    for name in ["plain", "small"] {
        let eps = decimal(golden.number(&format!("{name}/eps"))) as f32;
        let spec = RmsNorm::new(10).eps(eps);
        case(&golden, name, 2e-5).check(&spec, &["x"], &[("weight", "weight")]);
    }
}

#[test]
fn gated_feed_forward_as_in_pytorch() {
    let golden = Golden::open("gated_mlp");
    for (name, biases) in [("plain", false), ("bias", true)] {
        case(&golden, name, 1e-5).check(&gated([8, 20], biases), &["x"], &MLP);
    }
}

fn gated([width, inner]: [usize; 2], biases: bool) -> GatedFeedForward {
    let linear = |inputs, outputs| {
        let linear = Linear::new(inputs, outputs);
        if biases {
            linear
        } else {
            linear.without_bias()
        }
    };
    let into = || linear(width, inner);
    GatedFeedForward::new([into(), into(), linear(inner, width)])
}

#[test]
fn grouped_attention_as_in_pytorch() {
    let golden = Golden::open("grouped_attention");
    for name in ["plain", "one", "alone", "long", "linear", "yarn"] {
        let whole = |setting: &str| golden.whole(&format!("{name}/{setting}")) as usize;
        let scaling = golden.numbers(&format!("{name}/scaling"));
        let number = |at: usize| f64::from(scaling[at]);
        let scaling = match name {
            "long" => RotaryScaling::Llama3 {
                factor: number(0),
                low_frequency_factor: number(1),
                high_frequency_factor: number(2),
                original_context: scaling[3] as usize,
            },
            "linear" => RotaryScaling::Linear { factor: number(0) },
            "yarn" => RotaryScaling::Yarn {
                factor: number(0),
                beta_fast: number(1),
                beta_slow: number(2),
                attention_factor: number(3),
                original_context: scaling[4] as usize,
                truncate: true,
            },
            _ => RotaryScaling::None,
        };
        let theta = golden.number(&format!("{name}/theta"));
        let width = golden.get(&format!("{name}/x")).shape().last();
        let spec = GroupedQueryAttention::new(width, whole("heads"), whole("kv_heads"))
            .head_width(whole("columns"))
            .rotary(Rotary { theta, scaling });
        let spec = if name == "alone" {
            spec.with_bias()
        } else {
            spec
        };
        case(&golden, name, 2e-5).check(&spec, &["x"], &PROJECTIONS);
    }
}

#[test]
fn its_layers_keep_the_laws() {
    for shape in [[3, 10], [70, 33]] {
        check(&RmsNorm::new(shape[1]), wave(shape, 0.7));
    }
    check(&gated([6, 10], false), wave([4, 6], 0.7));
    let geglu = gated([6, 10], true).activation(Activation::GeluTanh);
    check(&geglu, wave([2, 3, 6], 0.7));
    let init = Init::Normal(0.5);
    for (heads, kv_heads) in [(4, 2), (3, 1), (2, 2)] {
        let spec = GroupedQueryAttention::new(12, heads, kv_heads).head_width(6);
        check(&spec.init(init, init), wave([2, 5, 12], 0.7));
    }
    let long = GroupedQueryAttention::new(6, 2, 1)
        .head_width(4)
        .with_bias();
    check(&long.init(init, init).dropout(0.2), wave([1, 70, 6], 0.7));
}

#[test]
fn threads_do_not_show_in_its_layers() {
    let attention = GroupedQueryAttention::new(64, 4, 2).dropout(0.1);
    let specs: [(&dyn AnySpec, [usize; 3]); 3] = [
        (&attention, [3, 130, 64]),
        (&gated([64, 200], false), [3, 130, 64]),
        (&RmsNorm::new(64), [9, 130, 64]),
    ];
    for (spec, shape) in specs {
        for precision in [Precision::F32, Precision::Bf16] {
            let bits = |threads| {
                let how = How {
                    threads,
                    precision,
                    ..PLAIN
                };
                let dy = wave(shape, 1.3);
                pass(spec, &[], &wave(shape, 0.7).into(), Some(dy), how)
                    .unwrap()
                    .bits()
            };
            assert!(bits(1) == bits(3), "{spec:?} {precision:?}");
        }
    }
}

fn small() -> Llama {
    Llama {
        vocab: 11,
        context: 6,
        width: 8,
        inner: 12,
        heads: 4,
        kv_heads: 2,
        head_width: 4,
        ..Llama::default()
    }
}

#[test]
fn it_has_the_keys_of_llama() {
    let llama = Llama {
        blocks: 1,
        ..small()
    };
    let network = llama.network().unwrap();
    let keys: Vec<String> = network.params().into_iter().map(|(key, _)| key).collect();
    let expected = [
        "embed_tokens.weight",
        "layers.0.input_layernorm.weight",
        "layers.0.self_attn.q_proj.weight",
        "layers.0.self_attn.k_proj.weight",
        "layers.0.self_attn.v_proj.weight",
        "layers.0.self_attn.o_proj.weight",
        "layers.0.post_attention_layernorm.weight",
        "layers.0.mlp.gate_proj.weight",
        "layers.0.mlp.up_proj.weight",
        "layers.0.mlp.down_proj.weight",
        "norm.weight",
        "lm_head.weight",
    ];
    assert_eq!(keys, expected);
}

#[test]
fn it_counts_its_parameters() {
    for bits in 0..8 {
        let llama = Llama {
            tied: bits & 1 > 0,
            attention_biases: bits & 2 > 0,
            mlp_biases: bits & 4 > 0,
            ..small()
        };
        let params = llama.network().unwrap().params();
        let counted: usize = params.iter().map(|(_, spec)| spec.shape.elements()).sum();
        assert_eq!(llama.parameters(), counted as u64, "{llama:?}");
        assert_eq!(Decoder::from(llama).parameters(), counted as u64);
    }
}

#[test]
fn one_that_cannot_be_says_what_would_help() {
    let problem = |llama: Llama| llama.network().unwrap_err().to_string();
    let with = |change: fn(&mut Llama)| {
        let mut llama = small();
        change(&mut llama);
        problem(llama)
    };
    let ungrouped = with(|llama| llama.kv_heads = 3);
    assert!(
        ungrouped.contains("4 heads cannot be grouped around 3"),
        "{ungrouped}"
    );
    assert!(with(|llama| llama.head_width = 5).contains("make it even"));
    assert!(with(|llama| llama.inner = 0).contains("inner is 0"));
    assert!(with(|llama| llama.dropout = 1.0).contains("below 1"));
    assert!(with(|llama| llama.rotary.theta = -1.0).contains("theta is -1"));
    assert!(with(|llama| llama.eps = f32::NAN).contains("eps"));
    assert!(with(|llama| llama.eps = f32::INFINITY).contains("eps"));
    let tiny = with(|llama| llama.rotary.theta = 1e-200);
    assert!(tiny.contains("no numbers"), "{tiny}");
    let longer = with(|llama| {
        llama.positions = Some(4);
        llama.rotary.scaling = RotaryScaling::Dynamic { factor: 2.0 };
    });
    assert!(longer.contains("make it 4 or less"), "{longer}");
    let linear = with(|llama| llama.rotary.scaling = RotaryScaling::Linear { factor: 0.0 });
    assert!(linear.contains("factor is 0"), "{linear}");
}

#[test]
fn a_sequence_may_be_shorter_than_its_context() {
    let network = small().network().unwrap();
    for node in &network.layers()[1..3] {
        let x = wave([3, 4, 8], 0.3);
        let run = pass(node.spec.as_ref(), &[], &x.into(), None, PLAIN).unwrap();
        assert_eq!(run.outputs[0].len(), 96);
    }
    let embed = network.layers()[0].spec.as_ref();
    assert!(pass(embed, &[], &ids([3, 4], 11).into(), None, PLAIN).is_ok());
}
