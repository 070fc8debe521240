//! Golden files, and one pass through one layer.

use brigade_layer::{
    AnyLayer, AnySpec, BuildCtx, Ctx, LayerError, LayerState, ParamAccess, Part, Pool, Precision,
    Tensor, Tensors,
};
use safetensors::{Dtype, SafeTensors};
use std::collections::BTreeMap;

/// The tensors of one golden file by key.
pub(crate) struct Golden(BTreeMap<String, Tensor>);

impl Golden {
    pub(crate) fn open(family: &str) -> Self {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens");
        let bytes = std::fs::read(format!("{folder}/{family}.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let tensors = file.iter().map(|(key, view)| {
            let words = view.data().as_chunks::<4>().0.iter();
            let shape = view.shape().to_vec();
            let shape = brigade_layer::Shape::new(&shape).unwrap();
            let tensor = match view.dtype() {
                Dtype::F32 => {
                    Tensor::from_vec(shape, words.map(|w| f32::from_le_bytes(*w)).collect())
                }
                Dtype::I32 => {
                    Tensor::from_vec(shape, words.map(|w| i32::from_le_bytes(*w)).collect())
                }
                other => panic!("{key} is of {other:?}"),
            };
            (key.to_owned(), tensor.unwrap())
        });
        Self(tensors.collect())
    }

    pub(crate) fn get(&self, key: &str) -> Tensor {
        self.find(key).unwrap_or_else(|| panic!("no golden {key}"))
    }

    pub(crate) fn find(&self, key: &str) -> Option<Tensor> {
        self.0.get(key).cloned()
    }

    pub(crate) fn numbers(&self, key: &str) -> Vec<f32> {
        self.get(key).f32().unwrap().to_vec()
    }

    pub(crate) fn number(&self, key: &str) -> f64 {
        f64::from(self.numbers(key)[0])
    }

    pub(crate) fn whole(&self, key: &str) -> i32 {
        self.get(key).i32().unwrap()[0]
    }

    /// Names under a prefix, without it.
    pub(crate) fn names(&self, prefix: &str) -> Vec<String> {
        let names = self.0.keys().filter_map(|key| key.strip_prefix(prefix));
        names.map(str::to_owned).collect()
    }
}

/// A setting as it was written down: 0.999, not the `f32` nearest to it.
pub(crate) fn decimal(stored: f64) -> f64 {
    format!("{}", stored as f32).parse().unwrap()
}

/// Asserts that `found` is within `share` of the greatest of `expected`.
pub(crate) fn assert_close(what: &str, found: &[f32], expected: &[f32], share: f32) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let greatest = expected.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    let pairs = found.iter().zip(expected);
    let error = pairs.fold(0.0f32, |most, (a, b)| {
        let error = (a - b).abs();
        if error.is_nan() {
            f32::INFINITY
        } else {
            most.max(error)
        }
    });
    assert!(
        error <= share * greatest,
        "{what}: off by {error} where the greatest is {greatest}"
    );
}

/// What F, I and W of one layer gave.
#[derive(Debug, Default)]
pub(crate) struct Pass {
    pub(crate) outputs: Vec<Vec<f32>>,
    pub(crate) input_gradients: Vec<Option<Vec<f32>>>,
    pub(crate) param_gradients: BTreeMap<String, Vec<f32>>,
}

impl Pass {
    /// Everything as bits.
    pub(crate) fn bits(&self) -> Vec<u32> {
        let inputs = self.input_gradients.iter().flatten();
        let all = self
            .outputs
            .iter()
            .chain(inputs)
            .chain(self.param_gradients.values());
        all.flatten().map(|x| x.to_bits()).collect()
    }
}

/// How a layer is called.
#[derive(Clone, Copy, Debug)]
pub(crate) struct How {
    pub(crate) threads: usize,
    pub(crate) first_row: usize,
    pub(crate) mode: brigade_layer::Mode,
    pub(crate) precision: Precision,
    /// Whether the layer's inputs and gradients are its alone, so that it may overwrite them.
    pub(crate) owned: bool,
}

pub(crate) const PLAIN: How = How {
    threads: 1,
    first_row: 0,
    mode: brigade_layer::Mode::Train,
    precision: Precision::F32,
    owned: false,
};

/// Builds a layer, gives its parameters values (those named), and runs it once.
pub(crate) fn pass(
    spec: &dyn AnySpec,
    values: &[(&str, Tensor)],
    inputs: &Tensors,
    upstream: Option<Tensor>,
    how: How,
) -> Result<Pass, LayerError> {
    let pool = Pool::default();
    let mut layer = spec.build_any(&BuildCtx::new(&pool, 5, ""))?;
    for (name, value) in values {
        let mut hits = 0;
        layer.visit_params(&mut |param| {
            if param.info().key == *name {
                param
                    .write(Part::Value, value.f32().unwrap(), &pool)
                    .unwrap();
                hits += 1;
            }
        });
        assert_eq!(hits, 1, "parameter {name}");
    }
    pass_through(layer.as_mut(), &pool, inputs, upstream, how)
}

/// Runs a layer once: F, I and W.
pub(crate) fn pass_through(
    layer: &mut dyn AnyLayer,
    pool: &Pool,
    inputs: &Tensors,
    upstream: Option<Tensor>,
    how: How,
) -> Result<Pass, LayerError> {
    let (mut state, mut slot) = (LayerState::default(), layer.slot());
    let wanted: Vec<bool> = inputs
        .iter()
        .map(|x| x.is_some_and(|x| x.f32().is_ok()))
        .collect();
    let mut cx = Ctx::new(pool, &mut state).wanting(wanted);
    (cx.threads, cx.first_row, cx.mode) = (how.threads, how.first_row, how.mode);
    cx.precision = how.precision;
    let given = if how.owned {
        copies(inputs)
    } else {
        inputs.clone()
    };
    let outputs = layer.f(given, &mut slot, &mut cx)?;
    let numbers = |tensor: Option<&Tensor>| tensor.map(|t| t.f32().unwrap().to_vec());
    let mut pass = Pass {
        outputs: outputs.iter().flat_map(numbers).collect(),
        ..Pass::default()
    };
    let upstream = match upstream {
        Some(given) => given,
        None => wave(outputs.get(0).unwrap().shape(), 0.31),
    };
    let mut upstream = Tensors::from(upstream);
    let kept = (!how.owned).then(|| (outputs.clone(), upstream.clone()));
    if how.owned {
        upstream = copies(&upstream);
    }
    drop(outputs);
    let gradients = layer.i(upstream, &mut slot, &mut cx)?;
    drop(kept);
    pass.input_gradients = gradients.iter().map(numbers).collect();
    layer.w(&mut slot, &mut cx)?;
    layer.visit_params(&mut |param| {
        pass.param_gradients
            .insert(param.info().key.clone(), part(param, Part::Gradient));
    });
    Ok(pass)
}

/// The same numbers in buffers that nobody else holds.
fn copies(tensors: &Tensors) -> Tensors {
    let mut all = Tensors::none();
    for tensor in tensors.iter().flatten() {
        let copy = match tensor.f32() {
            Ok(numbers) => Tensor::from_vec(tensor.shape(), numbers.to_vec()),
            Err(_) => Tensor::from_vec(tensor.shape(), tensor.i32().unwrap().to_vec()),
        };
        all.push(Some(copy.unwrap())).unwrap();
    }
    all
}

pub(crate) fn part(param: &dyn ParamAccess, part: Part) -> Vec<f32> {
    let mut numbers = vec![0.0; param.info().shape.elements()];
    param.read(part, &mut numbers).unwrap();
    numbers
}

/// Numbers of magnitude 1 that no period repeats.
pub(crate) fn wave(shape: impl Into<brigade_layer::Shape>, k: f64) -> Tensor {
    let shape = shape.into();
    let at = |i: usize| (f64::from(u32::try_from(i).unwrap()) * k + 0.1).sin() as f32;
    Tensor::from_vec(shape, (0..shape.elements()).map(at).collect()).unwrap()
}

/// Ids below `bound`.
pub(crate) fn ids(shape: impl Into<brigade_layer::Shape>, bound: i32) -> Tensor {
    let shape = shape.into();
    let at = |i: usize| {
        i32::try_from(i)
            .unwrap()
            .wrapping_mul(7919)
            .rem_euclid(bound)
    };
    Tensor::from_vec(shape, (0..shape.elements()).map(at).collect()).unwrap()
}
