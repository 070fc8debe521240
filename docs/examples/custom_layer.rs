//! A layer of one's own, checked against the laws of layers and trained over three nodes.
//!
//! `cargo run --release --example custom_layer`

use brigade::layer::*;
use brigade::nn::{AdamW, Linear, MeanSquaredError};
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

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let numbers = (0..12).map(|n| (n as f32 * 0.7).sin()).collect();
    conformance::check(
        &Snake { width: 4 },
        &Tensor::from_vec([3, 4], numbers)?.into(),
    )?;
    println!("the layer obeys the laws of layers");

    let network = Network::builder()
        .input(TensorSpec::f32([1]))
        .target(TensorSpec::f32([1]))
        .layer("in", Linear::new(1, 24))
        .layer("snake", Snake { width: 24 })
        .layer("middle", Linear::new(24, 24))
        .layer("snake2", Snake { width: 24 })
        .layer("out", Linear::new(24, 1))
        .loss("loss", MeanSquaredError)
        .build()?;
    let points: Vec<f32> = (0..128).map(|n| n as f32 / 16.0 - 4.0).collect();
    let waves = points.iter().map(|x| (2.0 * x).sin() + 0.3 * x).collect();
    let data = Batch::new(
        Tensor::from_vec([128, 1], points)?,
        Tensor::from_vec([128, 1], waves)?,
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
    println!("at last    {:.5}", trainer.evaluate(&data)?.loss);
    Ok(())
}
