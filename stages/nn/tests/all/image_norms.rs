//! Batch and group normalisation: the contract's laws, PyTorch's numbers, and what a step leaves.

use crate::bench::{Golden, How, PLAIN, assert_close, pass, wave};
use crate::goldens::Case;
use crate::threads::on_a_node;
use brigade_layer::{
    AnyLayer, AnySpec, BuildCtx, Ctx, LayerState, MicroBatchId, Mode, Network, Part, Pool, Tensor,
    TensorSpec, Tensors, conformance,
};
use brigade_nn::{Activation, BatchNorm2d, GroupNorm, Linear, MeanSquaredError};

/// Half of the numbers around 1, half around -1, so that no normalised one is near 0.
fn two_humps(shape: [usize; 4]) -> Tensor {
    let numbers = wave(shape, 0.7);
    let signs = [1.0, -1.0, -1.0].into_iter().cycle();
    let both = numbers.f32().unwrap().iter().zip(signs);
    let numbers = both.map(|(x, sign)| sign + 0.3 * x).collect();
    Tensor::from_vec(shape, numbers).unwrap()
}

fn variants(channels: usize) -> [BatchNorm2d; 4] {
    let plain = || BatchNorm2d::new(channels);
    [
        plain(),
        plain().relu(),
        plain().adding(),
        plain().adding().relu(),
    ]
}

fn inputs(spec: &BatchNorm2d, shape: [usize; 4]) -> Tensors {
    let x = two_humps(shape);
    if !spec.adds {
        return x.into();
    }
    let skip = wave(shape, 1.3);
    let skip = skip.f32().unwrap().iter().map(|skip| 0.2 * skip).collect();
    [x, Tensor::from_vec(shape, skip).unwrap()].into()
}

#[test]
fn batch_norm_keeps_the_laws() {
    for shape in [[2, 3, 4, 5], [3, 5, 5, 43], [1, 1, 2, 1]] {
        for spec in variants(shape[3]) {
            let inputs = inputs(&spec, shape);
            conformance::check(&spec, &inputs).unwrap_or_else(|law| panic!("{spec:?}: {law}"));
        }
    }
}

#[test]
fn group_norm_keeps_the_laws() {
    for (groups, shape) in [(1, [2, 3, 4, 5]), (3, [3, 1, 1, 12]), (4, [2, 9, 8, 32])] {
        let spec = GroupNorm::new(groups, shape[3]);
        let inputs = wave(shape, 0.7).into();
        conformance::check(&spec, &inputs).unwrap_or_else(|law| panic!("{spec:?}: {law}"));
    }
}

const TRAINED: [(&str, &str); 2] = [("weight", "weight"), ("bias", "bias")];

#[test]
fn group_norm_is_pytorchs() {
    let golden = Golden::open("group_norm");
    for name in ["plain", "one", "each", "wide", "pixel"] {
        let shape = golden.get(&format!("{name}/x")).shape();
        let groups = golden.whole(&format!("{name}/groups"));
        let spec = GroupNorm::new(usize::try_from(groups).unwrap(), shape.last());
        let share = 1e-5;
        let case = Case {
            golden: &golden,
            name,
            share,
        };
        case.check(&spec, &["x"], &TRAINED);
    }
}

#[test]
fn batch_norm_is_pytorchs() {
    let golden = Golden::open("batch_norm");
    let cases = [
        ("plain", Mode::Train, 1e-5),
        ("relu", Mode::Train, 1e-5),
        ("add", Mode::Recompute, 1e-5),
        ("add_relu", Mode::Train, 1e-5),
        ("wide", Mode::Train, 1e-5),
        // A mean of 1000 is itself no nearer to the truth than 3e-5.
        ("far", Mode::Train, 2e-4),
        ("plain_running", Mode::Evaluate, 1e-5),
        ("add_relu_running", Mode::Generate, 1e-5),
    ];
    for (name, mode, share) in cases {
        let at = |tensor: &str| format!("{name}/{tensor}");
        let mut spec = BatchNorm2d::new(golden.get(&at("x")).shape().last());
        spec.adds = name.contains("add");
        spec.relu = name.contains("relu") || name == "wide";
        let names = ["weight", "bias", "running_mean", "running_var"];
        let given = names
            .iter()
            .filter_map(|name| Some((*name, golden.find(&at(name))?)));
        let given: Vec<_> = given.collect();
        let mut tensors = Tensors::from(golden.get(&at("x")));
        if spec.adds {
            tensors.push(golden.find(&at("skip"))).unwrap();
        }
        let how = How { mode, ..PLAIN };
        let found = pass(&spec, &given, &tensors, golden.find(&at("dy")), how).unwrap();
        let close = |tensor: &str, found: &[f32]| {
            assert_close(&at(tensor), found, &golden.numbers(&at(tensor)), share);
        };
        close("y", &found.outputs[0]);
        close("dweight", &found.param_gradients["weight"]);
        close("dbias", &found.param_gradients["bias"]);
        for (of, gradient) in ["dx", "dskip"].iter().zip(&found.input_gradients) {
            close(of, gradient.as_ref().unwrap());
        }
    }
}

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

#[test]
fn the_fused_relu_is_the_layers() {
    let [plain, fused, ..] = variants(43);
    let inputs = inputs(&plain, [3, 5, 5, 43]);
    let dy = wave([3, 5, 5, 43], 0.31);
    let one = pass(&fused, &[], &inputs, Some(dy.clone()), PLAIN).unwrap();
    let normal = pass(&plain, &[], &inputs, None, PLAIN).unwrap();
    let normal = Tensor::from_vec([3, 5, 5, 43], normal.outputs[0].clone()).unwrap();
    let relu = pass(&Activation::Relu, &[], &normal.into(), Some(dy), PLAIN).unwrap();
    assert_eq!(one.outputs, relu.outputs);
    let masked = relu.input_gradients[0].clone().unwrap();
    let masked = Tensor::from_vec([3, 5, 5, 43], masked).unwrap();
    let two = pass(&plain, &[], &inputs, Some(masked), PLAIN).unwrap();
    assert_eq!(one.input_gradients, two.input_gradients);
    assert_eq!(one.param_gradients, two.param_gradients);
}

fn large() -> Vec<(Box<dyn AnySpec>, Tensors)> {
    let shape = [3, 30, 29, 43];
    let mut all: Vec<(Box<dyn AnySpec>, Tensors)> = Vec::new();
    for spec in variants(43) {
        let inputs = inputs(&spec, shape);
        all.push((Box::new(spec), inputs));
    }
    all.push((Box::new(GroupNorm::new(1, 43)), wave(shape, 0.7).into()));
    all
}

#[test]
fn threads_and_places_do_not_show() {
    for (spec, inputs) in large() {
        for mode in [Mode::Train, Mode::Evaluate] {
            let run = |threads, owned| {
                let how = How {
                    threads,
                    owned,
                    mode,
                    ..PLAIN
                };
                let run = || pass(spec.as_ref(), &[], &inputs, None, how).unwrap().bits();
                on_a_node(threads, run)
            };
            let alone = run(1, false);
            for (threads, owned) in [(1, true), (2, false), (3, true), (3, false)] {
                assert!(alone == run(threads, owned), "{spec:?}, {threads}, {owned}");
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let describing = |spec: &dyn AnySpec, inputs: &[TensorSpec]| {
        let error = spec.output_specs(inputs).unwrap_err();
        let same = spec.cost_of(inputs);
        assert_eq!(same, brigade_layer::Cost::default());
        error.to_string()
    };
    let image = TensorSpec::f32([2, 3, 4, 6]);
    let batch = || BatchNorm2d::new(6);
    let other = TensorSpec::f32([2, 3, 3, 6]);
    let cases: [(&dyn AnySpec, &[TensorSpec], &str); 12] = [
        (&BatchNorm2d::new(5), &[image], "[rows, height, width, 5]"),
        (&batch(), &[TensorSpec::f32([2, 6])], "[rows, height, width"),
        (&batch(), &[TensorSpec::i32([2, 3, 4, 6])], "f32"),
        (&batch(), &[image, image], "expected 1 tensors"),
        (&batch().adding(), &[image], "expected 2 tensors"),
        (&batch().adding(), &[image, other], "[2, 3, 4, 6]"),
        (&batch().eps(-1.0), &[image], "eps"),
        (&batch().momentum(1.5), &[image], "momentum"),
        (
            &GroupNorm::new(4, 6),
            &[image],
            "6 channels do not make 4 groups",
        ),
        (&GroupNorm::new(0, 6), &[image], "0 groups"),
        (&GroupNorm::new(3, 9), &[image], "[rows, height, width, 9]"),
        (&GroupNorm::new(3, 6).eps(f32::NAN), &[image], "eps"),
    ];
    for (spec, inputs, named) in cases {
        let text = describing(spec, inputs);
        assert!(text.contains(named), "{spec:?}: {text}");
    }
    assert!(
        GroupNorm::new(4, 6)
            .build_any(&BuildCtx::new(&Pool::default(), 5, ""))
            .is_err()
    );
}

#[test]
fn one_pixel_has_no_variance_to_train_with() {
    let x = || Tensors::from(wave([1, 1, 1, 6], 0.7));
    let error = pass(&BatchNorm2d::new(6), &[], &x(), None, PLAIN).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("one pixel") && text.contains("larger micro-batch"),
        "{text}"
    );
    let how = How {
        mode: Mode::Evaluate,
        ..PLAIN
    };
    pass(&BatchNorm2d::new(6), &[], &x(), None, how).unwrap();
}
