//! U-Nets describe themselves truthfully, and compute what they compute in PyTorch (see
//! `tests/goldens/README.md`).

use crate::bench::{Golden, assert_close, part};
use brigade_layer::{
    AnyLayer, Ctx, Feed, LayerState, Network, Part, Pool, Slot, Source, Tensor, TensorSpec, Tensors,
};
use brigade_nn::{UNet, UNetNorm, UpsampleMode};
use std::collections::BTreeMap;

/// A network on one thread, layer by layer, wherever each reads.
struct Walk {
    network: Network,
    layers: Vec<(Box<dyn AnyLayer>, Slot)>,
    pool: Pool,
}

impl Walk {
    fn new(network: Network) -> Self {
        let pool = Pool::default();
        let build = |(index, node): (_, &brigade_layer::LayerNode)| {
            let cx = network.build_ctx(index, &pool, 0);
            let layer = node.spec.build_any(&cx).unwrap();
            let slot = layer.slot();
            (layer, slot)
        };
        let layers = network.enumerate().map(build).collect();
        Self {
            network,
            layers,
            pool,
        }
    }

    /// What every layer puts out.
    fn forward(&mut self, [x, targets]: [&Tensor; 2]) -> Vec<Tensor> {
        let mut outputs: Vec<Tensor> = Vec::new();
        for (node, (layer, slot)) in self.network.layers().iter().zip(&mut self.layers) {
            let mut inputs = Tensors::none();
            for source in &node.inputs {
                let input = match source {
                    Source::Feed(Feed::Input(_)) => x,
                    Source::Feed(Feed::Target(_)) => targets,
                    Source::Output { layer, .. } => &outputs[layer.index()],
                };
                inputs.push(Some(input.clone())).unwrap();
            }
            let mut state = LayerState::default();
            let mut cx = Ctx::new(&self.pool, &mut state);
            let [output] = layer.f(inputs, slot, &mut cx).unwrap().take().unwrap();
            outputs.push(output);
        }
        outputs
    }

    fn backward(&mut self, seed: f32) {
        let mut gradients: Vec<Option<Tensor>> = vec![None; self.layers.len()];
        *gradients.last_mut().unwrap() = Some(Tensor::from_vec([1], vec![seed]).unwrap());
        let nodes = self.network.layers();
        for (at, (layer, slot)) in self.layers.iter_mut().enumerate().rev() {
            let sources = &nodes[at].inputs;
            let wanted = sources
                .iter()
                .map(|source| !matches!(source, Source::Feed(_)));
            let mut state = LayerState::default();
            let mut cx = Ctx::new(&self.pool, &mut state).wanting(wanted);
            let dy = gradients[at].take().unwrap();
            let mut dx = layer.i(dy.into(), slot, &mut cx).unwrap();
            layer.w(slot, &mut cx).unwrap();
            for (input, source) in sources.iter().enumerate() {
                let Source::Output { layer, .. } = source else {
                    continue;
                };
                let (new, sum) = (dx.remove(input).unwrap(), &mut gradients[layer.index()]);
                *sum = Some(match sum.take() {
                    None => new,
                    Some(so_far) => {
                        let pairs = so_far.f32().unwrap().iter().zip(new.f32().unwrap());
                        let both = pairs.map(|(a, b)| a + b).collect::<Vec<f32>>();
                        Tensor::from_vec(new.shape(), both).unwrap()
                    }
                });
            }
        }
    }

    fn trained(&mut self, of: Part) -> BTreeMap<String, Vec<f32>> {
        let mut all = BTreeMap::new();
        for (layer, _) in &mut self.layers {
            layer.visit_params(&mut |param| {
                if param.info().trains {
                    all.insert(param.info().key.clone(), part(param, of));
                }
            });
        }
        all
    }
}

fn check(name: &str, unet: UNet) {
    let golden = Golden::open("unet");
    let numbers = |part: &str| golden.numbers(&format!("{name}/{part}"));
    let mut walk = Walk::new(unet.network().unwrap());
    let keys: Vec<String> = walk.trained(Part::Value).into_keys().collect();
    assert_eq!(keys, golden.names(&format!("{name}/init/")));
    let pool = walk.pool.clone();
    for (layer, _) in &mut walk.layers {
        layer.visit_params(&mut |param| {
            if param.info().trains {
                let start = numbers(&format!("init/{}", param.info().key));
                param.write(Part::Value, &start, &pool).unwrap();
            }
        });
    }
    let [x, targets] = ["x", "targets"].map(|part| golden.get(&format!("{name}/{part}")));
    let outputs = walk.forward([&x, &targets]);
    let logits = outputs[outputs.len() - 2].f32().unwrap();
    assert_close("logits", logits, &numbers("logits"), 1e-5);
    let loss_spec = walk.network.layers().last().unwrap().spec.clone();
    let terms = loss_spec.terms(&targets.into()).unwrap();
    let loss = f64::from(outputs.last().unwrap().f32().unwrap()[0]) / terms;
    assert!(
        (loss - f64::from(numbers("loss")[0])).abs() < 1e-5,
        "{name}: {loss}"
    );
    walk.backward((1.0 / terms) as f32);
    for (key, found) in walk.trained(Part::Gradient) {
        let expected = numbers(&format!("grad/{key}"));
        assert_close(&format!("{name}: {key}"), &found, &expected, 5e-5);
    }
}

fn small(norm: UNetNorm) -> UNet {
    UNet {
        image: [6, 4, 2],
        classes: 3,
        depth: 1,
        width: 4,
        norm,
        upsample: UpsampleMode::Nearest,
    }
}

#[test]
fn unets_compute_what_they_compute_in_pytorch() {
    let larger = UNet {
        image: [8, 12, 2],
        depth: 2,
        upsample: UpsampleMode::Bilinear,
        ..small(UNetNorm::Batch)
    };
    check("batch", larger);
    check("group", small(UNetNorm::Group(2)));
    check("none", small(UNetNorm::None));
}

#[test]
fn the_number_of_parameters_is_that_of_the_network() {
    for depth in [1, 2, 4] {
        for norm in [UNetNorm::Batch, UNetNorm::Group(2), UNetNorm::None] {
            let unet = UNet {
                depth,
                image: [16, 32, 2],
                ..small(norm)
            };
            let network = unet.network().unwrap();
            let specs = network.layers().iter();
            let params = specs.flat_map(|node| node.spec.param_specs());
            let trained = params.filter(|param| param.trains);
            let found: u64 = trained.map(|param| param.shape.elements() as u64).sum();
            assert_eq!(unet.parameters(), found, "{depth} {norm:?}");
            assert_eq!(network.layers().len(), 7 * depth + 4);
        }
    }
}

#[test]
fn every_layer_can_be_cut_off_and_pixels_have_classes() {
    let network = small(UNetNorm::Batch).network().unwrap();
    let keys: Vec<&str> = network
        .layers()
        .iter()
        .map(|node| node.key.as_str())
        .collect();
    let way_down = [
        "down.0.0",
        "down.0.1",
        "down.0.pool",
        "bottom.0",
        "bottom.1",
    ];
    let way_up = ["up.0.up", "up.0.join", "up.0.0", "up.0.1", "head", "loss"];
    assert_eq!(keys, [&way_down[..], &way_up[..]].concat());
    let shapes = network.infer(5).unwrap();
    assert_eq!(shapes[9].outputs, [TensorSpec::f32([5, 6, 4, 3])]);
    assert_eq!(shapes[6].inputs[0], shapes[1].outputs[0]);
}

#[test]
fn a_mistake_is_named() {
    let refused = |unet: UNet, named: &str| {
        let text = unet.network().unwrap_err().to_string();
        assert!(text.contains(named), "{text}");
    };
    let usual = || small(UNetNorm::Batch);
    refused(
        UNet {
            depth: 2,
            ..usual()
        },
        "multiples of 4",
    );
    refused(
        UNet {
            depth: 0,
            ..usual()
        },
        "depth is 0",
    );
    refused(
        UNet {
            depth: 70,
            ..usual()
        },
        "between 1 and 20",
    );
    refused(
        UNet {
            width: 0,
            ..usual()
        },
        "width is 0",
    );
    refused(
        UNet {
            classes: 0,
            ..usual()
        },
        "classes is 0",
    );
    refused(
        UNet {
            image: [0, 4, 2],
            ..usual()
        },
        "height of images is 0",
    );
    refused(small(UNetNorm::Group(3)), "3 groups");
}

#[test]
fn it_is_plain_data() {
    let text = r#"{"image": [32, 32, 1], "norm": {"group": 8}, "upsample": "bilinear"}"#;
    let unet: UNet = serde_json::from_str(text).unwrap();
    assert_eq!(unet.norm, UNetNorm::Group(8));
    assert_eq!((unet.upsample, unet.width), (UpsampleMode::Bilinear, 64));
    let again: UNet = serde_json::from_str(&serde_json::to_string(&unet).unwrap()).unwrap();
    assert_eq!(again, unet);
    assert!(serde_json::from_str::<UNet>(r#"{"side": 3}"#).is_err());
}
