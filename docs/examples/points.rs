//! A curve through points: a layer and a loss of one's own, checked against the laws of layers and
//! trained over three nodes.
//!
//! `cargo run --release --example points`

use brigade::layer::*;
use brigade::ndarray;
use brigade::nn::{AdamW, Linear};
use brigade::{Config, Trainer};

/// y = x + a sin(x), with one parameter a for every column ("snake" without its frequency).
#[derive(Clone, Debug)]
struct Snake {
    width: usize,
}

struct SnakeLayer {
    a: Param,
}

impl LayerSpec for Snake {
    type Layer = SnakeLayer;

    fn params(&self) -> Vec<ParamSpec> {
        vec![ParamSpec::new(
            "a",
            [self.width],
            ParamRole::Weight,
            Init::Ones,
        )]
    }

    fn outputs(&self, inputs: &[TensorSpec]) -> Result<Vec<TensorSpec>, LayerError> {
        match inputs {
            [x] if x.shape.last() == self.width => Ok(vec![*x]),
            [x, ..] => Err(LayerError::shape(
                "snake",
                format!("[.., {}]", self.width),
                x.shape,
            )),
            [] => Err(LayerError::Arity {
                expected: 1,
                found: 0,
            }),
        }
    }

    fn cost(&self, inputs: &[TensorSpec]) -> Cost {
        let (n, bytes) = (inputs[0].shape.elements() as u64, inputs[0].bytes());
        Cost {
            forward_flops: 3 * n,
            input_flops: 3 * n,
            weight_flops: 2 * n,
            stash_bytes: bytes,
            kept_bytes: 2 * bytes,
            forward_working_bytes: bytes,
            backward_working_bytes: bytes,
            ..Cost::default()
        }
    }

    fn build(&self, cx: &BuildCtx<'_>) -> Result<SnakeLayer, LayerError> {
        Ok(SnakeLayer {
            a: Param::build(&self.params()[0], cx)?,
        })
    }
}

impl Layer for SnakeLayer {
    /// F keeps x.
    type Stash = Tensor;
    /// I keeps x and dy for W.
    type Kept = (Tensor, Tensor);

    fn forward(
        &mut self,
        inputs: Tensors,
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensors, Tensor), LayerError> {
        let [x] = inputs.take()?;
        let mut y = cx.f32(x.shape())?;
        let a = ndarray::aview1(self.a.value());
        y.matrix_mut()
            .assign(&(&x.matrix()? + &(&x.matrix()?.mapv(f32::sin) * &a)));
        Ok((y.freeze().into(), x))
    }

    fn backward_input(
        &mut self,
        gradients: Tensors,
        x: Tensor,
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensors, (Tensor, Tensor)), LayerError> {
        let [dy] = gradients.take()?;
        let mut dx = cx.f32(dy.shape())?;
        let a = ndarray::aview1(self.a.value());
        let slope = x.matrix()?.mapv(f32::cos) * a + 1.0;
        dx.matrix_mut().assign(&(&dy.matrix()? * &slope));
        Ok((dx.freeze().into(), (x, dy)))
    }

    fn backward_weight(
        &mut self,
        (x, dy): (Tensor, Tensor),
        cx: &mut Ctx<'_>,
    ) -> Result<(), LayerError> {
        let share = (&x.matrix()?.mapv(f32::sin) * &dy.matrix()?).sum_axis(ndarray::Axis(0));
        for (sum, share) in self.a.gradient_add(cx.pool())?.iter_mut().zip(share) {
            *sum += share;
        }
        Ok(())
    }

    fn params(&mut self, visit: &mut dyn FnMut(&mut dyn ParamAccess)) {
        visit(&mut self.a);
    }
}

/// The sum of log cosh(y - t): like half the square for small errors, like the absolute value for
/// large ones, so that a few wild points do not bend the whole curve.
#[derive(Clone, Debug)]
struct LogCosh;

struct LogCoshLayer;

/// log(cosh(e)) without overflow, as |e| + log(1 + exp(-2 |e|)) - log 2.
fn log_cosh(e: f32) -> f32 {
    e.abs() + (-2.0 * e.abs()).exp().ln_1p() - std::f32::consts::LN_2
}

impl LayerSpec for LogCosh {
    type Layer = LogCoshLayer;

    fn outputs(&self, inputs: &[TensorSpec]) -> Result<Vec<TensorSpec>, LayerError> {
        match inputs {
            [y, t] if y == t => Ok(vec![TensorSpec::f32([1])]),
            [y, t] => Err(LayerError::shape("targets", y.to_string(), t.shape)),
            _ => Err(LayerError::Arity {
                expected: 2,
                found: inputs.len(),
            }),
        }
    }

    fn cost(&self, inputs: &[TensorSpec]) -> Cost {
        let (n, bytes) = (inputs[0].shape.elements() as u64, inputs[0].bytes());
        Cost {
            forward_flops: 6 * n,
            input_flops: 6 * n,
            stash_bytes: bytes,
            forward_working_bytes: bytes + 4,
            ..Cost::default()
        }
    }

    fn build(&self, _: &BuildCtx<'_>) -> Result<LogCoshLayer, LayerError> {
        Ok(LogCoshLayer)
    }

    /// Every number of the targets is a term of the mean.
    fn loss_terms(&self, targets: &Tensors) -> Result<f64, LayerError> {
        let targets = targets.get(0).ok_or(LayerError::Missing { index: 0 })?;
        Ok(targets.shape().elements() as f64)
    }
}

impl Layer for LogCoshLayer {
    /// F keeps the errors.
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
        loss.data()[0] = errors.read().iter().map(|e| log_cosh(*e)).sum();
        Ok((loss.freeze().into(), errors.freeze()))
    }

    /// The gradient that comes in is 1 over all terms of the mini-batch. Nobody wants one of
    /// targets, which come from the data.
    fn backward_input(
        &mut self,
        gradients: Tensors,
        errors: Tensor,
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensors, ()), LayerError> {
        let [seed] = gradients.take()?;
        let seed = seed.f32()?[0];
        let mut slopes = cx.writable::<f32>(errors)?;
        slopes.data().iter_mut().for_each(|e| *e = seed * e.tanh());
        Ok(([Some(slopes.freeze()), None].into(), ()))
    }

    fn backward_weight(&mut self, (): (), _: &mut Ctx<'_>) -> Result<(), LayerError> {
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let numbers = (0..12).map(|n| (n as f32 * 0.7).sin()).collect();
    let some = Tensor::from_vec([3, 4], numbers)?;
    conformance::check(&Snake { width: 4 }, &some.clone().into())?;
    let zeros = Tensor::from_vec([3, 4], vec![0.0f32; 12])?;
    conformance::check_loss(&LogCosh, &[some, zeros].into())?;
    println!("layer and loss obey the laws of layers");

    let network = Network::builder()
        .input(TensorSpec::f32([1]))
        .target(TensorSpec::f32([1]))
        .layer("in", Linear::new(1, 24))
        .layer("snake", Snake { width: 24 })
        .layer("middle", Linear::new(24, 24))
        .layer("snake2", Snake { width: 24 })
        .layer("out", Linear::new(24, 1))
        .loss("loss", LogCosh)
        .build()?;
    let points: Vec<f32> = (0..128).map(|n| n as f32 / 16.0 - 4.0).collect();
    let curve = |x: &f32| (2.0 * x).sin() + 0.3 * x;
    let mut seen: Vec<f32> = points.iter().map(curve).collect();
    // A few wild points.
    seen.iter_mut().step_by(25).for_each(|y| *y += 8.0);
    let wanted: Vec<f32> = points.iter().map(curve).collect();
    let data = Batch::new(
        Tensor::from_vec([128, 1], points)?,
        Tensor::from_vec([128, 1], seen)?,
    )?;

    let config = Config {
        nodes: 3,
        batch_size: 128,
        micro_batch_size: 16,
        ..Config::default()
    };
    let mut trainer = Trainer::start(&network, &config, AdamW::new(1e-2))?;
    for step in 0..400 {
        let report = trainer.step(&data)?;
        if step % 100 == 0 {
            println!("step {step:>3}  loss {:.5}", report.loss);
        }
    }
    let fitted = trainer.predict(&data)?;
    let errors = fitted.f32()?.iter().zip(&wanted);
    let mut errors: Vec<f32> = errors.map(|(y, wanted)| (y - wanted).abs()).collect();
    errors.sort_by(f32::total_cmp);
    println!("the median point is {:.3} from the true curve", errors[64]);
    Ok(())
}
