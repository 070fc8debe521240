//! Ready networks describe themselves truthfully.

use crate::bench::{How, PLAIN, ids, pass, wave};
use brigade_layer::{LayerError, Network, TensorSpec};
use brigade_nn::{Activation, CrossEntropy, Gpt, MeanSquaredError, Mlp, ResNet, UNet, Vgg};
use std::collections::BTreeMap;

/// Shapes of the parameters by key, a shared one once.
fn params(network: &Network) -> BTreeMap<String, Vec<usize>> {
    let mut all = BTreeMap::new();
    for node in network.layers() {
        for param in node.spec.param_specs() {
            let own = if node.scope.is_empty() {
                param.name.clone()
            } else {
                format!("{}.{}", node.scope, param.name)
            };
            let first = param
                .shared
                .and_then(|shared| network.first_keys().get(&shared).cloned());
            all.insert(first.unwrap_or(own), param.shape.axes().to_vec());
        }
    }
    all
}

fn small(tied: bool, biases: bool) -> Gpt {
    Gpt {
        vocab: 11,
        context: 6,
        width: 8,
        heads: 2,
        blocks: 2,
        tied,
        biases,
        dropout: 0.0,
        ..Gpt::default()
    }
}

#[test]
fn a_gpt_has_the_keys_of_gpt_2() {
    let network = Gpt {
        blocks: 1,
        ..small(true, true)
    }
    .network()
    .unwrap();
    let keys: Vec<String> = params(&network).into_keys().collect();
    let expected = [
        "h.0.attn.c_attn.bias",
        "h.0.attn.c_attn.weight",
        "h.0.attn.c_proj.bias",
        "h.0.attn.c_proj.weight",
        "h.0.ln_1.bias",
        "h.0.ln_1.weight",
        "h.0.ln_2.bias",
        "h.0.ln_2.weight",
        "h.0.mlp.c_fc.bias",
        "h.0.mlp.c_fc.weight",
        "h.0.mlp.c_proj.bias",
        "h.0.mlp.c_proj.weight",
        "ln_f.bias",
        "ln_f.weight",
        "wpe.weight",
        "wte.weight",
    ];
    assert_eq!(keys, expected);
    let layers: Vec<&str> = network
        .layers()
        .iter()
        .map(|node| node.key.as_str())
        .collect();
    assert_eq!(
        layers,
        ["embed", "h.0.attn", "h.0.mlp", "ln_f", "lm_head", "loss"]
    );
}

#[test]
fn a_gpt_counts_its_parameters() {
    for (tied, biases) in [(true, true), (true, false), (false, true), (false, false)] {
        let gpt = small(tied, biases);
        let held = params(&gpt.network().unwrap());
        let counted: usize = held
            .values()
            .map(|axes| axes.iter().product::<usize>())
            .sum();
        assert_eq!(gpt.parameters(), counted as u64, "{gpt:?}");
        assert_eq!(held.contains_key("lm_head.weight"), !tied);
    }
}

#[test]
fn a_gpt_without_blocks_is_still_a_network() {
    let gpt = Gpt {
        blocks: 0,
        ..small(true, true)
    };
    assert_eq!(gpt.network().unwrap().layers().len(), 4);
}

#[test]
fn a_sequence_may_be_shorter_than_the_context_but_not_longer() {
    let network = small(true, true).network().unwrap();
    let embed = &network.layers()[0].spec;
    let of = |length| embed.output_specs(&[TensorSpec::i32([3, length])]);
    assert_eq!(of(4).unwrap(), [TensorSpec::f32([3, 4, 8])]);
    assert!(of(7).unwrap_err().to_string().contains("at most 6"));
    let how = How {
        first_row: 2,
        ..PLAIN
    };
    for node in &network.layers()[1..3] {
        let run = pass(
            node.spec.as_ref(),
            &[],
            &wave([3, 4, 8], 0.3).into(),
            None,
            how,
        )
        .unwrap();
        assert_eq!(run.outputs[0].len(), 96);
    }
    let longer = pass(embed.as_ref(), &[], &ids([3, 7], 11).into(), None, PLAIN);
    assert!(matches!(longer, Err(LayerError::Shape { .. })));
}

#[test]
fn a_gpt_that_cannot_be_says_what_would_help() {
    let problem = |gpt: Gpt| gpt.network().unwrap_err().to_string();
    let text = problem(Gpt {
        width: 10,
        heads: 4,
        ..Gpt::default()
    });
    assert!(text.contains("make it 8 or 12"), "{text}");
    assert!(
        problem(Gpt {
            vocab: 0,
            ..Gpt::default()
        })
        .contains("vocab is 0")
    );
    assert!(
        problem(Gpt {
            dropout: 1.0,
            ..Gpt::default()
        })
        .contains("below 1")
    );
}

#[test]
fn an_mlp_is_a_chain_of_linear_layers_and_activations() {
    let mlp = Mlp::new([4, 8, 3]).activation(Activation::Relu);
    let network = mlp.network(MeanSquaredError, TensorSpec::f32([3])).unwrap();
    let layers: Vec<&str> = network
        .layers()
        .iter()
        .map(|node| node.key.as_str())
        .collect();
    assert_eq!(layers, ["fc0", "act0", "fc1", "loss"]);
    let counted: usize = params(&network)
        .values()
        .map(|axes| axes.iter().product::<usize>())
        .sum();
    assert_eq!(mlp.parameters(), counted as u64);
    assert!(
        mlp.network(CrossEntropy::new(), TensorSpec::f32([3]))
            .is_err()
    );
    assert!(
        Mlp::new([4])
            .network(MeanSquaredError, TensorSpec::f32([4]))
            .is_err()
    );
}

#[test]
fn configurations_are_data() {
    let gpt: Gpt = serde_json::from_str(r#"{"blocks": 3, "dropout": 0.1}"#).unwrap();
    assert_eq!(
        gpt,
        Gpt {
            blocks: 3,
            dropout: 0.1,
            ..Gpt::default()
        }
    );
    assert!(serde_json::from_str::<Gpt>(r#"{"depth": 3}"#).is_err());
    let mlp: Mlp = serde_json::from_str(r#"{"widths": [2, 2], "activation": "relu"}"#).unwrap();
    assert_eq!(mlp, Mlp::new([2, 2]).activation(Activation::Relu));
}

#[test]
fn networks_of_images_that_cannot_be_say_what_is_wrong() {
    let problem = |network: Result<Network, LayerError>| network.unwrap_err().to_string();
    let resnet = |image| ResNet::resnet18(image, 10);
    let blocks = |blocks| ResNet {
        blocks,
        ..ResNet::default()
    };
    let groups = |groups| Vgg {
        groups,
        ..Vgg::vgg16([32, 32, 3], 10)
    };
    let most = usize::MAX;
    for (network, named) in [
        (resnet([0, 32, 3]).network(), "height of images is 0"),
        (resnet([32, 32, most]).network(), "channels of images"),
        (ResNet::resnet50([32, 32, 3], 0).network(), "classes is 0"),
        (blocks(vec![most, 2]).network(), "the most is"),
        (blocks(vec![1; 21]).network(), "number of groups is 21"),
        (Vgg::vgg16([16, 32, 3], 10).network(), "use larger images"),
        (groups(vec![vec![8, most]]).network(), "channels is"),
        (groups(vec![vec![0]]).network(), "channels is 0"),
        (groups(vec![]).network(), "number of groups is 0"),
    ] {
        let text = problem(network);
        assert!(text.contains(named), "{named}: {text}");
    }
    let unet = UNet {
        width: most,
        depth: most,
        ..UNet::default()
    };
    assert_eq!(unet.parameters(), u64::MAX);
    assert!(problem(unet.network()).contains("depth is"));
}
