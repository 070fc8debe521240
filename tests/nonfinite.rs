//! Promise: numbers that are none never reach the weights. A loss or a gradient that is infinite or
//! not a number is found before anything is updated, and named with step, layer and stage; where
//! such steps are skipped, the same ones are on any number of nodes, and leave no trace.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use brigade::layer::*;
use brigade::{Cause, Config, Cuts, Error, OnNonFinite, Recompute, ScheduleKind, Trainer};
use brigade::{StepReport, Transport, nn};
use common::*;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The steps of other data in another order; nothing but huge numbers where none is named.
#[derive(Clone, Debug)]
struct Steps<D> {
    data: D,
    order: Vec<Option<u64>>,
}

impl<D: Data> Steps<D> {
    fn at(&self, step: StepId) -> Option<StepId> {
        self.order[step.index()].map(StepId::new)
    }
}

impl<D: Data> Data for Steps<D> {
    fn rows(&self, step: StepId) -> usize {
        self.data.rows(step)
    }
    fn inputs(&self, step: StepId, rows: Range<usize>) -> Result<Tensors, LayerError> {
        match self.at(step) {
            Some(step) => self.data.inputs(step, rows),
            None => Ok(Tensor::from_vec([rows.len(), 6], vec![1e38f32; 6 * rows.len()])?.into()),
        }
    }
    fn targets(&self, step: StepId, rows: Range<usize>) -> Result<Tensors, LayerError> {
        self.data.targets(self.at(step).unwrap_or_default(), rows)
    }
}

/// Seven steps, of which three have no numbers: the toy's gradient, a micro-batch that the toy
/// spoils, and inputs that overflow.
fn three_of_seven() -> (Network, Steps<Numbers>) {
    let network = chain_with(Toy {
        params: 1,
        infinite_gradient_at: Some(1),
        not_a_number_at: Some((3, 2)),
        ..toy()
    });
    let order = (0..7).map(|step| (step != 4).then_some(step)).collect();
    let data = numbers(13);
    (network, Steps { data, order })
}

fn skipping(config: Config) -> Config {
    Config {
        on_nonfinite: OnNonFinite::Skip,
        ..config
    }
}

/// What must not depend on the number of nodes, of a step.
type Found = (u64, u64, Option<(bool, u32, String)>);

fn found(report: &StepReport) -> Found {
    // Which of the many numbers that are none it is, is not promised.
    let bits = |x: f64| if x.is_nan() { u64::MAX } else { x.to_bits() };
    let skipped = report.skipped.as_ref();
    let skipped = skipped.map(|what| (what.loss.is_some(), what.layer.get(), what.key.clone()));
    (bits(report.loss), bits(report.gradient_norm), skipped)
}

/// Trains; no skipped step may change a weight, and every other does.
fn trained(config: &Config) -> (Vec<Found>, String) {
    let (network, data) = three_of_seven();
    let mut trainer = Trainer::start(&network, config, adamw()).unwrap();
    let mut sha = trainer.weights_sha256().unwrap();
    let mut all = Vec::new();
    for step in 0..7 {
        let report = trainer.step(&data).unwrap();
        assert_eq!(report.step.get(), step);
        let after = trainer.weights_sha256().unwrap();
        assert_eq!(after == sha, report.skipped.is_some(), "{report:?}");
        sha = after;
        all.push(found(&report));
    }
    (all, sha)
}

#[test]
fn the_same_steps_are_skipped_on_any_number_of_nodes() {
    let one = trained(&skipping(with(1, ScheduleKind::GPipe, Cuts::Balanced, 1)));
    let skipped: Vec<_> = one.0.iter().map(|step| step.2.clone()).collect();
    let bad = |is_loss, layer, key: &str| Some((is_loss, layer, key.to_owned()));
    let loss = || bad(true, 5, "loss");
    let wanted = [None, bad(false, 2, "toy"), None, loss(), loss(), None, None];
    assert_eq!(skipped, wanted);
    let mut tried = 0;
    for schedule in ScheduleKind::ALL {
        for nodes in [1, 2, 4] {
            let config = skipping(with(nodes, schedule, Cuts::Balanced, 1));
            if !is_legal(&three_of_seven().0, &config) {
                continue;
            }
            let encoded = Config {
                transport: Transport::Encoded,
                ..config.clone()
            };
            let again = Config {
                recompute: Recompute::Always,
                ..config.clone()
            };
            for config in [config, encoded, again] {
                assert_eq!(trained(&config), one, "{config:?}");
                tried += 1;
            }
        }
    }
    assert!(tried >= 60, "{tried}");
}

/// A step that is skipped leaves nothing behind, neither in the optimizer's state nor in buffers
/// that are used again: without it, training comes to the same. (Momentum does not look at the
/// number of a step.)
#[test]
fn a_skipped_step_might_as_well_not_have_been() {
    let sgd = || nn::Sgd {
        momentum: 0.9,
        ..nn::Sgd::new(1e-2)
    };
    for precision in [Precision::F32, Precision::Bf16] {
        for nodes in [1, 3] {
            let config = skipping(Config {
                precision,
                wire: precision,
                transport: Transport::Encoded,
                ..with(nodes, ScheduleKind::OneFOneB, Cuts::Balanced, 2)
            });
            let weights = |toy: Toy, order: &[u64]| {
                let (order, data) = (order.iter().copied().map(Some).collect(), words());
                let data = Steps { data, order };
                let mut trainer = Trainer::start(&transformer(toy), &config, sgd()).unwrap();
                let step = |_: &usize| trainer.step(&data).unwrap().skipped.is_some();
                let skipped = (0..data.order.len()).filter(step).count();
                (skipped, trainer.weights_sha256().unwrap())
            };
            let without = weights(toy(), &[0, 1, 2]);
            for (order, at) in [([9, 0, 1, 2], 0), ([0, 9, 1, 2], 1), ([0, 1, 9, 2], 2)] {
                let spoils = Toy {
                    not_a_number_at: Some((at, 1)),
                    ..toy()
                };
                let with = weights(spoils, &order);
                assert_eq!((with.0, without.0), (1, 0));
                assert_eq!(with.1, without.1, "{nodes} nodes, {precision:?}, step {at}");
            }
        }
    }
}

fn words() -> Tokens {
    Tokens {
        rows: 13,
        context: 64,
        vocab: 96,
    }
}

/// Large enough for every way of computing products, with a toy in front of the block and a tied
/// head.
fn transformer(toy: Toy) -> Network {
    let width = 128;
    let row = TensorSpec::i32([64]);
    let norm = || nn::LayerNorm::new(width);
    let attention = nn::CausalSelfAttention::new(width, 2);
    let wider = nn::Linear::new(width, 4 * width);
    let (table, init) = (SharedId::new(0), Init::Normal(0.02));
    let embed = nn::Embedding::new(96, width).init(init).shared(table);
    let head = nn::Linear::new(width, 96)
        .without_bias()
        .init(init)
        .shared(table);
    let narrower = nn::Linear::new(4 * width, width);
    let mlp = nn::FeedForward::new(wider, nn::Activation::GeluTanh, narrower);
    Network::builder()
        .input(row)
        .target(row)
        .layer("embed", embed)
        .layer("toy", toy)
        .layer(
            "attn",
            nn::Residual::new(nn::Chain::new("ln", norm(), "attn", attention)),
        )
        .layer(
            "mlp",
            nn::Residual::new(nn::Chain::new("ln", norm(), "mlp", mlp)),
        )
        .layer("head", head)
        .loss("loss", nn::CrossEntropy::new())
        .build()
        .unwrap()
}

/// Counts its updates.
#[derive(Clone, Debug, Default)]
struct Counting(Arc<AtomicU64>);

impl Optimizer for Counting {
    fn state_names(&self) -> &[&'static str] {
        &[]
    }
    fn learning_rate(&self, _: StepId) -> f64 {
        0.0
    }
    fn update(&self, _: Update<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Unless they are skipped, such steps are errors on all nodes, and nobody has begun to update.
#[test]
fn a_step_without_numbers_is_an_error_that_names_step_layer_and_stage() {
    let toys = [
        (
            Toy {
                not_a_number_at: Some((3, 1)),
                ..toy()
            },
            "the loss of layer 5 (loss) of stage",
            "is NaN; lower the learning rate",
        ),
        (
            Toy {
                infinite_gradient_at: Some(3),
                ..toy()
            },
            "the gradient of layer 2 (toy) of stage",
            "is not finite; lower the learning rate",
        ),
    ];
    for (toy, what, how) in toys {
        let network = chain_with(Toy { params: 1, ..toy });
        for nodes in [1, 2, 4] {
            let config = with(nodes, ScheduleKind::OneFOneB, Cuts::Balanced, 1);
            let counting = Counting::default();
            let mut trainer = Trainer::start(&network, &config, counting.clone()).unwrap();
            for _ in 0..3 {
                trainer.step(&numbers(13)).unwrap();
            }
            let updates = counting.0.load(Ordering::Relaxed);
            let Error::Run(error) = trainer.step(&numbers(13)).unwrap_err() else {
                panic!()
            };
            let Cause::NonFinite(bad) = &error.cause else {
                panic!("{error}")
            };
            let partition = &trainer.plan().partition;
            assert_eq!(bad.stage, partition.stage_of(bad.layer), "{error}");
            let wanted = format!("{what} {} {how}", bad.stage);
            let text = error.to_string();
            assert!(
                text.starts_with("step 3, node ") && text.contains(&wanted),
                "{text}"
            );
            assert_eq!(trainer.errors().len(), nodes, "{:?}", trainer.errors());
            for error in trainer.errors() {
                assert!(error.to_string().contains(&wanted), "{error}");
            }
            assert!(trainer.step(&numbers(13)).is_err(), "it stays failed");
            assert_eq!(
                counting.0.load(Ordering::Relaxed),
                updates,
                "nobody updates"
            );
            assert_eq!(updates, 3 * 9, "nine parameters");
        }
    }
}
