//! Promise: a layer that does not do what its description says is an error that says so, whether
//! its author tested it or not.
#![allow(missing_docs, clippy::unwrap_used)]

use brigade::layer::{
    Batch, BuildCtx, Cost, Ctx, Init, Layer, LayerError, LayerSpec, Network, Param, ParamAccess,
    ParamRole, ParamSpec, Tensor, TensorSpec, Tensors,
};
use brigade::nn::{Linear, MeanSquaredError, Sgd};
use brigade::{Config, Trainer};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    Shape,
    Rows,
    Outputs,
    Gradient,
    Params,
}

/// y = x, with a parameter of no use and a fault.
#[derive(Clone, Copy, Debug)]
struct Faulty(Fault);

struct FaultyLayer(Fault, Param);

impl LayerSpec for Faulty {
    type Layer = FaultyLayer;

    fn params(&self) -> Vec<ParamSpec> {
        vec![ParamSpec::new("a", [3], ParamRole::Weight, Init::Ones)]
    }

    fn outputs(&self, inputs: &[TensorSpec]) -> Result<Vec<TensorSpec>, LayerError> {
        Ok(inputs.to_vec())
    }

    fn cost(&self, inputs: &[TensorSpec]) -> Cost {
        Cost {
            forward_working_bytes: inputs[0].bytes(),
            backward_working_bytes: inputs[0].bytes(),
            ..Cost::default()
        }
    }

    fn build(&self, cx: &BuildCtx<'_>) -> Result<FaultyLayer, LayerError> {
        Ok(FaultyLayer(self.0, Param::build(&self.params()[0], cx)?))
    }
}

impl Layer for FaultyLayer {
    type Stash = ();
    type Kept = ();

    fn forward(&mut self, x: Tensors, cx: &mut Ctx<'_>) -> Result<(Tensors, ()), LayerError> {
        let [x] = x.take()?;
        let mut y = cx.f32(match self.0 {
            Fault::Shape => x.shape().with_last(2),
            Fault::Rows => x.shape().with_rows(1),
            _ => x.shape(),
        })?;
        y.data().fill(0.5);
        let y = y.freeze();
        Ok(match self.0 {
            Fault::Outputs => ([y.clone(), y].into(), ()),
            _ => (y.into(), ()),
        })
    }

    fn backward_input(
        &mut self,
        dy: Tensors,
        (): (),
        _: &mut Ctx<'_>,
    ) -> Result<(Tensors, ()), LayerError> {
        let [dy] = dy.take()?;
        let dx = match self.0 {
            Fault::Gradient => dy.reshape([2, 2, 2])?,
            _ => dy,
        };
        Ok((dx.into(), ()))
    }

    fn backward_weight(&mut self, (): (), _: &mut Ctx<'_>) -> Result<(), LayerError> {
        Ok(())
    }

    fn params(&mut self, visit: &mut dyn FnMut(&mut dyn ParamAccess)) {
        if self.0 != Fault::Params {
            visit(&mut self.1);
        }
    }
}

fn trained(fault: Fault, nodes: usize) -> Result<(), String> {
    let network = Network::builder()
        .input(TensorSpec::f32([4]))
        .target(TensorSpec::f32([4]))
        .layer("in", Linear::new(4, 4))
        .layer("faulty", Faulty(fault))
        .layer("out", Linear::new(4, 4))
        .loss("loss", MeanSquaredError)
        .build()
        .unwrap();
    let config = Config {
        nodes,
        batch_size: 4,
        micro_batch_size: 2,
        ..Config::default()
    };
    let numbers = Tensor::from_vec([4, 4], vec![0.5f32; 16]).unwrap();
    let data = Batch::new(numbers.clone(), numbers).unwrap();
    let mut trainer =
        Trainer::start(&network, &config, Sgd::new(0.1)).map_err(|error| error.to_string())?;
    let stepped = trainer.step(&data).map_err(|error| error.to_string());
    stepped.map(|_| ())
}

#[test]
fn what_a_description_says_is_held_against_what_the_layer_does() {
    for nodes in [1, 2, 4] {
        assert_eq!(trained(Fault::None, nodes), Ok(()));
        for (fault, says) in [
            (
                Fault::Shape,
                "F made output 0 as f32[2, 2], `LayerSpec::outputs` says f32[2, 4]",
            ),
            (
                Fault::Rows,
                "F made output 0 as f32[1, 4], `LayerSpec::outputs` says f32[2, 4]",
            ),
            (
                Fault::Outputs,
                "F made 2 outputs, `LayerSpec::outputs` says 1",
            ),
            (
                Fault::Gradient,
                "gradient of input 0 as f32[2, 2, 2], where the input is f32[2, 4]",
            ),
            (
                Fault::Params,
                "parameters of the shapes [[3]], `Layer::params` visits []",
            ),
        ] {
            let error = trained(fault, nodes).unwrap_err();
            let named = error.contains("layer 1 (faulty): ") && error.contains(says);
            assert!(named, "{fault:?} over {nodes} nodes: {error}");
        }
    }
}
