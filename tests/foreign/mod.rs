//! What other libraries write, made by hand.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]

use brigade::layer::ForeignNames;
use brigade::nn::{AdamW, Decoder, Gpt};
use brigade::{Config, Trainer};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use tempfile::TempDir;

/// Tensors by name: type, shape, bytes.
pub type Tensors = BTreeMap<String, (String, Vec<usize>, Vec<u8>)>;

/// A tied table of tokens.
pub const TABLE: &str = "transformer.wte.weight";

pub fn decoder() -> Decoder {
    let gpt = Gpt {
        vocab: 7,
        context: 4,
        width: 4,
        heads: 2,
        blocks: 1,
        inner: Some(6),
        ..Gpt::default()
    };
    gpt.into()
}

pub fn names() -> ForeignNames {
    decoder().hugging_face_names().unwrap()
}

pub fn trainer() -> Trainer {
    let config = Config {
        nodes: 2,
        batch_size: 2,
        micro_batch_size: 1,
        ..Config::default()
    };
    let network = decoder().network().unwrap();
    Trainer::start(&network, &config, AdamW::new(1e-3)).unwrap()
}

/// What the decoder is as another library would write it.
pub fn whole() -> Tensors {
    let params: BTreeMap<_, _> = decoder().network().unwrap().params().into_iter().collect();
    let tensor = |(number, param): (usize, &brigade::layer::ForeignParam)| {
        let mut shape = params[&param.key].shape.axes().to_vec();
        if param.transposed {
            shape.reverse();
        }
        let count = shape.iter().product::<usize>();
        let value = |at: usize| (number * 1000 + at) as f32;
        let bytes = (0..count).flat_map(|at| value(at).to_le_bytes()).collect();
        (param.name.clone(), ("F32".to_owned(), shape, bytes))
    };
    names().params.iter().enumerate().map(tensor).collect()
}

pub fn file(header: &str, data: &[u8]) -> Vec<u8> {
    let length = (header.len() as u64).to_le_bytes();
    [&length[..], header.as_bytes(), data].concat()
}

pub fn written(tensors: &Tensors) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, (dtype, shape, bytes)) in tensors {
        let start = data.len();
        data.extend(bytes);
        let offsets = [start, data.len()];
        let info = json!({ "dtype": dtype, "shape": shape, "data_offsets": offsets });
        header.insert(name.clone(), info);
    }
    file(&Value::Object(header).to_string(), &data)
}

pub fn folder(files: &[(&str, Vec<u8>)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(folder.path().join(name), content).unwrap();
    }
    folder
}

pub fn single(change: impl FnOnce(&mut Tensors)) -> TempDir {
    let mut tensors = whole();
    change(&mut tensors);
    folder(&[("model.safetensors", written(&tensors))])
}
