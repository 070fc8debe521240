//! A layer that looks at all positions before each, and keeps them when it generates.

use brigade::layer::*;
use brigade::{Config, Generation, Trainer, nn};
use std::ops::ControlFlow;
use std::time::Duration;

/// y[t] = x[t] + the sum over all s up to t of x[s] / (1 + t - s).
#[derive(Clone, Debug, Default)]
pub struct History {
    pub sleep: Duration,
    /// When generating it breaks at this position.
    pub breaks_at: Option<usize>,
    /// It says that it cannot generate.
    pub refuses: bool,
}

pub struct HistoryLayer(History);

/// What was seen, as long as a sequence may get, and how much of it is there.
#[derive(Default)]
struct Seen {
    inputs: Option<Tensor>,
    positions: usize,
}

impl Keep for Seen {
    fn tensors(&self, visit: &mut dyn FnMut(&Tensor)) {
        self.inputs.iter().for_each(visit);
    }
}

impl LayerSpec for History {
    type Layer = HistoryLayer;
    fn outputs(&self, inputs: &[TensorSpec]) -> Result<Vec<TensorSpec>, LayerError> {
        Ok(vec![inputs[0]])
    }
    fn cost(&self, inputs: &[TensorSpec]) -> Cost {
        let bytes = inputs[0].bytes();
        Cost {
            forward_flops: bytes,
            input_flops: bytes,
            forward_working_bytes: bytes,
            backward_working_bytes: bytes,
            sequence_bytes: bytes,
            ..Cost::default()
        }
    }
    fn build(&self, _: &BuildCtx<'_>) -> Result<HistoryLayer, LayerError> {
        Ok(HistoryLayer(self.clone()))
    }
}

impl Layer for HistoryLayer {
    type Stash = ();
    type Kept = ();

    fn forward(&mut self, x: Tensors, cx: &mut Ctx<'_>) -> Result<(Tensors, ()), LayerError> {
        let [x] = x.take()?;
        std::thread::sleep(self.0.sleep);
        let (shape, width) = (x.shape(), x.shape().last());
        let mut y = cx.f32(shape)?;
        if cx.mode != Mode::Generate {
            let rows = x.f32()?.chunks_exact(shape.row_elements());
            for (x, y) in rows.zip(y.data().chunks_exact_mut(shape.row_elements())) {
                sums(x, y, width);
            }
            return Ok((y.freeze().into(), ()));
        }
        if self.0.refuses {
            return Err(LayerError::spec("history", "it cannot generate"));
        }
        let (pool, length) = (cx.pool(), cx.sequence_length);
        let seen = cx.sequence_state::<Seen>();
        let from = seen.positions;
        let to = from + shape.axes()[1];
        if self.0.breaks_at.is_some_and(|at| (from..to).contains(&at)) {
            return Err(LayerError::Value("the history breaks".into()));
        }
        let mut inputs = match seen.inputs.take() {
            Some(inputs) => pool.writable::<f32>(inputs)?,
            None => pool.f32([length, width])?,
        };
        inputs.data()[from * width..to * width].copy_from_slice(x.f32()?);
        sums(&inputs.read()[..to * width], y.data(), width);
        (seen.inputs, seen.positions) = (Some(inputs.freeze()), to);
        Ok((y.freeze().into(), ()))
    }

    fn backward_input(
        &mut self,
        dy: Tensors,
        (): (),
        _: &mut Ctx<'_>,
    ) -> Result<(Tensors, ()), LayerError> {
        Ok((dy, ()))
    }

    fn backward_weight(&mut self, (): (), _: &mut Ctx<'_>) -> Result<(), LayerError> {
        Ok(())
    }
}

/// The last positions of what is seen, as many as fit.
fn sums(seen: &[f32], y: &mut [f32], width: usize) {
    let first = (seen.len() - y.len()) / width;
    for (at, y) in y.chunks_exact_mut(width).enumerate() {
        let t = first + at;
        y.copy_from_slice(&seen[t * width..][..width]);
        for (s, x) in seen.chunks_exact(width).take(t + 1).enumerate() {
            let share = 1.0 / (1 + t - s) as f32;
            y.iter_mut().zip(x).for_each(|(y, x)| *y += share * x);
        }
    }
}

pub const VOCABULARY: usize = 23;

/// Tokens, histories with more in between, and logits: 7 layers and the loss.
pub fn storyteller(context: usize, middle: History) -> Network {
    let row = TensorSpec::i32([context]);
    (Network::builder().input(row).target(row))
        .layer("embed", nn::Embedding::new(VOCABULARY, 6))
        .layer("first", History::default())
        .layer("mix", nn::Linear::new(6, 6))
        .layer("middle", middle)
        .layer("norm", nn::LayerNorm::new(6))
        .layer("last", History::default())
        .layer("head", nn::Linear::new(6, VOCABULARY))
        .loss("loss", nn::CrossEntropy::new())
        .build()
        .unwrap()
}

/// Nothing but tokens and histories: what comes out does not depend on how many positions a product
/// is of.
pub fn summing(context: usize) -> Network {
    let row = TensorSpec::i32([context]);
    (Network::builder().input(row).target(row))
        .layer("embed", nn::Embedding::new(VOCABULARY, VOCABULARY))
        .layer("first", History::default())
        .layer("last", History::default())
        .loss("loss", nn::CrossEntropy::new())
        .build()
        .unwrap()
}

/// Some text.
pub fn prompt(length: usize) -> Vec<i32> {
    let random = Random::named(5, "prompt");
    (0..length)
        .map(|at| random.below(at as u64, 0, VOCABULARY as u64) as i32)
        .collect()
}

pub fn one_row() -> Config {
    Config {
        batch_size: 1,
        micro_batch_size: 1,
        deadline_s: 20.0,
        ..Config::default()
    }
}

/// A draw that goes wherever the logits' bits lead.
pub fn wild(logits: &[f32], draw: u64) -> Result<i32, LayerError> {
    let bits = { logits.iter() }.fold(draw, |all, logit| {
        (all ^ u64::from(logit.to_bits())).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    });
    Ok((bits >> 40) as i32 % VOCABULARY as i32)
}

pub fn tokens(trainer: &mut Trainer, prompt: &[i32], count: usize) -> Vec<i32> {
    let generation = Generation {
        tokens: count,
        ..Generation::default()
    };
    let mut seen = Vec::new();
    let each = |token| {
        seen.push(token);
        ControlFlow::Continue(())
    };
    let generated = trainer.generate(prompt, &generation, wild, each).unwrap();
    assert_eq!(generated.tokens, seen);
    assert_eq!(seen.len(), count);
    seen
}
