//! Promise: it fits, or it says so first, for encoder-decoders too: what is predicted before
//! training bounds what is held.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;
#[path = "common/translations.rs"]
mod translations;

use brigade::nn::EncoderDecoder;
use common::fitting::stays_within_many_plans;
use translations::{PADDING, Sorting};

#[test]
fn encoder_decoders_hold_no_more_than_planned_on_any_number_of_nodes() {
    let mut least = f64::MAX;
    // Where each part takes most: attention of long sequences, to long ones, wide halves, tokens.
    let shapes = [
        (16, 40, [90, 80], 29, [1, 2]),
        (16, 24, [200, 8], 11, [2, 1]),
        (16, 96, [8, 9], 11, [1, 3]),
        (8, 24, [4, 4], 600, [1, 1]),
    ];
    for (width, inner, lengths, vocab, [encoder_blocks, decoder_blocks]) in shapes {
        let network = EncoderDecoder {
            vocab,
            source_context: lengths[0],
            context: lengths[1],
            padding: Some(PADDING),
            width,
            inner: Some(inner),
            heads: 2,
            encoder_blocks,
            decoder_blocks,
            dropout: 0.1,
            ..EncoderDecoder::default()
        };
        let network = network.network().unwrap();
        let data = Sorting {
            rows: 13,
            lengths,
            vocab: vocab as u64,
        };
        least = least.min(stays_within_many_plans(&network, &data));
    }
    println!("the least that a node held of what was predicted: {least:.2}");
}
