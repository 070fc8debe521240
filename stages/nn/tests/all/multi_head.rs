//! Attention to all positions keeps the laws of the contract, gives PyTorch's numbers and the same
//! bits on any number of threads, sees nothing of padding, and refuses what does not fit; so do the
//! layers that lead further inputs past others.

use crate::bench::{Golden, How, PLAIN, assert_close, ids, pass, wave};
use crate::goldens::Case;
use crate::threads::on_a_node;
use brigade_layer::{
    AnySpec, BuildCtx, Ctx, DType, Init, LayerSpec, LayerState, Mode, Pool, Precision, Tensor,
    TensorSpec, Tensors, conformance,
};
use brigade_nn::{Chain, Dropout, LayerNorm, Linear, MultiHeadAttention, Residual};

fn check(spec: &impl LayerSpec, inputs: impl Into<Tensors>) {
    conformance::check(spec, &inputs.into()).unwrap_or_else(|law| panic!("{spec:?}: {law}"));
}

fn attention(width: usize, heads: usize) -> MultiHeadAttention {
    let init = Init::Normal(0.5);
    MultiHeadAttention::new(width, heads).init(init, init)
}

/// Ids of sequences of these lengths, padded by 0.
fn padded(length: usize, lengths: &[usize]) -> Tensor {
    let row = |seen: &usize| {
        let seen = *seen;
        (0..length).map(move |at| i32::from(at < seen) * (1 + at as i32))
    };
    let ids = lengths.iter().flat_map(row).collect();
    Tensor::from_vec([lengths.len(), length], ids).unwrap()
}

/// A part of a block, as the encoder-decoder has it.
fn part(attention: MultiHeadAttention, dropout: f32) -> impl LayerSpec {
    let width = attention.width;
    let part = Chain::new("ln", LayerNorm::new(width), "attn", attention).others_pass_first();
    Residual::new(part.then("", Dropout::new(dropout)))
}

#[test]
fn the_laws_hold_for_self_attention() {
    check(&attention(12, 3), wave([2, 5, 12], 0.7));
    check(&attention(6, 1), wave([1, 70, 6], 0.7));
    check(
        &attention(8, 2).without_bias().dropout(0.2),
        wave([2, 9, 8], 0.7),
    );
    let seen = padded(7, &[7, 3, 0]);
    check(&attention(12, 3).padding(0), [wave([3, 7, 12], 0.7), seen]);
}

#[test]
fn the_laws_hold_for_cross_attention() {
    let (x, memory) = (wave([2, 5, 12], 0.7), wave([2, 7, 10], 0.9));
    check(&attention(12, 3).memory(10), [x.clone(), memory.clone()]);
    let padding = attention(12, 2).memory(10).padding(0).dropout(0.3);
    check(&padding, [x, memory, padded(7, &[2, 7])]);
    let (x, memory) = (wave([1, 3, 8], 0.7), wave([1, 80, 40], 0.9));
    check(&attention(8, 2).memory(40).without_bias(), [x, memory]);
    let (x, memory) = (wave([1, 80, 8], 0.7), wave([1, 3, 6], 0.9));
    check(&attention(8, 1).memory(6), [x, memory]);
}

#[test]
fn the_laws_hold_for_parts_of_blocks() {
    let (x, memory) = (wave([2, 5, 12], 0.7), wave([2, 7, 20], 0.9));
    check(&part(attention(12, 3), 0.2), x.clone());
    check(
        &part(attention(12, 3).padding(0), 0.0),
        [x.clone(), padded(5, &[5, 2])],
    );
    let cross = attention(12, 3).memory(20);
    check(&part(cross.clone(), 0.2), [x.clone(), memory.clone()]);
    check(
        &part(cross.padding(0), 0.0),
        [x, memory, padded(7, &[2, 7])],
    );
}

const PARAMS: [(&str, &str); 6] = [
    ("q_attn.weight", "q_attn.weight"),
    ("q_attn.bias", "q_attn.bias"),
    ("c_attn.weight", "c_attn.weight"),
    ("c_attn.bias", "c_attn.bias"),
    ("c_proj.weight", "c_proj.weight"),
    ("c_proj.bias", "c_proj.bias"),
];

#[test]
fn numbers_are_those_of_pytorch() {
    let golden = Golden::open("multi_head_attention");
    for name in [
        "self",
        "self_padded",
        "self_long",
        "cross",
        "cross_padded",
        "cross_long",
    ] {
        let width = |of: &str| {
            golden
                .find(&format!("{name}/{of}"))
                .map(|of| of.shape().last())
        };
        let heads = golden.whole(&format!("{name}/heads")) as usize;
        let mut spec = MultiHeadAttention::new(width("x").unwrap(), heads);
        let mut inputs = vec!["x"];
        if let Some(width) = width("memory") {
            spec = spec.memory(width);
            inputs.push("memory");
        }
        if name.ends_with("padded") {
            spec = spec.padding(0);
            inputs.push("ids");
        }
        if name.ends_with("long") {
            spec = spec.without_bias();
        }
        let case = Case {
            golden: &golden,
            name,
            share: 2e-5,
        };
        case.check(&spec, &inputs, &PARAMS);
    }
}

fn wide() -> Vec<(Box<dyn AnySpec>, Tensors)> {
    let (x, memory) = (wave([6, 70, 128], 0.7), wave([6, 100, 96], 0.9));
    let seen = padded(100, &[100, 1, 33, 64, 99, 0]);
    let own = padded(70, &[70, 1, 33, 64, 69, 0]);
    let attention = || attention(128, 4).dropout(0.2);
    vec![
        (Box::new(attention()), x.clone().into()),
        (
            Box::new(part(attention().padding(0), 0.1)),
            [x.clone(), own].into(),
        ),
        (
            Box::new(attention().memory(96)),
            [x.clone(), memory.clone()].into(),
        ),
        (
            Box::new(part(attention().memory(96).padding(0), 0.1)),
            [x, memory, seen].into(),
        ),
    ]
}

#[test]
fn neither_threads_nor_buffers_show() {
    for (spec, inputs) in wide() {
        for precision in [Precision::F32, Precision::Bf16] {
            let plain = How { precision, ..PLAIN };
            let alone = pass(spec.as_ref(), &[], &inputs, None, plain).unwrap();
            for (threads, owned) in [(2, false), (3, false), (1, true)] {
                let how = How {
                    threads,
                    owned,
                    ..plain
                };
                let several = on_a_node(threads, || pass(spec.as_ref(), &[], &inputs, None, how));
                assert!(
                    alone.bits() == several.unwrap().bits(),
                    "{threads}: {spec:?}"
                );
            }
        }
    }
}

/// A sequence gives the same numbers alone and padded, and among others; what is padded gets no
/// gradient.
#[test]
fn padding_does_not_show() {
    let whole = attention(16, 2).memory(16).dropout(0.4);
    let spec = whole.clone().padding(0);
    let (x, memory) = (wave([3, 5, 16], 0.7), wave([3, 70, 16], 0.9));
    let seen = [70, 40, 7];
    let inputs = [x.clone(), memory.clone(), padded(70, &seen)].into();
    let all = pass(&spec, &[], &inputs, None, PLAIN).unwrap();
    for (row, seen) in seen.into_iter().enumerate() {
        let own = |of: &Tensor| of.rows(row..row + 1).unwrap();
        let part = own(&memory).f32().unwrap()[..seen * 16].to_vec();
        let part = Tensor::from_vec([1, seen, 16], part).unwrap();
        let how = How {
            first_row: row,
            ..PLAIN
        };
        let alone = pass(&whole, &[], &[own(&x), part].into(), None, how).unwrap();
        let y = &all.outputs[0][row * 5 * 16..][..5 * 16];
        assert_close("y", y, &alone.outputs[0], 1e-6);
        let gradient = all.input_gradients[1].as_ref().unwrap();
        let (part, hidden) = gradient[row * 70 * 16..][..70 * 16].split_at(seen * 16);
        assert!(
            part.iter().all(|x| *x != 0.0) && hidden.iter().all(|x| *x == 0.0),
            "{row}"
        );
    }
}

#[test]
fn a_gradient_that_nobody_wants_is_not_computed() {
    let inputs = || {
        [
            wave([2, 4, 12], 0.7),
            wave([2, 6, 8], 0.9),
            padded(6, &[6, 2]),
        ]
    };
    let cross = || attention(12, 3).memory(8).padding(0);
    let specs: [&dyn AnySpec; 2] = [&cross(), &part(cross(), 0.1)];
    for (spec, wanted) in specs.into_iter().flat_map(|spec| {
        [[false, false], [true, false], [false, true]].map(|wanted| (spec, wanted))
    }) {
        let pool = Pool::default();
        let mut layer = spec.build_any(&BuildCtx::new(&pool, 5, "")).unwrap();
        let (mut state, mut slot) = (LayerState::default(), layer.slot());
        let mut cx = Ctx::new(&pool, &mut state).wanting(wanted);
        layer.f(inputs().into(), &mut slot, &mut cx).unwrap();
        let dy = wave([2, 4, 12], 0.3);
        let gradients = layer.i(dy.into(), &mut slot, &mut cx).unwrap();
        let found = [0, 1, 2].map(|input| gradients.get(input).is_some());
        assert_eq!((gradients.len(), found), (3, [wanted[0], wanted[1], false]));
        layer.w(&mut slot, &mut cx).unwrap();
    }
}

#[test]
fn a_steady_step_allocates_no_tensor() {
    for (spec, inputs) in wide() {
        let pool = Pool::default();
        let mut layer = spec.build_any(&BuildCtx::new(&pool, 5, "")).unwrap();
        let mut born = Vec::new();
        for _ in 0..4 {
            let dy = Some(wave([6, 70, 128], 0.3));
            crate::bench::pass_through(layer.as_mut(), &pool, &inputs, dy, PLAIN).unwrap();
            born.push(pool.report().born);
        }
        assert_eq!(born[1], born[3], "{spec:?}: {born:?}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let (x, memory, seen) = ([2, 5, 12], [2, 7, 8], [2, 7]);
    let f32s = |shapes: &[[usize; 3]]| -> Vec<TensorSpec> {
        shapes.iter().map(|shape| TensorSpec::f32(*shape)).collect()
    };
    let with_ids = |shapes: &[[usize; 3]], ids: TensorSpec| [f32s(shapes), vec![ids]].concat();
    let cross = || MultiHeadAttention::new(12, 3).memory(8);
    let cases: Vec<(Box<dyn AnySpec>, Vec<TensorSpec>, &str)> = vec![
        (
            Box::new(MultiHeadAttention::new(12, 5)),
            f32s(&[x]),
            "multiple of the heads",
        ),
        (
            Box::new(MultiHeadAttention::new(12, 0)),
            f32s(&[x]),
            "0 heads",
        ),
        (
            Box::new(MultiHeadAttention::new(10, 2)),
            f32s(&[x]),
            "[rows, at least 1, 10]",
        ),
        (
            Box::new(MultiHeadAttention::new(12, 3)),
            f32s(&[[2, 0, 12]]),
            "at least 1",
        ),
        (Box::new(cross()), f32s(&[x]), "expected 2 tensors"),
        (
            Box::new(cross()),
            f32s(&[x, [2, 7, 9]]),
            "memory of multi-head attention",
        ),
        (
            Box::new(cross()),
            f32s(&[x, [3, 7, 8]]),
            "[2, at least 1, 8]",
        ),
        (
            Box::new(cross().memory(0)),
            f32s(&[x, memory]),
            "at least 1",
        ),
        (
            Box::new(cross().padding(0)),
            f32s(&[x, memory]),
            "expected 3 tensors",
        ),
        (
            Box::new(cross().padding(0)),
            with_ids(&[x, memory], TensorSpec::i32([2, 6])),
            "[2, 7]",
        ),
        (
            Box::new(cross().padding(0)),
            with_ids(&[x, memory], TensorSpec::f32(seen)),
            "i32",
        ),
        (
            Box::new(cross().dropout(1.0)),
            f32s(&[x, memory]),
            "probability",
        ),
        (
            Box::new(part(cross(), 0.0)),
            vec![TensorSpec::i32([2, 5]), TensorSpec::f32(memory)],
            "f32",
        ),
        (Box::new(Residual::new(Linear::new(4, 4))), vec![], "0"),
    ];
    for (spec, inputs, named) in cases {
        let text = spec.output_specs(&inputs).unwrap_err().to_string();
        assert!(text.contains(named), "{spec:?}: {text}");
        if inputs.iter().any(|spec| spec.dtype == DType::I32) || inputs.is_empty() {
            continue;
        }
        let shapes = inputs.iter().filter(|spec| spec.shape.elements() > 0);
        let mut tensors = Tensors::none();
        shapes.for_each(|spec| tensors.push(Some(wave(spec.shape, 0.7))).unwrap());
        assert!(
            pass(spec.as_ref(), &[], &tensors, None, PLAIN).is_err(),
            "{spec:?}"
        );
    }
}

/// Keys that no number counts, of inputs that are not that large.
#[test]
fn the_largest_sizes_are_refused() {
    let cross = MultiHeadAttention::new(1 << 40, 1).memory(1);
    let inputs = [[1, 1, 1 << 40], [1, 1 << 40, 1]].map(TensorSpec::f32);
    let text = cross.outputs(&inputs).unwrap_err().to_string();
    assert!(text.contains("elements"), "{text}");
}

#[test]
fn ids_that_do_not_fit_are_refused_while_running() {
    let spec = MultiHeadAttention::new(12, 3).padding(0);
    let inputs = |ids| [wave([2, 5, 12], 0.7), ids].into();
    let running = |ids| {
        pass(&spec, &[], &inputs(ids), None, PLAIN)
            .unwrap_err()
            .to_string()
    };
    assert!(running(ids([2, 4], 9)).contains("[2, 5]"));
    assert!(running(wave([2, 5], 0.7)).contains("i32"));
}

#[test]
fn it_does_not_go_on_piece_by_piece() {
    let how = How {
        mode: Mode::Generate,
        ..PLAIN
    };
    let error = pass(
        &attention(12, 3),
        &[],
        &wave([2, 5, 12], 0.7).into(),
        None,
        how,
    );
    let text = error.unwrap_err().to_string();
    assert!(text.contains("cannot go on piece by piece"), "{text}");
}
