//! Every layer keeps the laws of the contract.

use crate::bench::{How, PLAIN, ids, pass, wave};
use brigade_layer::{
    AnyLayer, AnySpec, BuildCtx, Ctx, Init, LayerState, Mode, Part, Pool, Precision, Tensor,
    Tensors, conformance,
};
use brigade_nn::{
    Activation, CausalAttention, CausalSelfAttention, Chain, CrossEntropy, Dropout, Embedding,
    FeedForward, LayerNorm, Linear, MeanSquaredError, PositionEmbedding, Residual,
};

fn check(spec: &impl brigade_layer::LayerSpec, inputs: impl Into<Tensors>) {
    conformance::check(spec, &inputs.into()).unwrap_or_else(|law| panic!("{spec:?}: {law}"));
}

#[test]
fn linear() {
    check(&Linear::new(5, 7), wave([2, 3, 5], 0.7));
    check(&Linear::new(1, 1), wave([1, 1], 0.7));
    check(&Linear::new(9, 4).without_bias(), wave([6, 9], 0.7));
}

#[test]
fn embeddings() {
    check(&Embedding::new(11, 5), ids([2, 6], 11));
    check(&Embedding::new(3, 1), ids([4], 3));
    check(&PositionEmbedding::new(8, 5), wave([2, 6, 5], 0.7));
    check(&PositionEmbedding::new(6, 5), wave([3, 6, 5], 0.7));
}

#[test]
fn layer_norm() {
    for shape in [[3, 10], [70, 33]] {
        check(&LayerNorm::new(shape[1]), wave(shape, 0.7));
        check(&LayerNorm::new(shape[1]).without_bias(), wave(shape, 0.7));
    }
}

#[test]
fn activations() {
    for activation in [
        Activation::GeluTanh,
        Activation::GeluErf,
        Activation::Silu,
        Activation::Relu,
    ] {
        check(&activation, wave([3, 37], 0.7));
    }
}

#[test]
fn attention() {
    check(&CausalAttention::new(2), wave([2, 5, 12], 0.7));
    check(&CausalAttention::new(1), wave([1, 70, 6], 0.7));
    check(&CausalAttention::new(2).dropout(0.3), wave([2, 9, 12], 0.7));
    let init = Init::Normal(0.5);
    check(
        &CausalSelfAttention::new(12, 3).init(init, init),
        wave([2, 5, 12], 0.7),
    );
    let bare = CausalSelfAttention::new(8, 2)
        .init(init, init)
        .without_bias()
        .dropout(0.2);
    check(&bare, wave([2, 5, 8], 0.7));
}

#[test]
fn dropout() {
    check(&Dropout::new(0.0), wave([3, 10], 0.7));
    check(&Dropout::new(0.4), wave([3, 100], 0.7));
}

#[test]
fn layers_made_of_layers() {
    let mlp = Chain::new("c_fc", Linear::new(6, 24), "", Activation::GeluTanh)
        .then("c_proj", Linear::new(24, 6));
    check(&mlp, wave([4, 6], 0.7));
    let half = Chain::new("ln_2", LayerNorm::new(6), "mlp", mlp).then("", Dropout::new(0.3));
    check(&Residual::new(half), wave([4, 6], 0.7));
    let embed = Chain::new(
        "wte",
        Embedding::new(9, 4),
        "wpe",
        PositionEmbedding::new(5, 4),
    );
    check(&embed.then("", Dropout::new(0.2)), ids([3, 5], 9));
    let (first, second) = (Linear::new(6, 24), Linear::new(24, 5));
    check(
        &FeedForward::new(first, Activation::Silu, second),
        wave([4, 6], 0.7),
    );
}

/// The activation in the product's last pass, or after it: the same bits, for products that are
/// computed by tiles too, and for large ones whose results go past the caches.
#[test]
fn a_feed_forward_is_a_chain_of_its_parts() {
    let alike = |[rows, width, hidden]: [usize; 3], activation, precision| {
        let linear = || (Linear::new(width, hidden), Linear::new(hidden, width));
        let (first, second) = linear();
        let fused = FeedForward::new(first, activation, second);
        let (first, second) = linear();
        let chain = Chain::new("c_fc", first, "", activation).then("c_proj", second);
        let bits = |spec: &dyn AnySpec, threads: usize| {
            let (x, dy) = (wave([rows, width], 0.7), wave([rows, width], 1.3));
            let how = How {
                threads,
                precision,
                ..PLAIN
            };
            pass(spec, &[], &x.into(), Some(dy), how).unwrap().bits()
        };
        let one = bits(&chain, 1);
        for threads in [1, 3] {
            let sizes = [rows, width, hidden];
            assert!(
                one == bits(&fused, threads),
                "{sizes:?} {activation:?} {precision:?} {threads}"
            );
        }
    };
    for precision in [Precision::F32, Precision::Bf16] {
        for sizes in [[3, 6, 24], [70, 128, 520]] {
            for activation in [Activation::GeluTanh, Activation::GeluErf, Activation::Relu] {
                alike(sizes, activation, precision);
            }
        }
        alike([600, 40, 512], Activation::GeluTanh, precision);
    }
}

/// In bf16 a weight is rounded once for many products: not for longer than it is the weight.
#[test]
fn a_weight_that_changed_is_seen() {
    let (spec, pool) = (Linear::new(70, 40), Pool::default());
    let (x, dy) = (wave([9, 70], 0.7), wave([9, 40], 1.3));
    let run = |layer: &mut dyn AnyLayer| {
        let (mut state, mut slot) = (LayerState::default(), layer.slot());
        let mut cx = Ctx::new(&pool, &mut state);
        cx.precision = Precision::Bf16;
        let y = layer.f(x.clone().into(), &mut slot, &mut cx).unwrap();
        let dx = layer.i(dy.clone().into(), &mut slot, &mut cx).unwrap();
        layer.w(&mut slot, &mut cx).unwrap();
        [y, dx].map(|tensors| tensors.get(0).unwrap().f32().unwrap().to_vec())
    };
    let change = |layer: &mut dyn AnyLayer| {
        let weight = wave([40, 70], 0.9);
        layer.visit_params(&mut |param| {
            if param.info().key == "weight" {
                param
                    .write(Part::Value, weight.f32().unwrap(), &pool)
                    .unwrap();
            }
        });
    };
    let mut used = spec.build_any(&BuildCtx::new(&pool, 5, "")).unwrap();
    let before = run(used.as_mut());
    assert_eq!(before, run(used.as_mut()));
    change(used.as_mut());
    let mut fresh = spec.build_any(&BuildCtx::new(&pool, 5, "")).unwrap();
    change(fresh.as_mut());
    let after = run(used.as_mut());
    assert_eq!(after, run(fresh.as_mut()));
    assert_ne!(before, after);
}

#[test]
fn losses() {
    let targets = Tensor::from_vec([2, 3], vec![0, 4, -100, 2, 2, 1]).unwrap();
    check(
        &CrossEntropy::new(),
        [wave([2, 3, 5], 0.7), targets.clone()],
    );
    check(
        &CrossEntropy::new().label_smoothing(0.2),
        [wave([2, 3, 5], 0.7), targets],
    );
    check(&MeanSquaredError, [wave([4, 3], 0.7), wave([4, 3], 1.9)]);
}

#[test]
fn a_mask_belongs_to_the_sample_not_to_the_micro_batch() {
    let x = wave([6, 8, 12], 0.7);
    let specs: [&dyn AnySpec; 2] = [&Dropout::new(0.5), &CausalAttention::new(2).dropout(0.5)];
    for spec in specs {
        let whole = pass(spec, &[], &x.clone().into(), None, PLAIN).unwrap();
        let cut = x.rows(2..5).unwrap();
        let how = crate::bench::How {
            first_row: 2,
            ..PLAIN
        };
        let part = pass(spec, &[], &cut.into(), None, how).unwrap();
        let row = whole.outputs[0].len() / 6;
        assert_eq!(
            part.outputs[0],
            whole.outputs[0][2 * row..5 * row],
            "{spec:?}"
        );
    }
}

#[test]
fn nothing_is_dropped_when_evaluating() {
    let x = wave([2, 8, 12], 0.7);
    let how = crate::bench::How {
        mode: Mode::Evaluate,
        ..PLAIN
    };
    let dropped = pass(
        &CausalAttention::new(2).dropout(0.5),
        &[],
        &x.clone().into(),
        None,
        how,
    );
    let plain = pass(
        &CausalAttention::new(2),
        &[],
        &x.clone().into(),
        None,
        PLAIN,
    );
    assert_eq!(dropped.unwrap().bits(), plain.unwrap().bits());
    let kept = pass(&Dropout::new(0.5), &[], &x.clone().into(), None, how).unwrap();
    assert_eq!(kept.outputs[0], x.f32().unwrap());
}

#[test]
fn a_gradient_that_nobody_wants_is_not_computed() {
    let init = Init::Normal(0.5);
    let specs: [&dyn AnySpec; 6] = [
        &Linear::new(12, 12),
        &LayerNorm::new(12),
        &Activation::GeluTanh,
        &CausalSelfAttention::new(12, 3).init(init, init),
        &Residual::new(Linear::new(12, 12)),
        &PositionEmbedding::new(4, 12),
    ];
    for spec in specs {
        let pool = Pool::default();
        let mut layer = spec.build_any(&BuildCtx::new(&pool, 5, "")).unwrap();
        let (mut state, mut slot) = (LayerState::default(), layer.slot());
        let mut cx = Ctx::new(&pool, &mut state).wanting([false]);
        layer
            .f(wave([2, 4, 12], 0.7).into(), &mut slot, &mut cx)
            .unwrap();
        let dx = layer
            .i(wave([2, 4, 12], 0.3).into(), &mut slot, &mut cx)
            .unwrap();
        assert!(dx.len() == 1 && dx.get(0).is_none(), "{spec:?}");
        layer.w(&mut slot, &mut cx).unwrap();
    }
}

#[test]
fn a_steady_step_allocates_no_tensor() {
    let init = Init::Normal(0.5);
    let attention = CausalSelfAttention::new(12, 3)
        .init(init, init)
        .dropout(0.1);
    let half = Chain::new("ln_1", LayerNorm::new(12), "attn", attention);
    let specs: [(&dyn AnySpec, Tensors); 3] = [
        (
            &Residual::new(half.then("", Dropout::new(0.1))),
            wave([2, 7, 12], 0.7).into(),
        ),
        (&Embedding::new(5, 3), ids([2, 4], 5).into()),
        (
            &CrossEntropy::new(),
            [wave([4, 5], 0.7), ids([4], 5)].into(),
        ),
    ];
    for (spec, inputs) in specs {
        let pool = Pool::default();
        let mut layer = spec.build_any(&BuildCtx::new(&pool, 5, "")).unwrap();
        let mut born = Vec::new();
        for _ in 0..4 {
            let upstream = Some(wave(output_shape(spec, &inputs), 0.3));
            crate::bench::pass_through(layer.as_mut(), &pool, &inputs, upstream, PLAIN).unwrap();
            born.push(pool.report().born);
        }
        assert_eq!(born[1], born[3], "{spec:?}: {born:?}");
    }
}

fn output_shape(spec: &dyn AnySpec, inputs: &Tensors) -> brigade_layer::Shape {
    let specs: Vec<_> = inputs.iter().flatten().map(Tensor::spec).collect();
    spec.output_specs(&specs).unwrap()[0].shape
}
