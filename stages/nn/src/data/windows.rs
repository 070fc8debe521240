//! Tokens as data: windows of a long text.

use super::Tokens;
use super::error::list_of;
use brigade_layer::{Data, LayerError, Random, StepId, Tensor, Tensors};
use std::ops::Range;

/// A target that does not count.
const PADDING: i32 = -100;

/// Windows of a sequence of tokens; the targets are the tokens that follow.
///
/// # Shapes
/// Inputs and targets i32 [rows, T], T `context`.
#[derive(Clone, Debug)]
pub struct TokenWindows {
    tokens: Tokens,
    context: usize,
    order: Order,
}

#[derive(Clone, Copy, Debug)]
enum Order {
    /// Row r of step s starts anywhere, by (seed, s, r).
    Random { rows: usize, random: Random },
    /// Row r is window r N / `rows` of the N that lie one after the other.
    Sequential { rows: usize },
}

impl TokenWindows {
    /// Mini-batches of `rows` windows that start anywhere: to train on.
    ///
    /// # Errors
    /// With fewer tokens than one window and its last target need, or a context or number of rows
    /// of 0.
    pub fn random(
        tokens: impl Into<Tokens>,
        context: usize,
        rows: usize,
        seed: u64,
    ) -> Result<Self, LayerError> {
        let tokens = tokens.into();
        if rows == 0 {
            return Err(LayerError::spec("token windows", "0 rows; use at least 1"));
        }
        let random = Random::named(seed, "token windows");
        Self::new(
            tokens,
            context,
            context.saturating_add(1),
            Order::Random { rows, random },
        )
    }

    /// One mini-batch of consecutive windows that predicts every token but the first once: to
    /// evaluate on. The last window is filled up with inputs of 0 and targets of -100, which do not
    /// count.
    ///
    /// # Errors
    /// With fewer than two tokens, or a context of 0.
    pub fn sequential(tokens: impl Into<Tokens>, context: usize) -> Result<Self, LayerError> {
        let tokens = tokens.into();
        let rows = tokens.len().saturating_sub(1).div_ceil(context.max(1));
        Self::new(tokens, context, 2, Order::Sequential { rows })
    }

    /// At most so many of consecutive windows, evenly spread: a quicker evaluation. Random windows
    /// stay as they are, and so does everything with `most` 0.
    #[must_use]
    pub fn at_most(mut self, most: usize) -> Self {
        if let Order::Sequential { rows } = &mut self.order
            && most > 0
        {
            *rows = most.min(*rows);
        }
        self
    }

    /// How many windows lie one after the other.
    fn windows_in_all(&self) -> usize {
        (self.tokens.len() - 1).div_ceil(self.context)
    }

    fn new(tokens: Tokens, context: usize, least: usize, order: Order) -> Result<Self, LayerError> {
        if context == 0 {
            return Err(LayerError::spec(
                "token windows",
                "a context of 0; use at least 1",
            ));
        }
        if tokens.len() < least {
            let problem = format!(
                "{} tokens are too few for a context of {context}; at least {least} are needed",
                tokens.len()
            );
            return Err(LayerError::spec("token windows", problem));
        }
        Ok(Self {
            tokens,
            context,
            order,
        })
    }

    fn start(&self, step: StepId, row: usize) -> usize {
        match self.order {
            Order::Sequential { rows } => row * self.windows_in_all() / rows * self.context,
            Order::Random { random, .. } => {
                let starts = self.tokens.len() - self.context;
                // The step is the sample, so that any row of any step is one draw.
                let [low, high, ..] = random.words(step.get(), 0, row as u32);
                let wide = u128::from(u64::from(high) << 32 | u64::from(low)) * starts as u128;
                (wide >> 64) as usize
            }
        }
    }

    /// Windows moved by `shift`, filled up with `padding`.
    fn windows(
        &self,
        step: StepId,
        rows: Range<usize>,
        shift: usize,
        padding: i32,
    ) -> Result<Tensors, LayerError> {
        let count = self.rows(step);
        if rows.start > rows.end || rows.end > count {
            let problem = format!("rows {rows:?} of a mini-batch of {count}");
            return Err(LayerError::Value(format!("token windows: {problem}")));
        }
        let shape = [rows.len(), self.context];
        let mut numbers = list_of(rows.len().saturating_mul(self.context))?;
        for row in rows {
            let start = self.start(step, row) + shift;
            let end = (start + self.context).min(self.tokens.len());
            self.tokens.read(start..end, &mut numbers)?;
            let missing = self.context - (end - start);
            numbers.extend(std::iter::repeat_n(padding, missing));
        }
        Ok(Tensor::from_vec(shape, numbers)?.into())
    }
}

impl Data for TokenWindows {
    fn rows(&self, _: StepId) -> usize {
        match self.order {
            Order::Random { rows, .. } => rows,
            Order::Sequential { rows } => rows,
        }
    }

    fn inputs(&self, step: StepId, rows: Range<usize>) -> Result<Tensors, LayerError> {
        self.windows(step, rows, 0, 0)
    }

    fn targets(&self, step: StepId, rows: Range<usize>) -> Result<Tensors, LayerError> {
        self.windows(step, rows, 1, PADDING)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn numbers(tensors: Tensors) -> Vec<i32> {
        let [tensor] = tensors.take().unwrap();
        tensor.i32().unwrap().to_vec()
    }

    #[test]
    fn sequential_windows_predict_every_token_but_the_first_once() {
        for len in 2..20 {
            let tokens: Vec<i32> = (0..len).collect();
            let data = TokenWindows::sequential(tokens, 4).unwrap();
            let step = StepId::new(0);
            let rows = data.rows(step);
            let targets = numbers(data.targets(step, 0..rows).unwrap());
            let counted: Vec<i32> = targets.iter().copied().filter(|t| *t != PADDING).collect();
            assert_eq!(counted, (1..len).collect::<Vec<_>>());
            let inputs = numbers(data.inputs(step, 0..rows).unwrap());
            for (input, target) in inputs.iter().zip(&targets) {
                assert!(*target == PADDING || *target == input + 1);
            }
            assert!(data.inputs(step, 0..rows + 1).is_err());
        }
    }

    #[test]
    fn fewer_windows_are_spread_evenly() {
        let all = TokenWindows::sequential((0..41).collect::<Vec<_>>(), 4).unwrap();
        let step = StepId::new(0);
        assert_eq!(all.rows(step), 10);
        let some = all.clone().at_most(4);
        assert_eq!(some.rows(step), 4);
        let inputs = numbers(some.inputs(step, 0..4).unwrap());
        let starts: Vec<i32> = inputs.chunks(4).map(|row| row[0]).collect();
        assert_eq!(starts, [0, 8, 20, 28]);
        assert_eq!(all.clone().at_most(0).rows(step), 10);
        assert_eq!(all.at_most(99).rows(step), 10);
    }

    #[test]
    fn the_last_sequential_window_is_filled_up() {
        let data = TokenWindows::sequential(vec![5, 6, 7, 8, 9, 10], 4).unwrap();
        let step = StepId::new(0);
        assert_eq!(numbers(data.inputs(step, 1..2).unwrap()), [9, 10, 0, 0]);
        assert_eq!(
            numbers(data.targets(step, 1..2).unwrap()),
            [10, -100, -100, -100]
        );
    }

    #[test]
    fn random_rows_are_functions_of_seed_step_and_row() {
        let tokens: Arc<[i32]> = (0..50).collect();
        let data = TokenWindows::random(tokens.clone(), 4, 6, 1).unwrap();
        let (all, some) = (
            data.inputs(StepId::new(3), 0..6),
            data.inputs(StepId::new(3), 2..4),
        );
        let all = numbers(all.unwrap());
        assert_eq!(all[8..16], numbers(some.unwrap()));
        assert_ne!(all, numbers(data.inputs(StepId::new(4), 0..6).unwrap()));
        let other = TokenWindows::random(tokens, 4, 6, 2).unwrap();
        assert_ne!(all, numbers(other.inputs(StepId::new(3), 0..6).unwrap()));
        let targets = numbers(data.targets(StepId::new(3), 0..6).unwrap());
        assert!(
            all.iter()
                .zip(targets)
                .all(|(input, target)| target == input + 1)
        );
    }

    #[test]
    fn random_windows_start_everywhere() {
        let data = TokenWindows::random((0..7).collect::<Vec<_>>(), 4, 200, 1).unwrap();
        let inputs = numbers(data.inputs(StepId::new(0), 0..200).unwrap());
        let mut starts: Vec<i32> = inputs.chunks(4).map(|row| row[0]).collect();
        starts.sort_unstable();
        starts.dedup();
        assert_eq!(starts, [0, 1, 2]);
    }

    /// No more rows than the machine can hold: an error, not an abort.
    #[test]
    fn too_many_rows_at_once_are_refused() {
        let data = TokenWindows::random(vec![1; 5], 4, usize::MAX / 4, 0).unwrap();
        let all = data.inputs(StepId::new(0), 0..usize::MAX / 4);
        assert!(matches!(all, Err(LayerError::AllocationRefused { .. })));
    }

    #[test]
    fn too_few_tokens_are_refused() {
        assert!(TokenWindows::random(vec![1; 4], 4, 1, 0).is_err());
        assert!(TokenWindows::random(vec![1; 5], 4, 1, 0).is_ok());
        assert!(TokenWindows::random(vec![1; 5], 4, 0, 0).is_err());
        assert!(TokenWindows::sequential(vec![1], 4).is_err());
        assert!(TokenWindows::sequential(vec![1, 2], 0).is_err());
    }
}
