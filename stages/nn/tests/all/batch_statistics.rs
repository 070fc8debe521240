//! What a batch normalisation leaves for the end of a step, and what becomes of it.

use crate::bench::{Golden, How, PLAIN, assert_close, pass, wave};
use crate::image_norms::{inputs, two_humps, variants};
use brigade_layer::{
    AnyLayer, AnySpec, BuildCtx, Ctx, LayerState, MicroBatchId, Mode, Network, Part, Pool, Tensor,
    TensorSpec,
};
use brigade_nn::{BatchNorm2d, Linear, MeanSquaredError};

/// A built layer with what it keeps along a step.
struct Stepping {
    layer: Box<dyn AnyLayer>,
    pool: Pool,
    state: LayerState,
}

impl Stepping {
    fn new(spec: &dyn AnySpec) -> Self {
        let pool = Pool::default();
        Self {
            layer: spec.build_any(&BuildCtx::new(&pool, 5, "")).unwrap(),
            pool,
            state: LayerState::default(),
        }
    }

    fn write(&mut self, key: &str, values: &[f32]) {
        self.layer.visit_params(&mut |param| {
            if param.info().key == key {
                param.write(Part::Value, values, &self.pool).unwrap();
            }
        });
    }

    fn value(&mut self, key: &str) -> Vec<f32> {
        let mut values = Vec::new();
        self.layer.visit_params(&mut |param| {
            if param.info().key == key {
                values = crate::bench::part(param, Part::Value);
            }
        });
        values
    }

    fn forward(&mut self, x: &Tensor, micro_batch: u32, mode: Mode) -> Vec<f32> {
        let mut cx = Ctx::new(&self.pool, &mut self.state);
        (cx.micro_batch, cx.mode) = (MicroBatchId::new(micro_batch), mode);
        let y = self.layer.f_only(x.clone().into(), &mut cx).unwrap();
        y.get(0).unwrap().f32().unwrap().to_vec()
    }

    /// As the engine does it.
    fn end(&mut self) {
        let mut cx = Ctx::new(&self.pool, &mut self.state);
        self.layer.end_step(&mut cx).unwrap();
        self.state.step.clear();
    }
}

/// Micro-batches of 2, 2 and 1 rows make what PyTorch finds in all 5, to the same bits in whatever
/// order they come and however often they are computed again.
#[test]
fn running_statistics_are_pytorchs_of_the_whole_mini_batch_in_any_order() {
    let golden = Golden::open("batch_norm");
    let x = golden.get("steps/x");
    let momentum = golden.number("steps/momentum") as f32;
    let spec = BatchNorm2d::new(4).momentum(momentum);
    let mut all = Vec::new();
    for order in [[0, 1, 2], [2, 0, 1], [1, 2, 0]] {
        let mut stepping = Stepping::new(&spec);
        for key in ["running_mean", "running_var"] {
            stepping.write(key, &golden.numbers(&format!("steps/{key}")));
        }
        for step in 0..2 {
            let batch = x
                .rows(step..step + 1)
                .unwrap()
                .reshape([5, 3, 2, 4])
                .unwrap();
            for micro_batch in order {
                let first = 2 * micro_batch as usize;
                let part = batch.rows(first..5.min(first + 2)).unwrap();
                let y = stepping.forward(&part, micro_batch, Mode::Train);
                let again = stepping.forward(&part, micro_batch, Mode::Recompute);
                assert_eq!(y, again);
            }
            assert_eq!(stepping.state.step.bytes(), 3 * 2 * 4 * 4);
            stepping.end();
            let after = ["running_mean", "running_var"].map(|key| stepping.value(key));
            for (key, found) in ["running_mean", "running_var"].iter().zip(&after) {
                let what = format!("steps/after/{key}");
                let expected = &golden.numbers(&what)[4 * step..][..4];
                assert_close(&what, found, expected, 1e-6);
            }
            all.push(after);
        }
    }
    assert_eq!(all[..2], all[2..4]);
    assert_eq!(all[..2], all[4..]);
}

#[test]
fn only_training_leaves_something_for_the_end_of_the_step() {
    let x = two_humps([2, 3, 4, 5]);
    let mut stepping = Stepping::new(&BatchNorm2d::new(5));
    let running = stepping.value("running_var");
    for mode in [Mode::Recompute, Mode::Evaluate, Mode::Generate] {
        stepping.forward(&x, 0, mode);
        assert_eq!(stepping.state.step.bytes(), 0, "{mode:?}");
        stepping.end();
        assert_eq!(stepping.value("running_var"), running, "{mode:?}");
    }
    // A step that is refused is not committed.
    stepping.forward(&x, 0, Mode::Train);
    stepping.state.step.clear();
    stepping.end();
    assert_eq!(stepping.value("running_var"), running);
    // The same micro-batch twice counts once.
    let once = |times: u32| {
        let mut stepping = Stepping::new(&BatchNorm2d::new(5));
        (0..times).for_each(|_| drop(stepping.forward(&x, 0, Mode::Train)));
        stepping.end();
        stepping.value("running_var")
    };
    assert_eq!(once(1), once(3));
    assert_ne!(once(1), running);
}

/// A network whose second layer is this one, frozen.
fn frozen(spec: BatchNorm2d) -> Network {
    let row = TensorSpec::f32([3, 4, 5]);
    let first = Network::builder().input(row).target(row);
    let first = first.layer("first", Linear::new(5, 5));
    let inputs = [brigade_layer::From::Previous; 2];
    let inputs = &inputs[..1 + usize::from(spec.adds)];
    let network = first
        .layer_from("norm", spec, inputs)
        .loss("loss", MeanSquaredError);
    network
        .build()
        .unwrap()
        .freeze(|key| key == "norm")
        .unwrap()
}

/// Training goes through it as evaluation does, to the same gradients of its inputs.
#[test]
fn a_frozen_layer_goes_by_its_running_statistics_and_leaves_nothing() {
    for spec in variants(5) {
        let inputs = inputs(&spec, [2, 3, 4, 5]);
        let network = frozen(spec.clone());
        let still = &network.layers()[1].spec;
        let values = [
            ("running_mean", 0.3),
            ("running_var", 0.9),
            ("weight", 1.7),
            ("bias", 0.2),
        ]
        .map(|(key, k)| (key, wave([5], k)))
        .map(|(key, value)| {
            let positive = value.f32().unwrap().iter().map(|x| 1.5 + x).collect();
            (key, Tensor::from_vec([5], positive).unwrap())
        });
        let run = |spec: &dyn AnySpec, mode, owned| {
            let how = How {
                mode,
                owned,
                ..PLAIN
            };
            pass(spec, &values, &inputs, None, how).unwrap()
        };
        let evaluated = run(&spec, Mode::Evaluate, false);
        for owned in [false, true] {
            let found = run(still.as_ref(), Mode::Train, owned);
            assert_eq!(found.outputs, evaluated.outputs, "{spec:?}");
            assert_eq!(found.input_gradients, evaluated.input_gradients, "{spec:?}");
            let gradients = found.param_gradients.values().flatten();
            assert!(gradients.into_iter().all(|gradient| *gradient == 0.0));
        }
        let mut stepping = Stepping::new(still.as_ref());
        let specs: Vec<_> = inputs.iter().flatten().map(Tensor::spec).collect();
        let mut cx = Ctx::new(&stepping.pool, &mut stepping.state);
        let mut slot = stepping.layer.slot();
        stepping.layer.f(inputs, &mut slot, &mut cx).unwrap();
        let said = spec.cost_of(&specs).stash_bytes;
        // x, where y's sign is to be had from it alone.
        let needs_x = spec.relu && !spec.adds;
        assert_eq!(slot.bytes() < said, !needs_x, "{} of {said}", slot.bytes());
        assert!(slot.bytes() <= said);
        assert_eq!(stepping.state.step.bytes(), 0);
        let running = stepping.value("running_mean");
        stepping.end();
        assert_eq!(stepping.value("running_mean"), running);
    }
}
