//! A sequence that is generated piece by piece is the whole sequence.

use crate::bench::{assert_close, ids, wave};
use brigade_layer::{
    AnyLayer, AnySpec, BuildCtx, Ctx, LayerError, LayerState, Mode, Pool, Tensor, Tensors,
};
use brigade_nn::{
    CausalSelfAttention, Chain, Embedding, GroupedQueryAttention, PositionEmbedding, Rotary,
    RotaryScaling,
};

/// A layer that goes along a sequence.
struct Going {
    layer: Box<dyn AnyLayer>,
    pool: Pool,
    state: LayerState,
    context: usize,
}

impl Going {
    fn new(spec: &dyn AnySpec, context: usize) -> Self {
        let pool = Pool::default();
        let layer = spec.build_any(&BuildCtx::new(&pool, 5, "")).unwrap();
        Self {
            layer,
            pool,
            state: LayerState::default(),
            context,
        }
    }

    fn forward(&mut self, mode: Mode, threads: usize, x: Tensor) -> Result<Tensors, LayerError> {
        let mut cx = Ctx::new(&self.pool, &mut self.state);
        cx.mode = mode;
        cx.threads = threads;
        cx.sequence_length = self.context;
        self.layer.f_only(x.into(), &mut cx)
    }
}

/// Positions of every row of [B, T, ..].
fn positions(x: &Tensor, range: std::ops::Range<usize>) -> Tensor {
    let axes = x.shape().axes().to_vec();
    let row: usize = axes[2..].iter().product();
    let mut shape = axes.clone();
    shape[1] = range.len();
    let shape = brigade_layer::Shape::new(&shape).unwrap();
    let rows = |row_of: &dyn Fn(usize) -> std::ops::Range<usize>| -> Vec<usize> {
        (0..axes[0])
            .flat_map(|sample| row_of(sample * axes[1] * row))
            .collect()
    };
    let at = rows(&|first| first + range.start * row..first + range.end * row);
    match x.f32() {
        Ok(all) => Tensor::from_vec(shape, at.iter().map(|at| all[*at]).collect()),
        Err(_) => {
            let all = x.i32().unwrap();
            Tensor::from_vec(shape, at.iter().map(|at| all[*at]).collect())
        }
    }
    .unwrap()
}

fn check(spec: &dyn AnySpec, x: &Tensor) {
    let length = x.shape().axes()[1];
    let mut going = Going::new(spec, length);
    let whole = going.forward(Mode::Evaluate, 1, x.clone()).unwrap();
    let whole = whole.get(0).unwrap().clone();
    let said = spec.cost_of(&[x.spec()]).sequence_bytes;
    for pieces in [vec![length], vec![1; length], vec![3, 1, 1, length - 5]] {
        let mut bits = Vec::new();
        for threads in [1, 3] {
            let (mut first, mut all) = (0, Vec::new());
            going.state.sequence.clear();
            for piece in &pieces {
                let (start, end) = (first, first + piece);
                let y = going.forward(Mode::Generate, threads, positions(x, start..end));
                let y = y.unwrap();
                let y = y.get(0).unwrap().f32().unwrap();
                let expected = positions(&whole, start..end);
                let what = format!("{spec:?} from {start} to {end}");
                assert_close(&what, y, expected.f32().unwrap(), 2e-5);
                all.extend(y.iter().map(|y| y.to_bits()));
                first = end;
                let bytes = going.state.sequence.bytes();
                assert_eq!(bytes, said, "as said, and it never grows");
            }
            bits.push(all);
        }
        assert!(bits[0] == bits[1], "threads show");
    }
}

fn rotary(scaling: RotaryScaling) -> Rotary {
    Rotary {
        theta: 100.0,
        scaling,
    }
}

#[test]
fn attention_in_pieces_is_attention() {
    check(&CausalSelfAttention::new(12, 3), &wave([2, 9, 12], 0.7));
    check(&CausalSelfAttention::new(32, 2), &wave([1, 70, 32], 0.7));
    let linear = rotary(RotaryScaling::Linear { factor: 2.0 });
    let grouped = GroupedQueryAttention::new(12, 4, 2).head_width(6);
    check(&grouped.clone().rotary(linear), &wave([2, 9, 12], 0.7));
    check(&grouped.with_bias(), &wave([1, 70, 12], 0.7));
}

#[test]
fn embeddings_know_where_they_are() {
    let positions = PositionEmbedding::new(12, 4);
    let embed = Chain::new("wte", Embedding::new(9, 4), "wpe", positions);
    check(&embed, &ids([2, 9], 9));
}

#[test]
fn a_sequence_that_gets_too_long_is_an_error() {
    let specs: [&dyn AnySpec; 3] = [
        &CausalSelfAttention::new(12, 3),
        &GroupedQueryAttention::new(12, 2, 1),
        &PositionEmbedding::new(6, 12),
    ];
    for spec in specs {
        let mut going = Going::new(spec, 6);
        going
            .forward(Mode::Generate, 1, wave([1, 4, 12], 0.7))
            .unwrap();
        let error = going
            .forward(Mode::Generate, 1, wave([1, 3, 12], 0.7))
            .unwrap_err();
        let problem = error.to_string();
        assert!(
            problem.contains("a sequence of 7 tokens; the longest is 6"),
            "{problem}"
        );
    }
}
