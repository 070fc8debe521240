//! A small GPT trained for ten steps, against PyTorch's losses and weights.

use crate::bench::{Golden, assert_close, decimal, part};
use brigade_layer::{
    AnyLayer, Ctx, Feed, LayerState, Network, ParamAccess, Part, Pool, Slot, Source, StepId,
    Tensor, TensorMut, Tensors, UpdateWith,
};
use brigade_nn::{AdamW, Gpt, LearningRate};
use std::collections::BTreeMap;

/// Runs the layers of a chain one after another on one thread: the plainest trainer there is.
struct Plain {
    network: Network,
    layers: Vec<(Box<dyn AnyLayer>, Slot)>,
    pool: Pool,
}

impl Plain {
    fn new(network: Network) -> Self {
        let pool = Pool::default();
        let layers = network.enumerate().map(|(index, node)| {
            let layer = node
                .spec
                .build_any(&network.build_ctx(index, &pool, 0))
                .unwrap();
            let slot = layer.slot();
            (layer, slot)
        });
        let layers = layers.collect();
        Self {
            network,
            layers,
            pool,
        }
    }

    fn visit(&mut self, mut visit: impl FnMut(&mut dyn ParamAccess, &Pool)) {
        for (layer, _) in &mut self.layers {
            layer.visit_params(&mut |param| visit(param, &self.pool));
        }
    }

    /// Forward through all layers. Gives what every layer put out.
    fn forward(&mut self, ids: &Tensor, targets: &Tensor) -> Vec<Tensor> {
        let mut outputs: Vec<Tensor> = Vec::new();
        for (node, (layer, slot)) in self.network.layers().iter().zip(&mut self.layers) {
            let mut inputs = Tensors::none();
            for source in &node.inputs {
                let tensor = match source {
                    Source::Feed(Feed::Input(_)) => ids,
                    Source::Feed(Feed::Target(_)) => targets,
                    Source::Output { layer, .. } => &outputs[layer.index()],
                };
                inputs.push(Some(tensor.clone())).unwrap();
            }
            let mut state = LayerState::default();
            let output = layer
                .f(inputs, slot, &mut Ctx::new(&self.pool, &mut state))
                .unwrap();
            let [output] = output.take().unwrap();
            outputs.push(output);
        }
        outputs
    }

    fn backward(&mut self, terms: f64) {
        let one_over = vec![(1.0 / terms) as f32];
        let mut gradient = Some(Tensor::from_vec([1], one_over).unwrap());
        for (number, (layer, slot)) in self.layers.iter_mut().enumerate().rev() {
            let mut state = LayerState::default();
            let mut cx = Ctx::new(&self.pool, &mut state).wanting([number > 0, false]);
            let upstream = gradient.take().unwrap();
            let mut gradients = layer.i(upstream.into(), slot, &mut cx).unwrap();
            gradient = gradients.remove(0);
            layer.w(slot, &mut cx).unwrap();
        }
        self.sum_shared();
    }

    /// Every holder of a shared parameter gets the sum of all holders' gradients.
    fn sum_shared(&mut self) {
        let mut sums = BTreeMap::<String, TensorMut>::new();
        self.visit(|param, pool| {
            if param.info().shared.is_none() {
                return;
            }
            let mut own = param.take_gradient(pool).unwrap();
            match sums.get_mut(&param.info().key) {
                Some(sum) => {
                    for (sum, own) in sum.data().iter_mut().zip(own.data()) {
                        *sum += *own;
                    }
                }
                None => {
                    sums.insert(param.info().key.clone(), own);
                }
            }
        });
        self.visit(|param, pool| {
            if let Some(sum) = sums.get(&param.info().key) {
                let copy = Tensor::from_vec(sum.shape(), sum.read().to_vec()).unwrap();
                param.put_gradient(copy, pool).unwrap();
            }
        });
    }

    fn norm(&mut self) -> f64 {
        let mut squares = 0.0;
        self.visit(|param, _| {
            if param.info().primary {
                squares += param.sum_of_squares().unwrap();
            }
        });
        squares.sqrt()
    }

    fn values(&mut self, of: Part) -> BTreeMap<String, Vec<f32>> {
        let mut values = BTreeMap::new();
        self.visit(|param, _| {
            values.insert(param.info().key.clone(), part(param, of));
        });
        values
    }
}

fn step_of(golden: &Golden, name: &str, step: usize) -> Tensor {
    let tensor = golden.get(name).rows(step..step + 1).unwrap();
    let shape = [tensor.shape().axes()[1], tensor.shape().axes()[2]];
    tensor.reshape(shape).unwrap()
}

fn rule(golden: &Golden) -> AdamW {
    let number = |name: &str| decimal(golden.number(&format!("settings/{name}")));
    let whole = |name: &str| golden.whole(&format!("settings/{name}")) as u64;
    let lr = LearningRate::Cosine {
        peak: number("lr"),
        min: number("min"),
        warmup_steps: whole("warmup"),
        steps: whole("steps"),
    };
    AdamW {
        lr,
        betas: (number("beta1"), number("beta2")),
        eps: number("eps"),
        weight_decay: number("weight_decay"),
        ..AdamW::default()
    }
}

/// The k third of this bias has no effect and a gradient of rounding, which Adam blows up.
fn without_k(key: &str, values: &[f32]) -> Vec<f32> {
    let third = values.len() / 3;
    match key.ends_with("c_attn.bias") {
        true => [&values[..third], &values[2 * third..]].concat(),
        false => values.to_vec(),
    }
}

fn check(family: &str, tied: bool, biases: bool) {
    let golden = Golden::open(family);
    let size = |name: &str| golden.whole(&format!("settings/{name}")) as usize;
    let gpt = Gpt {
        vocab: size("vocab"),
        context: size("context"),
        width: size("width"),
        heads: size("heads"),
        blocks: size("blocks"),
        tied,
        biases,
        dropout: 0.0,
        ..Gpt::default()
    };
    let mut plain = Plain::new(gpt.network().unwrap());
    plain.visit(|param, pool| {
        let start = golden.numbers(&format!("init/{}", param.info().key));
        param.write(Part::Value, &start, pool).unwrap();
    });
    let keys: Vec<String> = plain.values(Part::Value).into_keys().collect();
    assert_eq!(keys, golden.names("init/"));
    let optimizer = rule(&golden);
    let loss_spec = plain.network.layers().last().unwrap().spec.clone();
    let (losses, norms, rates) = (
        golden.numbers("losses"),
        golden.numbers("grad_norms"),
        golden.numbers("lrs"),
    );
    for step in 0..losses.len() {
        let (ids, targets) = (
            step_of(&golden, "ids", step),
            step_of(&golden, "targets", step),
        );
        let outputs = plain.forward(&ids, &targets);
        let terms = loss_spec.terms(&targets.clone().into()).unwrap();
        assert_eq!(terms, f64::from(golden.get("counts").i32().unwrap()[step]));
        let loss = f64::from(outputs.last().unwrap().f32().unwrap()[0]) / terms;
        assert!(
            (loss - f64::from(losses[step])).abs() < 1e-4,
            "{family}: loss of step {step}"
        );
        if step == 0 {
            let logits = outputs[outputs.len() - 2].f32().unwrap();
            assert_close("logits", logits, &golden.numbers("logits0"), 1e-5);
        }
        drop(outputs);
        plain.backward(terms);
        if step == 0 {
            for (key, gradient) in plain.values(Part::Gradient) {
                let expected = golden.numbers(&format!("grad0/{key}"));
                assert_close(&key, &gradient, &expected, 5e-5);
            }
        }
        let norm = plain.norm();
        assert!(
            (norm / f64::from(norms[step]) - 1.0).abs() < 1e-3,
            "{family}: norm of {step}"
        );
        let clip = golden.number("settings/clip");
        let scale = (clip / (norm + 1e-6)).min(1.0) as f32;
        let number = StepId::new(step as u64);
        assert!(
            (brigade_layer::Optimizer::learning_rate(&optimizer, number) as f32 - rates[step])
                .abs()
                < 1e-9
        );
        plain.visit(|param, pool| {
            param
                .update(&optimizer, &UpdateWith::new(number, pool).scaled(scale))
                .unwrap();
        });
    }
    for (key, value) in plain.values(Part::Value) {
        let expected = golden.numbers(&format!("final/{key}"));
        let what = format!("{family}: final {key}");
        assert_close(
            &what,
            &without_k(&key, &value),
            &without_k(&key, &expected),
            1e-3,
        );
    }
}

#[test]
fn a_tied_gpt_learns_what_it_learns_in_pytorch() {
    check("gpt", true, true);
}

#[test]
fn a_gpt_without_biases_and_with_a_head_of_its_own_does_too() {
    check("gpt_untied", false, false);
}
