//! Promise: a decoder that `transformers` has written gives its logits and losses here, on any
//! number of nodes, and is written back bit for bit.
//!
//! The folders and the script that made them are in `tests/goldens/hugging_face`; what is written
//! back is held against `transformers` by `agree.py` there.
#![allow(missing_docs, clippy::unwrap_used)]

use brigade::interchange::{Export, FloatType, TensorFolder, export, import};
use brigade::layer::{Batch, Data, ForeignNames, LayerError, StepId, Tensor, Tensors};
use brigade::nn::{AdamW, Decoder};
use brigade::{Config, Trainer};
use safetensors::SafeTensors;
use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const ROWS: usize = 4;
const LENGTH: usize = 8;
const WITHIN: f64 = 1e-4;

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/hugging_face")
}

/// A tensor's type and bytes.
type Raw = (String, Vec<u8>);

fn raw(files: impl IntoIterator<Item = PathBuf>) -> BTreeMap<String, Raw> {
    let mut all = BTreeMap::new();
    for file in files {
        let bytes = fs::read(&file).unwrap();
        for (name, tensor) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
            let dtype = format!("{:?}{:?}", tensor.dtype(), tensor.shape());
            all.insert(name, (dtype, tensor.data().to_vec()));
        }
    }
    all
}

fn numbers<T>(raw: &Raw, of: fn([u8; 4]) -> T) -> Vec<T> {
    let (words, rest) = raw.1.as_chunks::<4>();
    assert!(rest.is_empty());
    words.iter().map(|word| of(*word)).collect()
}

/// Ids and targets of all steps.
#[derive(Clone)]
struct Golden([Arc<[i32]>; 2]);

impl Golden {
    fn read() -> Self {
        let all = raw([goldens().join("batch.safetensors")]);
        Self(["ids", "targets"].map(|name| numbers(&all[name], i32::from_le_bytes).into()))
    }

    fn part(&self, part: usize, step: StepId, rows: Range<usize>) -> Result<Tensor, LayerError> {
        let at = |row: usize| (step.get() as usize * ROWS + row) * LENGTH;
        let all = self.0[part][at(rows.start)..at(rows.end)].to_vec();
        Tensor::from_vec([rows.len(), LENGTH], all)
    }
}

impl Data for Golden {
    fn rows(&self, _: StepId) -> usize {
        ROWS
    }
    fn inputs(&self, step: StepId, rows: Range<usize>) -> Result<Tensors, LayerError> {
        Ok(self.part(0, step, rows)?.into())
    }
    fn targets(&self, step: StepId, rows: Range<usize>) -> Result<Tensors, LayerError> {
        Ok(self.part(1, step, rows)?.into())
    }
}

/// A case, opened.
struct Case {
    name: &'static str,
    folder: TensorFolder,
    decoder: Decoder,
    names: ForeignNames,
}

impl Case {
    fn open(name: &'static str) -> Self {
        let path = goldens().join(name);
        let config = fs::read_to_string(path.join("config.json")).unwrap();
        let decoder = Decoder::from_hugging_face(&config).unwrap();
        // `expected.safetensors` lies beside them.
        assert_eq!(decoder.context(), 16);
        let folder = TensorFolder::open(path).unwrap();
        let names = decoder.hugging_face_names().unwrap();
        Self {
            name,
            folder,
            decoder,
            names,
        }
    }

    /// A trainer with the weights, for sequences as long as the batch's.
    fn trainer(&self, nodes: usize) -> Trainer {
        let config = Config {
            nodes,
            batch_size: ROWS,
            micro_batch_size: 1,
            clip: Some(1.0),
            ..Config::default()
        };
        let optimizer = AdamW {
            betas: (0.9, 0.95),
            weight_decay: 0.1,
            ..AdamW::new(1e-2)
        };
        let network = self
            .decoder
            .with_context(LENGTH)
            .unwrap()
            .network()
            .unwrap();
        let mut trainer = Trainer::start(&network, &config, optimizer).unwrap();
        trainer.load_tensors(&self.folder, &self.names).unwrap();
        trainer
    }

    fn gives_its_logits_and_losses(&self) {
        let (data, name) = (Golden::read(), self.name);
        let expected = raw([goldens().join(name).join("expected.safetensors")]);
        let of = |what: &str| numbers(&expected[what], f32::from_le_bytes);
        let (logits, losses) = (of("logits"), of("losses"));
        assert_eq!(losses.len(), 10);
        for nodes in [1, 2, 4] {
            let mut trainer = self.trainer(nodes);
            let rows = |part| data.part(part, StepId::new(0), 0..2).unwrap();
            let found = trainer
                .predict(&Batch::new(rows(0), rows(1)).unwrap())
                .unwrap();
            let found = found.f32().unwrap();
            assert_eq!(found.len(), logits.len());
            let apart = |(a, b): (&f32, &f32)| f64::from((a - b).abs());
            let logits = found.iter().zip(&logits).map(apart).fold(0.0, f64::max);
            let mut worst = 0.0f64;
            for loss in &losses {
                let found = trainer.step(&data).unwrap().loss;
                worst = worst.max((found - f64::from(*loss)).abs());
            }
            println!("{name} on {nodes} nodes: logits within {logits:.1e}, losses {worst:.1e}");
            assert!(logits < WITHIN && worst < WITHIN, "{name} on {nodes} nodes");
        }
    }

    fn is_written_back_bit_for_bit(&self) {
        let to = tempfile::tempdir().unwrap();
        let network = self.decoder.network().unwrap();
        let weights = to.path().join("weights.safetensors");
        import(&self.folder, &self.names, &network, &weights).unwrap();
        // What nodes load and save is the same file.
        let again = to.path().join("again.safetensors");
        self.trainer(2).save_weights(&again).unwrap();
        assert!(fs::read(&weights).unwrap() == fs::read(&again).unwrap());

        let files: Vec<_> = self.folder.files().map(Path::to_owned).collect();
        let mut original = raw(files.clone());
        original.retain(|name, _| {
            let copies = self.names.copies.iter().any(|(copy, _)| copy == name);
            let ignored = self
                .names
                .ignored
                .iter()
                .any(|end| format!(".{name}").ends_with(end));
            !copies && !ignored
        });
        let bare = !original
            .keys()
            .any(|name| name.starts_with(&self.names.prefix));
        let float = original
            .values()
            .next()
            .unwrap()
            .0
            .split('[')
            .next()
            .unwrap()
            .to_lowercase();
        let how = Export::default().float(float.parse::<FloatType>().unwrap());
        let how = match files.len() {
            1 => how,
            _ => how.shard_bytes(12_000),
        };
        let out = to.path().join("out");
        let from = TensorFolder::open(&weights).unwrap();
        let written = export(&from, (&self.names, &network), &out, &how).unwrap();
        assert_eq!(written.tensors, original.len());
        let tensors = written.files.iter();
        let tensors = tensors.filter(|path| path.extension().unwrap() == "safetensors");
        let tensors: Vec<_> = tensors.cloned().collect();
        assert_eq!(tensors.len() > 1, files.len() > 1);
        for file in &tensors {
            let limit = if tensors.len() > 1 { 14_000 } else { 1 << 20 };
            assert!(fs::metadata(file).unwrap().len() < limit);
        }
        for (name, found) in raw(tensors) {
            let own = if bare {
                name.trim_start_matches(&self.names.prefix)
            } else {
                &name
            };
            assert!(
                original.remove(own).as_ref() == Some(&found),
                "{}: {name}",
                self.name
            );
        }
        assert!(original.is_empty(), "{:?}", original.keys());
        // It can be read again, and is the same network.
        TensorFolder::open(&out).unwrap();
        let config = self
            .decoder
            .to_hugging_face(how.float.torch_name())
            .unwrap();
        assert_eq!(Decoder::from_hugging_face(&config).unwrap(), self.decoder);
        assert!(export(&from, (&self.names, &network), &out, &how).is_err());
    }
}

fn holds(cases: &[&'static str]) {
    for name in cases {
        let case = Case::open(name);
        case.gives_its_logits_and_losses();
        case.is_written_back_bit_for_bit();
    }
}

#[test]
fn gpt2_of_transformers_is_the_same_here_and_back() {
    holds(&[
        "gpt2",
        "gpt2_bare",
        "gpt2_untied",
        "gpt2_sharded",
        "gpt2_bf16",
        "gpt2_f16",
        "gpt2_old",
    ]);
}

#[test]
fn llama_of_transformers_is_the_same_here_and_back() {
    holds(&[
        "llama",
        "llama_tied_grouped",
        "llama_old",
        "llama_biases",
        "llama_bf16",
        "llama_f16",
        "llama_linear",
        "llama_dynamic",
        "llama_llama3",
        "llama_yarn",
        "llama_yarn_old",
    ]);
}

/// Biases that ours can do without are zeros there, which is the same network.
#[test]
fn a_gpt_without_biases_is_one_with_zeros_there() {
    let gpt = brigade::nn::Gpt {
        biases: false,
        width: 8,
        heads: 2,
        vocab: 11,
        context: 4,
        inner: Some(12),
        ..brigade::nn::Gpt::default()
    };
    let start = |decoder: &Decoder| {
        let config = Config {
            nodes: 2,
            batch_size: 2,
            micro_batch_size: 1,
            ..Config::default()
        };
        Trainer::start(&decoder.network().unwrap(), &config, AdamW::new(1e-3)).unwrap()
    };
    let (own, to) = (Decoder::from(gpt), tempfile::tempdir().unwrap());
    let weights = to.path().join("weights.safetensors");
    let mut trainer = start(&own);
    trainer.save_weights(&weights).unwrap();
    let (names, out) = (own.hugging_face_names().unwrap(), to.path().join("out"));
    let from = TensorFolder::open(&weights).unwrap();
    let network = own.network().unwrap();
    export(&from, (&names, &network), &out, &Export::default()).unwrap();
    let there = Decoder::from_hugging_face(&own.to_hugging_face("float32").unwrap()).unwrap();
    assert!(matches!(&there, Decoder::Gpt(gpt) if gpt.biases));
    let mut again = start(&there);
    let folder = TensorFolder::open(&out).unwrap();
    again
        .load_tensors(&folder, &there.hugging_face_names().unwrap())
        .unwrap();
    let rows = || Tensor::from_vec([1, 4], vec![3i32, 1, 4, 1]).unwrap();
    let data = Batch::new(rows(), rows()).unwrap();
    let [one, other] = [trainer, again].map(|mut trainer| trainer.predict(&data).unwrap());
    assert_eq!(one.f32().unwrap(), other.f32().unwrap());
}
