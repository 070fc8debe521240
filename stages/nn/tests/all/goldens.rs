//! Layers and losses against PyTorch's numbers (see `tests/goldens/README.md`).

use crate::bench::{Golden, PLAIN, Pass, assert_close, decimal, pass};
use brigade_layer::{AnySpec, LayerSpec, Tensors};
use brigade_nn::{
    Activation, CausalSelfAttention, Chain, CrossEntropy, Embedding, LayerNorm, Linear,
    MeanSquaredError, PositionEmbedding, Residual,
};

/// One case of a file: (name in the file, name of the parameter) for every parameter.
pub(crate) struct Case<'a> {
    pub(crate) golden: &'a Golden,
    pub(crate) name: &'a str,
    pub(crate) share: f32,
}

impl Case<'_> {
    fn get(&self, name: &str) -> brigade_layer::Tensor {
        self.golden.get(&format!("{}/{name}", self.name))
    }

    /// Runs the layer on the case's x and compares whatever the file holds.
    pub(crate) fn check(
        &self,
        spec: &dyn AnySpec,
        inputs: &[&str],
        params: &[(&str, &str)],
    ) -> Pass {
        let mut tensors = Tensors::none();
        for input in inputs {
            tensors.push(Some(self.get(input))).unwrap();
        }
        let held = |stored: &str| self.golden.find(&format!("{}/{stored}", self.name));
        let params: Vec<_> = params
            .iter()
            .filter(|(stored, _)| held(stored).is_some())
            .collect();
        let values: Vec<_> = params
            .iter()
            .map(|(stored, param)| (*param, self.get(stored)))
            .collect();
        let dy = held("dy")
            .unwrap_or_else(|| brigade_layer::Tensor::from_vec([1], vec![1.0f32]).unwrap());
        let pass = pass(spec, &values, &tensors, Some(dy), PLAIN).unwrap();
        assert_eq!(
            pass.param_gradients.len(),
            params.len(),
            "{}: parameters",
            self.name
        );
        self.compare("y", &pass.outputs[0]);
        for (input, gradient) in inputs.iter().zip(&pass.input_gradients) {
            if held(&format!("d{input}")).is_some() {
                self.compare(&format!("d{input}"), gradient.as_ref().unwrap());
            }
        }
        for (stored, param) in params {
            self.compare(&format!("d{stored}"), &pass.param_gradients[*param]);
        }
        pass
    }

    fn compare(&self, name: &str, found: &[f32]) {
        let what = format!("{}/{name}", self.name);
        assert_close(&what, found, &self.golden.numbers(&what), self.share);
    }
}

const OWN_NAMES: [(&str, &str); 2] = [("weight", "weight"), ("bias", "bias")];

#[test]
fn linear() {
    let golden = Golden::open("linear");
    for (name, spec) in [
        ("bias", Linear::new(5, 7)),
        ("no_bias", Linear::new(5, 7).without_bias()),
    ] {
        Case {
            golden: &golden,
            name,
            share: 1e-5,
        }
        .check(&spec, &["x"], &OWN_NAMES);
    }
}

#[test]
fn embeddings() {
    let golden = Golden::open("embedding");
    let case = |name| Case {
        golden: &golden,
        name,
        share: 1e-5,
    };
    case("token").check(&Embedding::new(11, 5), &["ids"], &OWN_NAMES);
    case("position").check(&PositionEmbedding::new(8, 5), &["x"], &[("wpe", "weight")]);
}

#[test]
fn layer_norm() {
    let golden = Golden::open("layer_norm");
    for name in ["plain", "no_bias", "offset"] {
        let eps = decimal(golden.number(&format!("{name}/eps"))) as f32;
        let spec = LayerNorm::new(10).eps(eps);
        let spec = if name == "no_bias" {
            spec.without_bias()
        } else {
            spec
        };
        Case {
            golden: &golden,
            name,
            share: 2e-5,
        }
        .check(&spec, &["x"], &OWN_NAMES);
    }
}

#[test]
fn activations() {
    let golden = Golden::open("activations");
    for (name, activation) in [
        ("gelu_tanh", Activation::GeluTanh),
        ("gelu_erf", Activation::GeluErf),
        ("relu", Activation::Relu),
        ("silu", Activation::Silu),
    ] {
        // The greatest of these is 90: held to a share of that, 0.001 would mean nothing.
        let pass = Case {
            golden: &golden,
            name,
            share: 1e-6,
        }
        .check(&activation, &["x"], &[]);
        let expected = golden.numbers(&format!("{name}/y"));
        for (found, expected) in pass.outputs[0].iter().zip(&expected) {
            assert!(
                (found - expected).abs() <= 1e-6 * expected.abs() + 1e-7,
                "{name}: {found}"
            );
        }
    }
}

const ATTENTION: [(&str, &str); 4] = [
    ("qkv.weight", "c_attn.weight"),
    ("qkv.bias", "c_attn.bias"),
    ("proj.weight", "c_proj.weight"),
    ("proj.bias", "c_proj.bias"),
];

#[test]
fn attention() {
    let golden = Golden::open("attention");
    for (name, width) in [
        ("b2_t7_d12_h3", 12),
        ("b2_t1_d8_h2", 8),
        ("b1_t70_d16_h2", 16),
    ] {
        let heads = golden.whole(&format!("{name}/heads")) as usize;
        let spec = CausalSelfAttention::new(width, heads);
        let spec = if name.starts_with("b1") {
            spec.without_bias()
        } else {
            spec
        };
        Case {
            golden: &golden,
            name,
            share: 2e-5,
        }
        .check(&spec, &["x"], &ATTENTION);
    }
}

const FEED_FORWARD: [(&str, &str); 6] = [
    ("ln.weight", "ln.weight"),
    ("ln.bias", "ln.bias"),
    ("fc1.weight", "fc1.weight"),
    ("fc1.bias", "fc1.bias"),
    ("fc2.weight", "fc2.weight"),
    ("fc2.bias", "fc2.bias"),
];

fn feed_forward(biases: bool) -> impl LayerSpec + Clone {
    let linear = |inputs, outputs| {
        let linear = Linear::new(inputs, outputs);
        if biases {
            linear
        } else {
            linear.without_bias()
        }
    };
    Chain::new("fc1", linear(8, 32), "", Activation::GeluTanh).then("fc2", linear(32, 8))
}

#[test]
fn a_block_of_linear_layers_alone_and_as_half_of_a_transformer_block() {
    let (block, half) = (Golden::open("mlp_block"), Golden::open("gpt_half"));
    for (name, biases) in [("bias", true), ("no_bias", false)] {
        let mlp = feed_forward(biases);
        let params = &FEED_FORWARD[2..];
        Case {
            golden: &block,
            name,
            share: 1e-5,
        }
        .check(&mlp, &["x"], params);
        let norm = LayerNorm::new(8);
        let norm = if biases { norm } else { norm.without_bias() };
        let residual = Residual::new(Chain::new("ln", norm, "", mlp));
        Case {
            golden: &half,
            name,
            share: 2e-5,
        }
        .check(&residual, &["x"], &FEED_FORWARD);
    }
}

#[test]
fn cross_entropy() {
    let golden = Golden::open("cross_entropy");
    for name in ["plain", "ignore", "smoothing", "smoothing_ignore", "large"] {
        let share = decimal(golden.number(&format!("{name}/smoothing"))) as f32;
        let ignored = golden.whole(&format!("{name}/ignore_index"));
        let spec = CrossEntropy::new().label_smoothing(share).ignoring(ignored);
        let case = Case {
            golden: &golden,
            name,
            share: 1e-5,
        };
        case.check(&spec, &["logits", "targets"], &[]);
        let terms = spec.loss_terms(&case.get("targets").into()).unwrap();
        assert_eq!(terms, f64::from(golden.whole(&format!("{name}/count"))));
    }
}

#[test]
fn mean_squared_error() {
    let golden = Golden::open("mse");
    let case = Case {
        golden: &golden,
        name: "plain",
        share: 1e-5,
    };
    case.check(&MeanSquaredError, &["prediction", "target"], &[]);
    assert_eq!(
        MeanSquaredError
            .loss_terms(&case.get("target").into())
            .unwrap(),
        12.0
    );
}
