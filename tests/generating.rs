//! Promise: a sequence in pieces is the whole sequence, and the same tokens come from any pipeline.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use brigade::layer::*;
use brigade::{Config, Cuts, Generation, ScheduleKind, Trainer, Transport, WhenFull, nn};
use common::history::*;
use common::*;
use std::ops::ControlFlow;

fn likeliest(logits: &[f32], _: u64) -> Result<i32, LayerError> {
    let mut best = 0;
    for (at, logit) in logits.iter().enumerate() {
        best = if *logit > logits[best] { at } else { best };
    }
    Ok(best as i32)
}

/// The logits of the last position, bit by bit, however the sequence was cut: also where it is
/// longer than the pieces that the engine makes.
#[test]
fn pieces_are_the_whole() {
    let context = 600;
    let network = summing(context);
    for nodes in [1, 2, 3] {
        let config = Config { nodes, ..one_row() };
        let mut trainer = Trainer::start_inference(&network, &config).unwrap();
        let text = prompt(context);
        let row = Tensor::from_vec([1, context], text.clone()).unwrap();
        let whole = trainer
            .predict(&Batch::new(row.clone(), row).unwrap())
            .unwrap();
        let at = |position: usize| {
            let logits = &whole.f32().unwrap()[position * VOCABULARY..][..VOCABULARY];
            logits
                .iter()
                .map(|logit| logit.to_bits())
                .collect::<Vec<_>>()
        };
        for pieces in [
            vec![600],
            vec![1; 40],
            vec![5, 1, 300, 1, 256, 37],
            vec![599, 1],
        ] {
            let mut sequence = trainer.sequence().unwrap();
            for piece in pieces {
                let from = sequence.len();
                let logits = sequence.push(&text[from..from + piece]).unwrap();
                let bits: Vec<_> = logits.iter().map(|logit| logit.to_bits()).collect();
                assert_eq!(bits, at(sequence.len() - 1), "after {}", sequence.len());
            }
        }
    }
}

#[test]
fn the_tokens_are_the_same_from_any_pipeline() {
    let network = storyteller(300, History::default());
    let text = prompt(270);
    let mut one = Trainer::start_inference(&network, &one_row()).unwrap();
    let expected = [
        tokens(&mut one, &text, 80),
        tokens(&mut one, &text[..7], 12),
    ];
    let mut seen = 0;
    for stages in [1, 2, 3, 4, 6] {
        for (schedule, nodes) in on_stages(stages) {
            for (threads, transport) in [(1, Transport::Local), (2, Transport::Encoded)] {
                let config = Config {
                    nodes,
                    schedule,
                    threads_per_node: threads,
                    transport,
                    ..one_row()
                };
                let mut trainer = Trainer::start_inference(&network, &config).unwrap();
                let both = [&text[..], &text[..7]].map(|text| text.to_vec());
                let both =
                    [(&both[0], 80), (&both[1], 12)].map(|(text, n)| tokens(&mut trainer, text, n));
                assert_eq!(both, expected, "{schedule} on {nodes} nodes");
                seen += 1;
            }
        }
    }
    assert!(seen > 30, "{seen} pipelines");
}

/// Wherever it is cut, the head from its loss included, and with tensors that travel in bf16.
#[test]
fn cuts_do_not_matter() {
    for wire in [Precision::F32, Precision::Bf16] {
        let config = Config { wire, ..one_row() };
        let network = storyteller(300, History::default());
        let mut one = Trainer::start_inference(&network, &config).unwrap();
        let expected = tokens(&mut one, &prompt(280), 40);
        for cuts in [vec![1, 7], vec![6, 7], vec![2, 4], vec![3, 5]] {
            let config = Config {
                nodes: 3,
                cuts: Cuts::Before(cuts.clone()),
                transport: Transport::Encoded,
                ..config.clone()
            };
            let mut trainer = Trainer::start_inference(&network, &config).unwrap();
            assert_eq!(tokens(&mut trainer, &prompt(280), 40), expected, "{cuts:?}");
        }
    }
}

/// Whoever trains can generate in between, and trains on as if nothing had been.
#[test]
fn training_goes_on_after_generating() {
    let network = storyteller(8, History::default());
    let data = Tokens {
        rows: 13,
        context: 8,
        vocab: VOCABULARY as u64,
    };
    for schedule in [ScheduleKind::OneFOneB, ScheduleKind::ZbV] {
        let config = with(2, schedule, Cuts::Balanced, 1);
        let losses = |between: bool| {
            let mut trainer = Trainer::start(&network, &config, adamw()).unwrap();
            let mut losses = Vec::new();
            for _ in 0..3 {
                losses.push(trainer.step(&data).unwrap().loss.to_bits());
                if between {
                    tokens(&mut trainer, &prompt(5), 30);
                }
            }
            losses.push(trainer.evaluate(&data).unwrap().loss.to_bits());
            (losses, trainer.weights_sha256().unwrap())
        };
        assert_eq!(losses(true), losses(false), "{schedule}");
    }
}

#[test]
fn a_full_context_goes_on_from_its_last_half_or_ends() {
    let context = 12;
    let network = storyteller(context, History::default());
    let mut trainer = Trainer::start_inference(&network, &one_row()).unwrap();
    let text = prompt(30);
    let on = |_| ControlFlow::Continue(());
    let mut generation = Generation {
        tokens: 40,
        ..Generation::default()
    };
    let all = trainer.generate(&text, &generation, wild, on).unwrap();
    assert_eq!((all.tokens.len(), all.restarts), (40, 6));
    // By hand.
    let mut sequence = trainer.sequence().unwrap();
    let mut text = text[18..].to_vec();
    let mut new = 0;
    for (draw, token) in all.tokens.iter().enumerate() {
        if sequence.len() + text.len() - new > context {
            sequence.restart();
            new = text.len() - context / 2;
        }
        let logits = sequence.push(&text[new..]).unwrap();
        assert_eq!(wild(&logits, draw as u64).unwrap(), *token);
        new = text.len();
        text.push(*token);
    }
    drop(sequence);
    generation.when_full = WhenFull::Stop;
    let ended = trainer.generate(&prompt(5), &generation, wild, on).unwrap();
    assert_eq!((ended.tokens.len(), ended.restarts), (context - 5 + 1, 0));
}

#[test]
fn it_stops_where_it_is_asked_to() {
    let network = storyteller(50, History::default());
    let mut trainer = Trainer::start_inference(&network, &one_row()).unwrap();
    let all = tokens(&mut trainer, &prompt(4), 20);
    let mut left = 7;
    let generation = Generation::default();
    let seven = trainer.generate(&prompt(4), &generation, wild, |_| {
        left -= 1;
        if left == 0 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    assert_eq!(seven.unwrap().tokens, all[..7]);
    let stop = Generation {
        stop_at: vec![all[9]],
        ..Generation::default()
    };
    let on = |_| ControlFlow::Continue(());
    let stopped = trainer.generate(&prompt(4), &stop, wild, on).unwrap();
    let end = all.iter().position(|token| *token == all[9]).unwrap();
    assert_eq!(stopped.tokens, all[..=end]);
}

/// A choice that looks at the logits sees what the caller of `push` sees.
#[test]
fn the_likeliest_of_what_is_pushed_is_what_is_generated() {
    let network = storyteller(30, History::default());
    let mut trainer = Trainer::start_inference(&network, &one_row()).unwrap();
    let on = |_| ControlFlow::Continue(());
    let generation = Generation {
        tokens: 10,
        ..Generation::default()
    };
    let all = trainer
        .generate(&prompt(4), &generation, likeliest, on)
        .unwrap();
    let mut sequence = trainer.sequence().unwrap();
    let mut next = prompt(4);
    for token in all.tokens {
        let logits = sequence.push(&next).unwrap();
        assert_eq!(likeliest(&logits, 0).unwrap(), token);
        next = vec![token];
    }
}

/// The layer that predicts is given tokens, not numbers: it sees all of a piece.
#[test]
fn a_table_of_what_follows_generates() {
    let table = Network::builder()
        .input(TensorSpec::i32([30]))
        .target(TensorSpec::i32([30]))
        .layer("table", nn::Embedding::new(VOCABULARY, VOCABULARY))
        .loss("loss", nn::CrossEntropy::new());
    let mut trainer = Trainer::start_inference(&table.build().unwrap(), &one_row()).unwrap();
    let generation = Generation {
        tokens: 8,
        ..Generation::default()
    };
    let on = |_| ControlFlow::Continue(());
    let text = prompt(9);
    let tokens = trainer.generate(&text, &generation, likeliest, on).unwrap();
    assert_eq!(tokens.tokens.len(), 8);
}

/// A loss of whole sequences.
#[derive(Debug)]
struct OfAll(nn::CrossEntropy);

impl LayerSpec for OfAll {
    type Layer = nn::CrossEntropyLayer;
    fn outputs(&self, inputs: &[TensorSpec]) -> Result<Vec<TensorSpec>, LayerError> {
        match inputs[0].shape.axes()[1] {
            30 => self.0.outputs(inputs),
            _ => Err(LayerError::spec("loss", "it takes all 30 positions")),
        }
    }
    fn cost(&self, inputs: &[TensorSpec]) -> Cost {
        self.0.cost(inputs)
    }
    fn build(&self, cx: &BuildCtx<'_>) -> Result<Self::Layer, LayerError> {
        self.0.build(cx)
    }
    fn loss_terms(&self, targets: &Tensors) -> Result<f64, LayerError> {
        self.0.loss_terms(targets)
    }
}

/// Whatever the loss wants, it takes no part.
#[test]
fn a_loss_of_whole_sequences_is_in_nobodys_way() {
    let network = Network::builder()
        .input(TensorSpec::i32([30]))
        .target(TensorSpec::i32([30]))
        .layer("embed", nn::Embedding::new(VOCABULARY, 8))
        .layer("head", nn::Linear::new(8, VOCABULARY))
        .loss("loss", OfAll(nn::CrossEntropy::new()));
    let mut trainer = Trainer::start_inference(&network.build().unwrap(), &one_row()).unwrap();
    let generation = Generation {
        tokens: 3,
        ..Generation::default()
    };
    let on = |_| ControlFlow::Continue(());
    let generated = trainer.generate(&prompt(5), &generation, likeliest, on);
    assert_eq!(generated.unwrap().tokens.len(), 3);
}
