//! Promise: an encoder-decoder, whose decoder's blocks all read what the encoder puts out, trains
//! to the same numbers bit for bit, whatever the partition, schedule, number of nodes and threads,
//! transport and recomputation; it learns; and it does not generate, which it cannot.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;
#[path = "common/translations.rs"]
mod translations;

use brigade::layer::{Network, Precision, TensorSpec};
use brigade::nn::EncoderDecoder;
use brigade::{Config, Cuts, Generation, ScheduleKind, Trainer, nn};
use common::precisions::from_any_pipeline;
use common::*;
use std::ops::ControlFlow;
use translations::{PADDING, Sorting};

const STEPS: usize = 4;

/// Padded sources, one table for all tokens or three, dropout: 14 layers, of which two read the
/// memory.
fn small_network(tied: bool) -> (Network, Sorting) {
    let network = EncoderDecoder {
        vocab: 29,
        source_context: 9,
        context: 8,
        padding: Some(PADDING),
        width: 16,
        heads: 2,
        encoder_blocks: 1,
        decoder_blocks: 2,
        tied,
        biases: tied,
        dropout: 0.1,
        ..EncoderDecoder::default()
    };
    let data = Sorting {
        rows: 13,
        lengths: [9, 8],
        vocab: 29,
    };
    (network.network().unwrap(), data)
}

#[test]
fn weights_losses_and_norms_do_not_depend_on_nodes_schedule_or_threads() {
    for tied in [true, false] {
        let (network, data) = small_network(tied);
        assert_eq!(network.layers().len(), 14);
        let pairs = [(1, 2), (2, 1), (3, 1), (4, 2), (7, 1), (14, 1)];
        independence::of_nodes_and_threads(&network, (&data, STEPS), &pairs);
    }
}

#[test]
fn they_do_not_depend_on_cuts_transport_or_recomputation() {
    let (network, data) = small_network(true);
    independence::of_cuts_transport_and_recomputation(&network, (&data, STEPS));
}

/// Heads that are computed in every way there is here.
#[test]
fn neither_precision_nor_rounded_messages_let_the_cut_show() {
    let network = EncoderDecoder {
        vocab: 96,
        source_context: 80,
        context: 64,
        padding: Some(PADDING),
        width: 64,
        heads: 2,
        encoder_blocks: 1,
        decoder_blocks: 2,
        dropout: 0.1,
        ..EncoderDecoder::default()
    };
    let network = network.network().unwrap();
    let data = Sorting {
        rows: 13,
        lengths: [80, 64],
        vocab: 96,
    };
    for precision in [Precision::F32, Precision::Bf16] {
        from_any_pipeline(&network, (precision, precision), &data);
    }
}

/// Numbers of one digit in order, of sources it has not seen.
#[test]
fn it_learns_to_sort() {
    let network = EncoderDecoder {
        vocab: 12,
        source_context: 8,
        context: 8,
        padding: Some(PADDING),
        width: 32,
        heads: 4,
        encoder_blocks: 1,
        decoder_blocks: 1,
        ..EncoderDecoder::default()
    };
    let network = network.network().unwrap();
    let data = Sorting {
        rows: 64,
        lengths: [8, 8],
        vocab: 12,
    };
    let config = Config {
        batch_size: 64,
        micro_batch_size: 16,
        ..with(2, ScheduleKind::OneFOneB, Cuts::Balanced, 1)
    };
    let rule = nn::AdamW::new(nn::LearningRate::Constant { lr: 5e-3 });
    let mut trainer = Trainer::start(&network, &config, rule).unwrap();
    let accuracy = |trainer: &mut Trainer| {
        let evaluation = trainer.evaluate(&data).unwrap();
        evaluation.metrics[0].1.unwrap()
    };
    assert!(accuracy(&mut trainer) < 0.3);
    for _ in 0..400 {
        trainer.step(&data).unwrap();
    }
    let learned = accuracy(&mut trainer);
    assert!(learned > 0.95, "{learned}");
}

/// The decoder would need the source, too: refused before anything happens, and training goes on.
#[test]
fn it_does_not_generate() {
    let (network, data) = small_network(true);
    let config = config(2);
    let named = |text: String| assert!(text.contains("inputs i32[9], i32[8]"), "{text}");
    let on = |_| ControlFlow::Continue(());
    let generate = |trainer: &mut Trainer| {
        let choose = |_: &[f32], _| Ok(2);
        let generated = trainer.generate(&[1], &Generation::default(), choose, on);
        named(generated.unwrap_err().to_string());
        named(trainer.sequence().err().unwrap().to_string());
    };
    let mut trainer = Trainer::start(&network, &config, adamw()).unwrap();
    generate(&mut trainer);
    trainer.step(&data).unwrap();
    let mut trainer = Trainer::start_inference(&network, &config).unwrap();
    generate(&mut trainer);
    trainer.evaluate(&data).unwrap();
}

/// Attention to all positions would see what comes later, however the network is put together.
#[test]
fn neither_does_an_encoder_alone() {
    let row = TensorSpec::i32([8]);
    let network = Network::builder()
        .input(row)
        .target(row)
        .layer("embed", nn::Embedding::new(11, 16))
        .layer("attention", nn::MultiHeadAttention::new(16, 2))
        .layer("head", nn::Linear::new(16, 11))
        .loss("loss", nn::CrossEntropy::new());
    let network = network.build().unwrap();
    let mut trainer = Trainer::start(&network, &config(2), adamw()).unwrap();
    let mut sequence = trainer.sequence().unwrap();
    let text = sequence.push(&[1, 2]).unwrap_err().to_string();
    assert!(
        text.contains("attention") && text.contains("piece by piece"),
        "{text}"
    );
}
