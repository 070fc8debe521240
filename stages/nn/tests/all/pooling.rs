//! Images made smaller, larger and flat: laws of the contract, PyTorch's numbers (see
//! `tests/goldens/README.md`), the same bits on any number of threads, and what is refused.

use crate::bench::{Golden, How, PLAIN, ids, pass, wave};
use crate::goldens::Case;
use crate::threads::on_a_node;
use brigade_layer::{AnySpec, LayerSpec, Tensor, TensorSpec, Tensors, conformance};
use brigade_nn::{AvgPool2d, Flatten, GlobalAvgPool2d, MaxPool2d, Upsample, UpsampleMode, Window};

fn check(spec: &impl LayerSpec, inputs: impl Into<Tensors>) {
    conformance::check(spec, &inputs.into()).unwrap_or_else(|law| panic!("{spec:?}: {law}"));
}

/// Numbers of magnitude 1 to 8, so far apart that none overtakes another while slopes are measured.
fn apart(shape: [usize; 4]) -> Tensor {
    let elements = i32::try_from(shape.iter().product::<usize>()).unwrap();
    let numbers = ids(shape, elements);
    let numbers = numbers.i32().unwrap().iter();
    let middle = |number: &i32| (number - elements / 2) as f32 / 128.0;
    Tensor::from_vec(shape, numbers.map(middle).collect()).unwrap()
}

/// Windows that touch, that overlap, that leave gaps, and those that the golden files have.
fn windows() -> [Window; 4] {
    [
        Window::square(2).stride(2),
        Window::square(3).stride(2).padding(1),
        Window::square(3).padding(1),
        Window::new([2, 1]).stride(3),
    ]
}

#[test]
fn windows_keep_the_laws() {
    for window in windows() {
        for channels in [1, 5, 16, 23] {
            let shape = [2, 7, 6, channels];
            check(&MaxPool2d::new(window), apart(shape));
            check(&AvgPool2d::new(window), wave(shape, 0.7));
        }
    }
    // A byte is too small for the number of a pixel.
    let wide = Window::square(17).stride(2).padding(8);
    check(&MaxPool2d::new(wide), apart([1, 18, 17, 2]));
}

#[test]
fn the_others_keep_the_laws() {
    check(&GlobalAvgPool2d, wave([3, 4, 5, 7], 0.7));
    check(&GlobalAvgPool2d, wave([2, 9, 9, 33], 0.7));
    check(&Flatten, wave([3, 4, 5, 2], 0.7));
    check(&Flatten, wave([3], 0.7));
    for mode in [UpsampleMode::Nearest, UpsampleMode::Bilinear] {
        for factor in 1..4 {
            check(&Upsample::new(factor, mode), wave([2, 3, 4, 5], 0.7));
            check(&Upsample::new(factor, mode), wave([1, 1, 2, 3], 0.7));
        }
    }
}

/// The winner of a place is one byte.
#[test]
fn a_max_pool_keeps_a_byte_for_every_number() {
    let kept = |side: usize| {
        let spec = MaxPool2d::new(Window::square(side).stride(side));
        spec.cost(&[TensorSpec::f32([2, 68, 68, 3])]).stash_bytes
    };
    assert_eq!(kept(2), 2 * 34 * 34 * 3);
    assert_eq!(kept(17), 4 * 2 * 4 * 4 * 3);
}

fn golden_window(golden: &Golden, name: &str) -> Window {
    let stored = golden.get(&format!("{name}/window"));
    let numbers: Vec<_> = (stored.i32().unwrap().iter())
        .map(|n| usize::try_from(*n).unwrap())
        .collect();
    let mut window = Window::new([numbers[0], numbers[1]]);
    window.stride = [numbers[2], numbers[3]];
    window.padding = [numbers[4], numbers[5]];
    window
}

#[test]
fn all_agree_with_pytorch() {
    let golden = Golden::open("pooling");
    let mut seen = 0;
    for name in golden.names("") {
        let Some(name) = name.strip_suffix("/dx").filter(|name| *name != "max_nan") else {
            continue;
        };
        let factor = || golden.whole(&format!("{name}/factor")) as usize;
        let spec: Box<dyn AnySpec> = match name.split('_').next().unwrap() {
            "max" => Box::new(MaxPool2d::new(golden_window(&golden, name))),
            "average" => Box::new(AvgPool2d::new(golden_window(&golden, name))),
            "global" => Box::new(GlobalAvgPool2d),
            "nearest" => Box::new(Upsample::new(factor(), UpsampleMode::Nearest)),
            "bilinear" => Box::new(Upsample::new(factor(), UpsampleMode::Bilinear)),
            other => panic!("{other}"),
        };
        let golden = &golden;
        let case = Case {
            golden,
            name,
            share: 1e-6,
        };
        case.check(spec.as_ref(), &["x"], &[]);
        seen += 1;
    }
    assert_eq!(seen, 21);
}

/// What is not a number wins, and what is minus infinity everywhere still has a winner.
#[test]
fn what_is_not_a_number_wins_as_in_pytorch() {
    let golden = Golden::open("pooling");
    let numbers = |name: &str| {
        let bits = golden.get(&format!("max_nan/{name}_bits"));
        let numbers = bits.i32().unwrap().iter();
        let numbers = numbers.map(|bits| f32::from_bits(bits.cast_unsigned()));
        Tensor::from_vec(bits.shape(), numbers.collect()).unwrap()
    };
    let spec = MaxPool2d::new(Window::square(3).stride(2).padding(1));
    let (x, dy) = (numbers("x").into(), golden.get("max_nan/dy"));
    let found = pass(&spec, &[], &x, Some(dy), PLAIN).unwrap();
    let expected = numbers("y");
    let (mut nans, mut infinite) = (0, 0);
    for (found, expected) in found.outputs[0].iter().zip(expected.f32().unwrap()) {
        assert!(found == expected || found.is_nan() && expected.is_nan());
        nans += usize::from(found.is_nan());
        infinite += usize::from(found.is_infinite());
    }
    assert!(nans > 3 && infinite > 0, "{nans}, {infinite}");
    let dx = found.input_gradients[0].as_ref().unwrap();
    let expected = golden.numbers("max_nan/dx");
    for (at, (found, expected)) in dx.iter().zip(expected).enumerate() {
        assert!(
            (found - expected).abs() <= 1e-6,
            "{at}: {found}, {expected}"
        );
    }
}

/// The order is (height, width, channel).
#[test]
fn flat_images_have_their_numbers_where_they_were() {
    let x = wave([2, 3, 4, 5], 0.7);
    let flat = pass(&Flatten, &[], &x.clone().into(), None, PLAIN).unwrap();
    assert_eq!(flat.outputs[0], x.f32().unwrap());
    let shape = Flatten.outputs(&[x.spec()]).unwrap()[0];
    assert_eq!(shape, TensorSpec::f32([2, 60]));
}

#[test]
fn the_bits_are_the_same_on_any_number_of_threads_in_place_or_not() {
    let mut specs: Vec<Box<dyn AnySpec>> = vec![
        Box::new(GlobalAvgPool2d),
        Box::new(Flatten),
        Box::new(Upsample::new(2, UpsampleMode::Nearest)),
        Box::new(Upsample::new(3, UpsampleMode::Bilinear)),
        Box::new(MaxPool2d::new(Window::square(17).padding(8))),
    ];
    for window in windows() {
        specs.push(Box::new(MaxPool2d::new(window)));
        specs.push(Box::new(AvgPool2d::new(window)));
    }
    let x = || Tensors::from(wave([3, 31, 37, 19], 0.7));
    for spec in specs {
        let alone = pass(spec.as_ref(), &[], &x(), None, PLAIN).unwrap();
        for (threads, owned) in [(1, true), (2, false), (3, true)] {
            let how = How {
                threads,
                owned,
                ..PLAIN
            };
            let found = on_a_node(threads, || pass(spec.as_ref(), &[], &x(), None, how));
            assert!(alone.bits() == found.unwrap().bits(), "{threads}: {spec:?}");
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let refused = |spec: &dyn AnySpec, input: TensorSpec, named: &str| {
        let text = spec.output_specs(&[input]).unwrap_err().to_string();
        assert!(text.contains(named), "{spec:?}: {text}");
    };
    let image = TensorSpec::f32([2, 6, 5, 3]);
    let flat = TensorSpec::f32([2, 6]);
    let max = |window| MaxPool2d::new(window);
    let twice = Upsample::new(2, UpsampleMode::Nearest);
    let images: [&dyn AnySpec; 4] = [
        &max(Window::square(2)),
        &AvgPool2d::new(Window::square(2)),
        &GlobalAvgPool2d,
        &twice,
    ];
    for spec in images {
        refused(spec, flat, "[rows, height, width, channels]");
        refused(spec, TensorSpec::i32([2, 6, 5, 3]), "f32");
    }
    refused(&max(Window::square(7)), image, "7 x 7");
    refused(&max(Window::square(2).stride(0)), image, "at least 1");
    refused(&max(Window::square(3).padding(2)), image, "more than half");
    let empty = TensorSpec::f32([2, 0, 5, 3]);
    refused(&max(Window::square(2).padding(1)), empty, "does not fit");
    refused(
        &max(Window::square(1 << 40).padding(1 << 39)),
        image,
        "2^31",
    );
    refused(&Upsample::new(0, UpsampleMode::Nearest), image, "factor");
    let far = Upsample::new(usize::MAX, UpsampleMode::Bilinear);
    refused(&far, image, "elements");
    refused(&GlobalAvgPool2d, empty, "one pixel");
    refused(&Flatten, TensorSpec::f32([]), "[rows, ..]");
    refused(&Flatten, TensorSpec::i32([2, 2]), "f32");
}

/// Nothing of nothing: no channel, no row, no pixel.
#[test]
fn empty_images_are_no_trouble() {
    for shape in [[0, 4, 4, 3], [2, 4, 4, 0]] {
        let specs: [&dyn AnySpec; 5] = [
            &MaxPool2d::new(Window::square(2)),
            &AvgPool2d::new(Window::square(2)),
            &GlobalAvgPool2d,
            &Upsample::new(2, UpsampleMode::Bilinear),
            &Flatten,
        ];
        for spec in specs {
            let found = pass(spec, &[], &wave(shape, 0.7).into(), None, PLAIN).unwrap();
            assert!(found.outputs[0].is_empty(), "{spec:?}");
        }
    }
}
