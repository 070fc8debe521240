//! What a loss promises beside what every layer does: it is a sum over terms that it can count.

use super::{Bench, Violation};
use crate::{LayerError, LayerSpec, LayerState, Tensor, TensorSpec, Tensors};

/// Checks a loss on a prediction and targets (the inputs after it) of two rows or more: as
/// [`check`](super::check) without gradients of targets, and that loss and
/// [terms](LayerSpec::loss_terms) of all rows are the sums of those of the rows one by one. So the
/// mean over a mini-batch does not depend on how it is cut into micro-batches.
///
/// # Errors
/// The first law that is broken.
pub fn check_loss<S: LayerSpec>(spec: &S, inputs: &Tensors) -> Result<(), Violation> {
    let wanted = (0..inputs.len()).map(|input| input == 0).collect();
    let bench = Bench::new(spec, inputs, wanted);
    bench.check()?;
    let whole = bench.loss(inputs)?;
    let rows = inputs.get(0).map_or(0, |x| x.shape().rows());
    if rows < 2 {
        let problem = "give the check of a loss two rows or more";
        return Err(LayerError::Value(problem.into()).into());
    }
    let mut sums = [0.0; 2];
    for row in 0..rows {
        let one = some(inputs, |tensor| tensor.rows(row..row + 1))?;
        for (sum, found) in sums.iter_mut().zip(bench.loss(&one)?) {
            *sum += found;
        }
    }
    for ((what, whole), rows) in ["the loss", "`loss_terms`"]
        .into_iter()
        .zip(whole)
        .zip(sums)
    {
        // The loss is a number of f32; terms are counts, or weights.
        if (whole - rows).abs() <= 1e-4 * (whole.abs() + 1e-2) {
            continue;
        }
        let what = what.into();
        return Err(Violation::NotASum { what, whole, rows });
    }
    Ok(())
}

impl Bench<'_> {
    /// The loss, and over how many terms.
    fn loss(&self, inputs: &Tensors) -> Result<[f64; 2], LayerError> {
        let mut targets = Tensors::none();
        for target in inputs.iter().skip(1) {
            targets.push(target.cloned())?;
        }
        let mut layer = self.build()?;
        let mut cx_state = LayerState::default();
        let outputs = layer.f_only(inputs.clone(), &mut self.ctx(&mut cx_state))?;
        let [loss] = outputs.take()?;
        if loss.spec() != TensorSpec::f32([1]) {
            return Err(LayerError::shape("output of a loss", "[1]", loss.shape()));
        }
        Ok([loss.f32()?[0].into(), self.spec.terms(&targets)?])
    }
}

fn some(
    inputs: &Tensors,
    part: impl Fn(&Tensor) -> Result<Tensor, LayerError>,
) -> Result<Tensors, LayerError> {
    let mut parts = Tensors::none();
    for input in inputs.iter() {
        parts.push(input.map(&part).transpose()?)?;
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BuildCtx, Cost, Ctx, Layer};

    /// The sum of squares, with one mistake or none.
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Squares {
        Right,
        Mean,
        NoTerms,
        CountsRows,
        NoGradient,
        WrongShape,
    }

    impl LayerSpec for Squares {
        type Layer = Self;

        fn outputs(&self, _: &[TensorSpec]) -> Result<Vec<TensorSpec>, LayerError> {
            Ok(vec![TensorSpec::f32([1])])
        }

        fn cost(&self, inputs: &[TensorSpec]) -> Cost {
            let bytes = inputs[0].bytes();
            Cost {
                stash_bytes: bytes,
                forward_working_bytes: bytes + 4,
                backward_working_bytes: bytes,
                ..Cost::default()
            }
        }

        fn build(&self, _: &BuildCtx<'_>) -> Result<Self, LayerError> {
            Ok(*self)
        }

        fn loss_terms(&self, targets: &Tensors) -> Result<f64, LayerError> {
            let targets = targets.get(0).ok_or(LayerError::Missing { index: 0 })?;
            match self {
                Self::NoTerms => Squares::without_terms(),
                Self::CountsRows => Ok(4.0),
                _ => Ok(targets.shape().elements() as f64),
            }
        }
    }

    impl Squares {
        fn without_terms() -> Result<f64, LayerError> {
            #[derive(Debug)]
            struct NoLoss;
            impl LayerSpec for NoLoss {
                type Layer = Squares;
                fn outputs(&self, _: &[TensorSpec]) -> Result<Vec<TensorSpec>, LayerError> {
                    Ok(Vec::new())
                }
                fn cost(&self, _: &[TensorSpec]) -> Cost {
                    Cost::default()
                }
                fn build(&self, _: &BuildCtx<'_>) -> Result<Squares, LayerError> {
                    Ok(Squares::NoTerms)
                }
            }
            NoLoss.loss_terms(&Tensors::none())
        }
    }

    impl Layer for Squares {
        type Stash = Tensor;
        type Kept = ();

        fn forward(
            &mut self,
            inputs: Tensors,
            cx: &mut Ctx<'_>,
        ) -> Result<(Tensors, Tensor), LayerError> {
            let [y, t] = inputs.take()?;
            let mut errors = cx.f32(y.shape())?;
            errors.view_mut().assign(&(&y.view()? - &t.view()?));
            let mut loss = cx.f32([1])?;
            loss.data()[0] = errors.read().iter().map(|e| e * e).sum();
            if *self == Self::Mean {
                loss.data()[0] /= errors.read().len() as f32;
            }
            Ok((loss.freeze().into(), errors.freeze()))
        }

        fn backward_input(
            &mut self,
            gradients: Tensors,
            errors: Tensor,
            cx: &mut Ctx<'_>,
        ) -> Result<(Tensors, ()), LayerError> {
            let [gradient] = gradients.take()?;
            let mut factor = 2.0 * gradient.f32()?[0];
            if *self == Self::Mean {
                factor /= errors.shape().elements() as f32;
            }
            let mut dy = cx.writable::<f32>(errors)?;
            dy.data().iter_mut().for_each(|e| *e *= factor);
            let dy = dy.freeze();
            let dy = match self {
                Self::NoGradient => None,
                Self::WrongShape => Some(dy.reshape([6])?),
                _ => Some(dy),
            };
            Ok(([dy, None].into(), ()))
        }

        fn backward_weight(&mut self, (): (), _: &mut Ctx<'_>) -> Result<(), LayerError> {
            Ok(())
        }
    }

    fn found(loss: Squares, rows: usize) -> Result<(), String> {
        let wave = |factor: f32| {
            let numbers = (0..2 * rows).map(|n| (n as f32 * factor).sin()).collect();
            Tensor::from_vec([rows, 2], numbers)
        };
        let inputs = [wave(0.7).unwrap(), wave(1.9).unwrap()].into();
        check_loss(&loss, &inputs).map_err(|violation| violation.to_string())
    }

    #[test]
    fn a_loss_is_a_sum_over_terms_that_it_counts() {
        assert_eq!(found(Squares::Right, 3), Ok(()));
        for (loss, rows, says) in [
            (Squares::Mean, 3, "the loss of all rows is"),
            (
                Squares::NoTerms,
                3,
                "a loss implements `LayerSpec::loss_terms`",
            ),
            (Squares::CountsRows, 3, "`loss_terms` of all rows is 4"),
            (Squares::NoGradient, 3, "`backward_input` gave none"),
            (
                Squares::WrongShape,
                3,
                "gradient of input 0: expected shape [3, 2], found [6]",
            ),
            (Squares::Right, 1, "two rows or more"),
        ] {
            let violation = found(loss, rows).unwrap_err();
            assert!(violation.contains(says), "{loss:?}: {violation}");
        }
    }
}
