//! One thread or several, in place or not: the same bits.

use crate::bench::{How, PLAIN, ids, part, pass, wave};
use brigade_layer::{
    AnySpec, BuildCtx, Init, Optimizer, Param, ParamAccess, ParamRole, ParamSpec, Part, Pool,
    StepId, Tensors, UpdateWith,
};
use brigade_nn::{
    Activation, Adam, AdamW, CausalSelfAttention, Chain, CrossEntropy, Dropout, Embedding,
    LayerNorm, Linear, MeanSquaredError, PositionEmbedding, Residual, Sgd,
};

/// Runs `work` on a thread that is a member of its own rayon pool, as a node's compute thread is.
pub(crate) fn on_a_node<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| {
        let node = scope.spawn(|| {
            let builder = rayon::ThreadPoolBuilder::new().num_threads(threads);
            let _pool = builder.use_current_thread().build().unwrap();
            work()
        });
        node.join().unwrap()
    })
}

fn cases() -> Vec<(Box<dyn AnySpec>, Tensors)> {
    let wide = || wave([6, 70, 128], 0.7);
    let init = Init::Normal(0.2);
    let attention = |dropout| {
        CausalSelfAttention::new(128, 4)
            .init(init, init)
            .dropout(dropout)
    };
    let logits = [wave([420, 131], 0.7), ids([420], 131)];
    let embed = Chain::new(
        "wte",
        Embedding::new(50, 96),
        "wpe",
        PositionEmbedding::new(80, 96),
    );
    vec![
        (Box::new(Linear::new(128, 600)), wide().into()),
        (
            Box::new(Linear::new(1500, 70)),
            wave([65, 1500], 0.7).into(),
        ),
        (Box::new(embed), ids([6, 70], 50).into()),
        (Box::new(LayerNorm::new(128)), wide().into()),
        (Box::new(Activation::GeluTanh), wide().into()),
        (Box::new(Activation::GeluErf), wide().into()),
        (Box::new(Activation::Relu), wide().into()),
        (Box::new(Activation::Silu), wide().into()),
        (Box::new(Dropout::new(0.3)), wave([2, 50_000], 0.7).into()),
        (Box::new(attention(0.0)), wide().into()),
        (Box::new(attention(0.3)), wide().into()),
        (
            Box::new(Residual::new(Linear::new(128, 128))),
            wide().into(),
        ),
        (
            Box::new(CrossEntropy::new().label_smoothing(0.1)),
            logits.into(),
        ),
        (
            Box::new(MeanSquaredError),
            [wave([6, 9000], 0.7), wave([6, 9000], 1.9)].into(),
        ),
    ]
}

#[test]
fn every_layer_gives_the_same_bits_on_one_thread_and_on_several() {
    for (spec, inputs) in cases() {
        let alone = pass(spec.as_ref(), &[], &inputs, None, PLAIN).unwrap();
        for threads in [1, 2, 3] {
            let how = How { threads, ..PLAIN };
            let several = on_a_node(threads, || pass(spec.as_ref(), &[], &inputs, None, how));
            assert!(
                alone.bits() == several.unwrap().bits(),
                "{threads} threads: {spec:?}"
            );
        }
    }
}

#[test]
fn working_in_place_gives_the_same_bits() {
    for (spec, inputs) in cases() {
        let shared = pass(spec.as_ref(), &[], &inputs, None, PLAIN).unwrap();
        let how = How {
            owned: true,
            ..PLAIN
        };
        let alone = pass(spec.as_ref(), &[], &inputs, None, how).unwrap();
        assert!(shared.bits() == alone.bits(), "{spec:?}");
    }
}

#[test]
fn every_optimizer_gives_the_same_bits_on_one_thread_and_on_several() {
    let momentum = Sgd {
        momentum: 0.9,
        ..Sgd::default()
    };
    let rules: [&dyn Optimizer; 4] = [
        &Sgd::default(),
        &momentum,
        &Adam::default(),
        &AdamW::default(),
    ];
    for rule in rules {
        let alone = updated(rule, 1);
        for threads in [2, 3] {
            let several = on_a_node(threads, || updated(rule, threads));
            assert!(alone == several, "{threads} threads: {rule:?}");
        }
    }
}

fn updated(rule: &dyn Optimizer, threads: usize) -> Vec<u32> {
    let pool = Pool::default();
    let spec = ParamSpec::new("w", [70_001], ParamRole::Weight, Init::Normal(1.0));
    let mut param = Param::build(&spec, &BuildCtx::new(&pool, 1, "")).unwrap();
    for step in 0..3 {
        let gradient = wave([70_001], 0.3 + step as f64);
        param
            .write(Part::Gradient, gradient.f32().unwrap(), &pool)
            .unwrap();
        let with = UpdateWith::new(StepId::new(step), &pool).threads(threads);
        param.update(rule, &with).unwrap();
    }
    part(&param, Part::Value)
        .iter()
        .map(|w| w.to_bits())
        .collect()
}
