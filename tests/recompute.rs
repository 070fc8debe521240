//! Promise: what is computed again in the backward pass gives the same numbers bit for bit, and is
//! computed no more often than that.
// A segment is a range, and one of them is a list of one.
#![allow(missing_docs, clippy::unwrap_used, clippy::single_range_in_vec_init)]

mod common;

use brigade::layer::*;
use brigade::{Config, Cuts, Error, Plan, PlanError, Recompute, ScheduleKind, Trainer, nn};
use common::*;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

fn recomputing(recompute: Recompute, config: Config) -> Config {
    Config {
        recompute,
        ..config
    }
}

/// All ways for a network of so many layers in so many stages.
fn ways(layers: usize, stages: usize) -> Vec<Recompute> {
    let alternating = (0..stages).map(|stage| stage % 2 == 0).collect();
    let pairs = (0..layers / 2).map(|pair| 2 * pair..2 * pair + 2).collect();
    vec![
        Recompute::Never,
        Recompute::ExceptLast,
        Recompute::Always,
        ranges(&[1..layers]),
        Recompute::Layers(pairs),
        Recompute::Stages(alternating),
    ]
}

fn ranges(ranges: &[Range<usize>]) -> Recompute {
    Recompute::Layers(ranges.to_vec())
}

/// With dropout and a tied head, on every schedule.
#[test]
fn weights_and_losses_do_not_depend_on_what_is_recomputed() {
    let (network, data) = small_gpt();
    for wire in [Precision::F32, Precision::Bf16] {
        let of = |nodes, schedule, recompute| {
            let config = Config {
                wire,
                ..with(nodes, schedule, Cuts::Balanced, 1)
            };
            recomputing(recompute, config)
        };
        let one = of(1, ScheduleKind::GPipe, Recompute::Never);
        let one = train(&network, &one, 3, &data);
        for schedule in ScheduleKind::ALL {
            for nodes in [1, 2, 4] {
                let config = of(nodes, schedule, Recompute::Never);
                if !is_legal(&network, &config) {
                    continue;
                }
                let plan = Plan::new(&network, &config, &adamw()).unwrap();
                let stages = plan.partition.stages().index();
                for recompute in ways(network.layers().len(), stages) {
                    let config = of(nodes, schedule, recompute);
                    let found = train(&network, &config, 3, &data);
                    assert_eq!(found, one, "{config:?}");
                }
            }
        }
    }
}

/// `a` feeds three layers, `e` reads three: over segments, into them and out of them.
fn with_skips() -> Network {
    let linear = || nn::Linear::new(6, 6);
    let branches = [From::Previous, From::Layer("a"), From::Layer("b")];
    Network::builder()
        .input(TensorSpec::f32([6]))
        .target(TensorSpec::f32([6]))
        .layer("a", linear())
        .layer("b", linear())
        .layer("b2", nn::Activation::GeluTanh)
        .layer("c", linear())
        .layer_from("d", toy(), &[From::Previous, From::Layer("a")])
        .layer("d2", linear())
        .layer_from("e", toy(), &branches)
        .layer_from("f", toy(), &[From::Previous, From::Input(0)])
        .layer("g", linear())
        .loss("loss", nn::MeanSquaredError)
        .build()
        .unwrap()
}

fn same_for_all_segments(network: &Network) {
    let data = numbers(13);
    let layers = network.layers().len();
    let one = with(1, ScheduleKind::GPipe, Cuts::Uniform, 1);
    let one = train(network, &one, 3, &data);
    let kinds = [ScheduleKind::GPipe, ScheduleKind::ZbH1, ScheduleKind::ZbV];
    for (nodes, schedule) in [1, 2, 3].into_iter().zip(kinds) {
        for first in 0..layers {
            for second in first + 1..=layers {
                let recompute = match second {
                    all if all == layers => ranges(&[first..layers]),
                    _ => ranges(&[first..second, second..layers]),
                };
                let config = with(nodes, schedule, Cuts::Uniform, 1);
                let config = recomputing(recompute, config);
                let found = train(network, &config, 3, &data);
                assert_eq!(found, one, "{config:?}");
            }
        }
    }
}

#[test]
fn edges_into_out_of_and_over_segments_change_nothing() {
    same_for_all_segments(&with_skips());
}

/// The first layers take no part in the backward pass: they run again only where their outputs are
/// needed.
fn with_frozen_layers() -> Network {
    let frozen = || Toy {
        untrained: true,
        params: 1,
        ..toy()
    };
    Network::builder()
        .input(TensorSpec::f32([6]))
        .target(TensorSpec::f32([6]))
        .layer("u", nn::Activation::GeluTanh)
        .layer("v", frozen())
        .layer("w", nn::Activation::Relu)
        .layer("a", nn::Linear::new(6, 6))
        .layer_from("b", toy(), &[From::Previous, From::Layer("u")])
        .layer("c", nn::Linear::new(6, 6))
        .layer("d", frozen())
        .layer("e", nn::Dropout::new(0.2))
        .loss("loss", nn::MeanSquaredError)
        .build()
        .unwrap()
}

#[test]
fn layers_that_do_not_train_change_nothing() {
    same_for_all_segments(&with_frozen_layers());
}

/// Passes its input on and counts how often it is asked to, by mode.
#[derive(Clone, Debug, Default)]
struct Counting {
    calls: Arc<[AtomicUsize; 3]>,
}

struct CountingLayer(Counting, Param);

impl LayerSpec for Counting {
    type Layer = CountingLayer;
    fn params(&self) -> Vec<ParamSpec> {
        vec![ParamSpec::new("p", [1], ParamRole::Weight, Init::Ones)]
    }
    fn outputs(&self, inputs: &[TensorSpec]) -> Result<Vec<TensorSpec>, LayerError> {
        Ok(vec![inputs[0]])
    }
    fn cost(&self, _: &[TensorSpec]) -> Cost {
        Cost::default()
    }
    fn build(&self, cx: &BuildCtx<'_>) -> Result<CountingLayer, LayerError> {
        let param = Param::build(&self.params()[0], cx)?;
        Ok(CountingLayer(self.clone(), param))
    }
}

impl Layer for CountingLayer {
    type Stash = ();
    type Kept = ();
    fn forward(&mut self, inputs: Tensors, cx: &mut Ctx<'_>) -> Result<(Tensors, ()), LayerError> {
        let mode = match cx.mode {
            Mode::Train => 0,
            Mode::Recompute => 1,
            _ => 2,
        };
        self.0.calls[mode].fetch_add(1, Ordering::Relaxed);
        Ok((inputs, ()))
    }
    fn backward_input(
        &mut self,
        gradients: Tensors,
        (): (),
        _: &mut Ctx<'_>,
    ) -> Result<(Tensors, ()), LayerError> {
        Ok((gradients, ()))
    }
    fn backward_weight(&mut self, (): (), _: &mut Ctx<'_>) -> Result<(), LayerError> {
        Ok(())
    }
    fn params(&mut self, visit: &mut dyn FnMut(&mut dyn ParamAccess)) {
        visit(&mut self.1);
    }
}

/// Calls in training, again and in an evaluation, of a layer in the first and in the last stage.
fn calls(recompute: Recompute, schedule: ScheduleKind) -> [[usize; 3]; 2] {
    let (first, last) = (Counting::default(), Counting::default());
    let network = Network::builder()
        .input(TensorSpec::f32([6]))
        .target(TensorSpec::f32([6]))
        .layer("first", first.clone())
        .layer("a", nn::Linear::new(6, 6))
        .layer("last", last.clone())
        .layer("b", nn::Linear::new(6, 6))
        .loss("loss", nn::MeanSquaredError)
        .build()
        .unwrap();
    let config = with(2, schedule, Cuts::Before(vec![2]), 1);
    let config = recomputing(recompute, config);
    let mut trainer = Trainer::start(&network, &config, adamw()).unwrap();
    trainer.step(&numbers(13)).unwrap();
    trainer.evaluate(&numbers(13)).unwrap();
    [first, last].map(|layer| [0, 1, 2].map(|mode| layer.calls[mode].load(Ordering::Relaxed)))
}

/// Five micro-batches, each once, and once again where it is recomputed.
#[test]
fn every_layer_runs_as_often_as_it_must() {
    let (once, twice) = ([5, 0, 5], [5, 5, 5]);
    let (gpipe, one_f_one_b) = (ScheduleKind::GPipe, ScheduleKind::OneFOneB);
    assert_eq!(calls(Recompute::Never, one_f_one_b), [once, once]);
    assert_eq!(calls(Recompute::Always, one_f_one_b), [twice, twice]);
    assert_eq!(calls(Recompute::ExceptLast, one_f_one_b), [twice, once]);
    assert_eq!(calls(Recompute::ExceptLast, gpipe), [twice, twice]);
    assert_eq!(calls(ranges(&[2..3]), gpipe), [once, twice]);
    let second = Recompute::Stages(vec![false, true]);
    assert_eq!(calls(second, gpipe), [once, twice]);
}

/// What every node held at most in training.
fn peaks(recompute: Recompute) -> Vec<u64> {
    let gpt = nn::Gpt {
        vocab: 29,
        context: 32,
        width: 32,
        heads: 2,
        blocks: 6,
        ..nn::Gpt::default()
    };
    let data = Tokens {
        rows: 8,
        context: 32,
        vocab: 29,
    };
    let config = Config {
        batch_size: 8,
        micro_batch_size: 1,
        ..with(2, ScheduleKind::GPipe, Cuts::Balanced, 1)
    };
    let (network, config) = (gpt.network().unwrap(), recomputing(recompute, config));
    let mut trainer = Trainer::start(&network, &config, adamw()).unwrap();
    for _ in 0..3 {
        trainer.step(&data).unwrap();
    }
    let reports = trainer.report().unwrap();
    reports.iter().map(|node| node.memory.peak_bytes).collect()
}

#[test]
fn memory_really_falls() {
    let (never, always) = (peaks(Recompute::Never), peaks(Recompute::Always));
    for (never, always) in never.iter().zip(&always) {
        println!("{always} bytes instead of {never}");
        assert!(2 * always < *never, "{always} {never}");
    }
}

#[test]
fn wrong_settings_say_what_is_allowed() {
    let (network, _) = small_gpt();
    let refused = |recompute: Recompute| {
        let config = with(2, ScheduleKind::OneFOneB, Cuts::Balanced, 1);
        Plan::new(&network, &recomputing(recompute, config), &adamw()).unwrap_err()
    };
    let reversed = Range { start: 3, end: 2 };
    let wrong = [
        ranges(&[2..2]),
        ranges(&[reversed]),
        ranges(&[0..3, 2..4]),
        ranges(&[4..6, 0..2]),
        ranges(&[0..9]),
        Recompute::Stages(vec![true]),
        Recompute::Stages(vec![true; 3]),
    ];
    for recompute in wrong {
        let text = format!("{recompute:?}");
        match refused(recompute) {
            PlanError::Setting { setting, .. } => assert_eq!(setting, "recompute", "{text}"),
            other => panic!("{text}: {other}"),
        }
    }
}

/// Segments do not cross stages, are part of the fingerprint, and a plan with others is refused.
#[test]
fn the_plan_says_what_is_recomputed() {
    let (network, _) = small_gpt();
    let config = |recompute| {
        let config = with(2, ScheduleKind::OneFOneB, Cuts::Before(vec![3]), 1);
        recomputing(recompute, config)
    };
    let plan = |recompute| Plan::new(&network, &config(recompute), &adamw()).unwrap();
    assert!(plan(Recompute::Never).recomputed.is_empty());
    assert!(plan(ranges(&[])).recomputed.is_empty());
    assert_eq!(plan(Recompute::ExceptLast).recomputed, [0..3]);
    assert_eq!(plan(Recompute::Always).recomputed, [0..3, 3..8]);
    let cut = plan(ranges(&[1..2, 2..5, 6..8]));
    assert_eq!(cut.recomputed, [1..2, 2..3, 3..5, 6..8]);
    let again: Vec<_> = (0..8)
        .map(|layer| cut.recomputes(LayerIndex::new(layer)))
        .collect();
    assert_eq!(again, [false, true, true, true, true, false, true, true]);
    let (never, always) = (plan(Recompute::Never), plan(Recompute::Always));
    assert_ne!(never.fingerprint(), always.fingerprint());
    let other = config(Recompute::Never);
    let refused = Trainer::start_with_plan(&network, &other, adamw(), always);
    assert!(matches!(
        refused.err(),
        Some(Error::Plan(PlanError::Setting {
            setting: "plan",
            ..
        }))
    ));
}
