//! The encoder-decoder describes itself truthfully, and refuses what cannot be meant.

use brigade_layer::{From, LayerError, Network, TensorSpec};
use brigade_nn::{CrossEntropy, EncoderDecoder};

fn small() -> EncoderDecoder {
    EncoderDecoder {
        vocab: 11,
        source_context: 7,
        context: 6,
        width: 8,
        heads: 2,
        encoder_blocks: 1,
        decoder_blocks: 2,
        ..EncoderDecoder::default()
    }
}

fn elements(network: &Network) -> u64 {
    let params = network.params().into_iter();
    params.map(|(_, param)| param.shape.elements() as u64).sum()
}

#[test]
fn its_parameters_are_those_of_its_layers() {
    for (tied, biases) in [(true, true), (true, false), (false, true), (false, false)] {
        for source_vocab in [None, Some(17)] {
            for padding in [None, Some(3)] {
                let network = EncoderDecoder {
                    tied,
                    biases,
                    source_vocab,
                    padding,
                    inner: Some(20),
                    ..small()
                };
                let built = network.network().unwrap();
                assert_eq!(network.parameters(), elements(&built), "{network:?}");
                let tables = usize::from(tied) * (2 - usize::from(source_vocab.is_some()));
                let tables = ["encoder.wte", "decoder.wte", "lm_head"].len() - tables;
                let keys = built.params().into_iter().map(|(key, _)| key);
                let of_tokens = |key: &String| key.contains("wte") || key.contains("lm_head");
                assert_eq!(keys.filter(of_tokens).count(), tables, "{network:?}");
            }
        }
    }
}

#[test]
fn every_block_of_the_decoder_reads_the_memory() {
    let padded = EncoderDecoder {
        padding: Some(0),
        ..small()
    };
    let network = padded.network().unwrap();
    let keys: Vec<_> = network
        .layers()
        .iter()
        .map(|node| node.key.as_str())
        .collect();
    let expected = [
        "encoder.embed",
        "encoder.h.0.attn",
        "encoder.h.0.mlp",
        "encoder.ln_f",
        "decoder.embed",
        "decoder.h.0.attn",
        "decoder.h.0.cross_attn",
        "decoder.h.0.mlp",
        "decoder.h.1.attn",
        "decoder.h.1.cross_attn",
        "decoder.h.1.mlp",
        "decoder.ln_f",
        "lm_head",
        "loss",
    ];
    assert_eq!(keys, expected);
    let memory = network.edges().iter().filter(|edge| edge.from.index() == 3);
    let readers: Vec<_> = memory
        .map(|edge| (edge.to.index(), edge.gradient))
        .collect();
    assert_eq!(readers, [(6, true), (9, true)]);
    let inputs = |layer: usize| network.layers()[layer].inputs.len();
    assert_eq!([1, 5, 6].map(inputs), [2, 1, 3]);
    let first = network.params().into_iter().map(|(key, _)| key);
    let cross: Vec<_> = first.filter(|key| key.contains("h.1.cross")).collect();
    let name = |part: &str| format!("decoder.h.1.crossattention.{part}");
    let parts = ["q_attn", "c_attn", "c_proj"]
        .map(|part| ["weight", "bias"].map(|of| name(&format!("{part}.{of}"))));
    assert_eq!(cross, parts.as_flattened());
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let refused = |network: EncoderDecoder| network.network().unwrap_err().to_string();
    let cases: [(EncoderDecoder, &str); 8] = [
        (
            EncoderDecoder {
                vocab: 0,
                ..small()
            },
            "vocab is 0",
        ),
        (
            EncoderDecoder {
                source_vocab: Some(0),
                ..small()
            },
            "source_vocab is 0",
        ),
        (
            EncoderDecoder {
                source_context: 0,
                ..small()
            },
            "source_context is 0",
        ),
        (
            EncoderDecoder {
                heads: 3,
                ..small()
            },
            "make it 6 or 9",
        ),
        (
            EncoderDecoder {
                decoder_blocks: 0,
                ..small()
            },
            "decoder_blocks is 0",
        ),
        (
            EncoderDecoder {
                encoder_blocks: 200_000,
                ..small()
            },
            "blocks",
        ),
        (
            EncoderDecoder {
                padding: Some(11),
                ..small()
            },
            "padding is 11",
        ),
        (
            EncoderDecoder {
                dropout: 1.0,
                ..small()
            },
            "probability",
        ),
    ];
    for (network, named) in cases {
        let text = refused(network);
        assert!(text.contains(named), "{text}");
    }
    let negative = EncoderDecoder {
        padding: Some(-1),
        ..small()
    };
    assert!(refused(negative).contains("0 to 10"));
}

/// Nobody but who says so reads a memory.
#[test]
fn a_memory_that_does_not_fit_is_named() {
    let row = TensorSpec::f32([6, 8]);
    let cross = brigade_nn::MultiHeadAttention::new(8, 2).memory(9);
    let network = Network::builder()
        .input(row)
        .input(TensorSpec::f32([5, 8]))
        .target(TensorSpec::i32([6]))
        .layer_from("cross", cross, &[From::Input(0), From::Input(1)])
        .loss("loss", CrossEntropy::new())
        .build();
    let Err(LayerError::InLayer { .. }) = &network else {
        panic!("{network:?}")
    };
    let text = network.unwrap_err().to_string();
    assert!(
        text.contains("cross") && text.contains("[1, at least 1, 9]"),
        "{text}"
    );
}
