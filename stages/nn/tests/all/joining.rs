//! Several inputs made one: laws of the contract, the same bits on any number of threads and
//! wherever the sum is put, and what is refused.

use crate::bench::{How, PLAIN, ids, pass, wave};
use crate::threads::on_a_node;
use brigade_layer::{
    AnySpec, BuildCtx, Ctx, LayerSpec, LayerState, Pool, Tensor, TensorSpec, Tensors, conformance,
};
use brigade_nn::{Concatenate, Sum};

/// So many inputs of these shapes.
fn inputs<const N: usize>(shapes: [&[usize]; N]) -> Tensors {
    let mut all = Tensors::none();
    for (number, shape) in shapes.iter().enumerate() {
        let shape = brigade_layer::Shape::new(shape).unwrap();
        all.push(Some(wave(shape, 0.7 + number as f64))).unwrap();
    }
    all
}

/// So many inputs of this shape, whose sums are not near 0.
fn far_from_0<const N: usize>(shape: &[usize]) -> Tensors {
    let mut all = Tensors::none();
    for number in 0..N {
        let shape = brigade_layer::Shape::new(shape).unwrap();
        let steps = ids([number + 1, shape.elements()], 31);
        let steps = &steps.i32().unwrap()[number * shape.elements()..];
        let start = if number == 0 { 0.5 } else { 0.0 };
        let at = |step: &i32| ((step - 15) as f32 + start) / 16.0;
        let x = Tensor::from_vec(shape, steps.iter().map(at).collect());
        all.push(Some(x.unwrap())).unwrap();
    }
    all
}

fn check(spec: &impl LayerSpec, inputs: &Tensors) {
    conformance::check(spec, inputs).unwrap_or_else(|law| panic!("{spec:?}: {law}"));
}

#[test]
fn sums_and_concatenations_keep_the_laws() {
    for sum in [Sum::new(), Sum::new().relu()] {
        check(&sum, &far_from_0::<2>(&[3, 37]));
        check(&sum, &far_from_0::<3>(&[2, 3, 4, 5]));
        check(&sum, &far_from_0::<4>(&[70]));
    }
    check(&Concatenate, &inputs([&[3, 37], &[3, 1]]));
    check(&Concatenate, &inputs([&[2, 3, 4, 5], &[2, 3, 4, 7]]));
    check(&Concatenate, &inputs([&[4, 2], &[4, 1], &[4, 3], &[4, 2]]));
}

#[test]
fn a_sum_adds_from_the_first_to_the_last_and_a_relu_cuts() {
    let three = inputs([&[5, 9]; 3]);
    let numbers: Vec<_> = three.iter().flatten().map(|x| x.f32().unwrap()).collect();
    for sum in [Sum::new(), Sum::new().relu()] {
        let found = pass(&sum, &[], &three, Some(wave([5, 9], 0.3)), PLAIN).unwrap();
        let dy = wave([5, 9], 0.3);
        for (at, dy) in dy.f32().unwrap().iter().enumerate() {
            let y = numbers[0][at] + numbers[1][at] + numbers[2][at];
            let (cut, dx) = match sum.relu && y <= 0.0 {
                true => (0.0, 0.0),
                false => (y, *dy),
            };
            assert_eq!(found.outputs[0][at], cut);
            for gradient in &found.input_gradients {
                assert_eq!(gradient.as_ref().unwrap()[at], dx);
            }
        }
    }
}

#[test]
fn channels_stand_side_by_side() {
    let (a, b) = (wave([2, 3, 1, 2], 0.7), wave([2, 3, 1, 4], 0.9));
    let both = Tensors::from([a.clone(), b.clone()]);
    let dy = wave([2, 3, 1, 6], 0.3);
    let found = pass(&Concatenate, &[], &both, Some(dy.clone()), PLAIN).unwrap();
    let (y, dy) = (&found.outputs[0], dy.f32().unwrap());
    let gradients: Vec<_> = found.input_gradients.iter().flatten().collect();
    for pixel in 0..6 {
        let (left, right) = (pixel * 6..pixel * 6 + 2, pixel * 6 + 2..pixel * 6 + 6);
        let (of_a, of_b) = (pixel * 2..pixel * 2 + 2, pixel * 4..pixel * 4 + 4);
        assert_eq!(y[left.clone()], a.f32().unwrap()[of_a.clone()]);
        assert_eq!(y[right.clone()], b.f32().unwrap()[of_b.clone()]);
        assert_eq!(gradients[0][of_a], dy[left]);
        assert_eq!(gradients[1][of_b], dy[right]);
    }
}

/// Every gradient of a sum is the tensor that came; a sum is put where one of the first two was.
#[test]
fn a_sum_without_copies() {
    let pool = Pool::default();
    let (mut state, mut layer) = (
        LayerState::default(),
        Sum::new().build_any(&BuildCtx::new(&pool, 1, "")).unwrap(),
    );
    let mut slot = layer.slot();
    let mut cx = Ctx::new(&pool, &mut state);
    let held = wave([3, 4], 0.7);
    for given in [
        [held.clone(), wave([3, 4], 0.9)],
        [wave([3, 4], 0.9), held.clone()],
    ] {
        let y = layer.f(given.into(), &mut slot, &mut cx).unwrap();
        let dy = wave([3, 4], 0.3);
        let at = dy.f32().unwrap().as_ptr();
        let dx = layer.i(dy.into(), &mut slot, &mut cx).unwrap();
        let [first, second] = dx.take::<2>().unwrap();
        assert!(first.f32().unwrap().as_ptr() == at && second.f32().unwrap().as_ptr() == at);
        drop(y);
        layer.w(&mut slot, &mut cx).unwrap();
    }
    assert_eq!(pool.report().born, 0, "nothing was taken");
}

#[test]
fn a_gradient_that_nobody_wants_is_not_computed() {
    let specs: [&dyn AnySpec; 3] = [&Sum::new(), &Sum::new().relu(), &Concatenate];
    for spec in specs {
        for wanted in [[false, true], [true, false], [false, false]] {
            let pool = Pool::default();
            let mut layer = spec.build_any(&BuildCtx::new(&pool, 5, "")).unwrap();
            let (mut state, mut slot) = (LayerState::default(), layer.slot());
            let mut cx = Ctx::new(&pool, &mut state).wanting(wanted);
            let y = layer
                .f(inputs([&[2, 4], &[2, 4]]), &mut slot, &mut cx)
                .unwrap();
            let dy = wave(y.get(0).unwrap().shape(), 0.3);
            let dx = layer.i(dy.into(), &mut slot, &mut cx).unwrap();
            let found = dx.iter().map(|dx| dx.is_some());
            assert!(found.eq(wanted), "{spec:?} {wanted:?}");
        }
    }
}

#[test]
fn the_bits_are_the_same_on_any_number_of_threads_in_place_or_not() {
    let alike = || inputs([&[3, 31, 37, 19]; 3]);
    let unlike = || inputs([&[3, 31, 37, 19], &[3, 31, 37, 5]]);
    let cases: [(&(dyn AnySpec + Sync), Tensors); 3] = [
        (&Sum::new(), alike()),
        (&Sum::new().relu(), alike()),
        (&Concatenate, unlike()),
    ];
    for (spec, inputs) in cases {
        let alone = pass(spec, &[], &inputs, None, PLAIN).unwrap();
        for (threads, owned) in [(1, true), (2, false), (3, true)] {
            let how = How {
                threads,
                owned,
                ..PLAIN
            };
            let found = on_a_node(threads, || pass(spec, &[], &inputs, None, how));
            assert!(alone.bits() == found.unwrap().bits(), "{threads}: {spec:?}");
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let refused = |spec: &dyn AnySpec, inputs: &[TensorSpec], named: &str| {
        let text = spec.output_specs(inputs).unwrap_err().to_string();
        assert!(text.contains(named), "{spec:?}: {text}");
    };
    let x = TensorSpec::f32([2, 6]);
    let specs: [&dyn AnySpec; 2] = [&Sum::new(), &Concatenate];
    for spec in specs {
        refused(spec, &[x], "2 to 4 inputs, and is fed 1");
        refused(spec, &[x; 5], "fed 5");
        refused(spec, &[x, TensorSpec::i32([2, 6])], "f32");
        refused(spec, &[x, TensorSpec::f32([3, 6])], "[2, 6]");
        refused(spec, &[x, TensorSpec::f32([2, 1, 6])], "[2, 6]");
    }
    refused(&Sum::new(), &[x, TensorSpec::f32([2, 5])], "[2, 6]");
    refused(
        &Concatenate,
        &[TensorSpec::f32([6]); 2],
        "[rows, .., width]",
    );
    let wide = TensorSpec::f32([1 << 40, 1 << 8]);
    refused(&Concatenate, &[wide; 2], "elements");
    let (a, b): (Tensor, Tensor) = (wave([2, 3], 0.7), wave([3, 2], 0.7));
    assert!(pass(&Sum::new(), &[], &[a, b].into(), None, PLAIN).is_err());
}
