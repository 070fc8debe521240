//! The convolution keeps the laws of the contract, agrees with PyTorch, gives the same bits on any
//! number of threads, and says what does not fit.

use crate::bench::{Golden, How, PLAIN, ids, pass, wave};
use crate::goldens::Case;
use crate::threads::on_a_node;
use brigade_layer::{
    AnySpec, BuildCtx, Ctx, Init, LayerSpec, LayerState, Mode, Pool, Precision, TensorSpec,
    conformance,
};
use brigade_nn::{Conv2d, Window};

fn check(spec: &Conv2d, x: [usize; 4]) {
    let law = conformance::check(spec, &wave(x, 0.7).into());
    law.unwrap_or_else(|law| panic!("{spec:?}: {law}"));
}

fn square(side: usize) -> Window {
    Window::square(side).padding(side / 2)
}

#[test]
fn keeps_the_laws() {
    check(&Conv2d::new(3, 4, square(3)), [2, 5, 6, 3]);
    check(&Conv2d::new(1, 1, square(1)), [1, 1, 1, 1]);
    check(
        &Conv2d::new(4, 6, Window::square(2).stride(2)).groups(2),
        [2, 5, 4, 4],
    );
    check(
        &Conv2d::new(4, 4, square(3)).groups(4).without_bias(),
        [1, 4, 4, 4],
    );
    check(&Conv2d::new(6, 5, square(1).stride(2)), [2, 3, 4, 6]);
    check(&Conv2d::new(2, 3, Window::new([1, 3])), [2, 2, 5, 2]);
}

const NAMES: [(&str, &str); 2] = [("weight", "weight"), ("bias", "bias")];

#[test]
fn agrees_with_pytorch() {
    let golden = Golden::open("conv2d");
    let mut rectangular = Window::new([3, 2]);
    (rectangular.stride, rectangular.padding) = ([2, 1], [0, 1]);
    for (name, spec) in [
        ("same", Conv2d::new(3, 5, square(3))),
        ("no_bias", Conv2d::new(3, 5, square(3)).without_bias()),
        ("strided", Conv2d::new(4, 6, square(3).stride(2))),
        ("stem", Conv2d::new(3, 4, square(7).stride(2))),
        ("pixel", Conv2d::new(6, 4, square(1))),
        ("shortcut", Conv2d::new(6, 4, square(1).stride(2))),
        ("groups", Conv2d::new(6, 4, square(3)).groups(2)),
        (
            "depthwise",
            Conv2d::new(4, 8, square(3).stride(2)).groups(4),
        ),
        ("rectangular", Conv2d::new(2, 3, rectangular)),
        ("winograd", Conv2d::new(32, 32, square(3)).without_bias()),
    ] {
        let (golden, share) = (&golden, 1e-5);
        Case {
            golden,
            name,
            share,
        }
        .check(&spec, &["x"], &NAMES);
    }
}

#[test]
fn gives_the_same_bits_on_one_thread_and_on_several() {
    for (spec, x) in [
        (Conv2d::new(3, 40, square(3)), [5, 32, 32, 3]),
        (Conv2d::new(40, 48, square(3).stride(2)), [5, 17, 20, 40]),
        (Conv2d::new(64, 70, square(3)), [5, 17, 20, 64]),
        (Conv2d::new(128, 96, square(3)), [9, 8, 7, 128]),
        (Conv2d::new(96, 70, square(1)), [5, 17, 20, 96]),
        (Conv2d::new(96, 48, square(3)).groups(3), [5, 12, 20, 96]),
        (Conv2d::new(48, 48, square(3)).groups(48), [5, 32, 20, 48]),
    ] {
        for precision in [Precision::F32, Precision::Bf16] {
            let run = |threads| {
                let how = How {
                    threads,
                    precision,
                    ..PLAIN
                };
                pass(&spec, &[], &wave(x, 0.7).into(), None, how)
                    .unwrap()
                    .bits()
            };
            let alone = run(1);
            for threads in [2, 3] {
                let several = on_a_node(threads, || run(threads));
                assert!(alone == several, "{spec:?} {precision:?} {threads}");
            }
        }
    }
}

/// What one image gives does not depend on which others are beside it, but for rounding: few tiles
/// are lowered, many are transformed. The magnitudes of what is summed are five times a sum.
#[test]
fn evaluates_images_one_by_one() {
    for spec in [
        Conv2d::new(64, 64, square(3)),
        Conv2d::new(3, 8, square(5).stride(2)),
    ] {
        let x = wave([3, 9, 10, spec.inputs], 0.7);
        let how = How {
            mode: Mode::Evaluate,
            ..PLAIN
        };
        let y = |x: brigade_layer::Tensor| {
            let pass = pass(&spec, &[], &x.into(), None, how).unwrap();
            pass.outputs[0].clone()
        };
        let all = y(x.clone());
        for (row, expected) in all.chunks(all.len() / 3).enumerate() {
            let found = y(x.rows(row..row + 1).unwrap());
            crate::bench::assert_close("one image", &found, expected, 3e-6);
        }
    }
}

#[test]
fn a_gradient_that_nobody_wants_is_not_computed() {
    let (spec, pool) = (Conv2d::new(3, 4, square(3)), Pool::default());
    let mut layer = spec.build_any(&BuildCtx::new(&pool, 5, "")).unwrap();
    let (mut state, mut slot) = (LayerState::default(), layer.slot());
    let mut cx = Ctx::new(&pool, &mut state).wanting([false]);
    let x = wave([2, 4, 4, 3], 0.7);
    layer.f(x.into(), &mut slot, &mut cx).unwrap();
    let dx = layer.i(wave([2, 4, 4, 4], 0.3).into(), &mut slot, &mut cx);
    let dx = dx.unwrap();
    assert!(dx.len() == 1 && dx.get(0).is_none());
    layer.w(&mut slot, &mut cx).unwrap();
}

/// Every further thread takes no more than the description says.
#[test]
fn scratch_of_threads_is_counted() {
    let spec = Conv2d::new(64, 64, square(3));
    let x = wave([4, 16, 16, 64], 0.7);
    let cost = spec.cost(&[x.spec()]);
    let pool = Pool::default();
    let mut layer = spec.build_any(&BuildCtx::new(&pool, 5, "")).unwrap();
    let (mut state, mut slot) = (LayerState::default(), layer.slot());
    let mut cx = Ctx::new(&pool, &mut state);
    cx.threads = 3;
    let before = pool.report().held_bytes;
    let y = layer.f(x.into(), &mut slot, &mut cx).unwrap();
    let peak = pool.report().peak_bytes - before;
    assert!(peak <= cost.forward_working_bytes + 2 * cost.thread_bytes);
    pool.reset_peak();
    let before = pool.report().held_bytes;
    drop(layer.i(y, &mut slot, &mut cx).unwrap());
    layer.w(&mut slot, &mut cx).unwrap();
    let peak = pool.report().peak_bytes - before;
    let gradients = 4 * (64 * 9 * 64 + 64);
    assert!(peak <= cost.backward_working_bytes + 2 * cost.thread_bytes + gradients);
}

/// More operations than any number says.
#[test]
fn costs_of_the_largest_sizes_are_numbers() {
    let side = 1 << 21;
    let spec = Conv2d::new(1, 16, Window::square(side).padding(side / 2));
    let x = TensorSpec::f32([1, side, side, 1]);
    spec.outputs(&[x]).unwrap();
    assert_eq!(spec.cost(&[x]).forward_flops, u64::MAX);
}

#[test]
fn starts_as_pytorch_does() {
    let bound = |spec: &Conv2d| spec.init;
    let window = square(3);
    assert_eq!(bound(&Conv2d::new(4, 8, window)), Init::Uniform(1.0 / 6.0));
    let grouped = Conv2d::new(4, 8, window).groups(4);
    assert_eq!(
        (grouped.init, grouped.bias),
        (Init::Uniform(1.0 / 3.0), Some(grouped.init))
    );
    let own = Conv2d::new(4, 8, window).init(Init::Zeros).groups(2);
    assert_eq!(own.init, Init::Zeros);
}

#[test]
fn what_does_not_fit_says_what_would() {
    let image = |channels| TensorSpec::f32([2, 5, 5, channels]);
    for (spec, x, expected) in [
        (
            Conv2d::new(3, 4, square(3)),
            image(4),
            "[rows, height, width, 3]",
        ),
        (
            Conv2d::new(3, 4, square(3)),
            TensorSpec::f32([2, 3]),
            "[rows, height, width, channels]",
        ),
        (
            Conv2d::new(3, 4, square(3)),
            ids([2, 5, 5, 3], 9).spec(),
            "i32",
        ),
        (
            Conv2d::new(3, 4, Window::square(6)),
            image(3),
            "does not fit",
        ),
        (
            Conv2d::new(3, 4, square(3)).groups(2),
            image(3),
            "divides both",
        ),
        (
            Conv2d::new(3, 4, square(3)).groups(0),
            image(3),
            "at least 1",
        ),
        (Conv2d::new(3, 0, square(3)), image(3), "at least 1"),
        (
            Conv2d::new(3, 4, square(3).stride(0)),
            image(3),
            "at least 1",
        ),
        (
            Conv2d::new(3, 4, Window::new([0, 1])),
            image(3),
            "at least 1",
        ),
    ] {
        let text = spec.outputs(&[x]).unwrap_err().to_string();
        assert!(text.contains(expected), "{text}");
    }
    let far = Conv2d::new(3, 4, square(3).padding(usize::MAX));
    let text = far.outputs(&[image(3)]).unwrap_err().to_string();
    assert!(text.contains("does not fit"), "{text}");
    let empty = TensorSpec::f32([2, 0, 5, 3]);
    assert!(Conv2d::new(3, 4, square(3)).outputs(&[empty]).is_err());
    let huge = Conv2d::new(1 << 20, 1 << 20, Window::square(1 << 10));
    assert!(huge.build(&BuildCtx::new(&Pool::default(), 1, "")).is_err());
    let two = [image(3), image(3)];
    assert!(Conv2d::new(3, 4, square(3)).outputs(&two).is_err());
}
