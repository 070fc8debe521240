//! Promise: the right numbers. A GPT-2 and an encoder-decoder trained by PyTorch in one piece, and
//! here through a pipeline.
//!
//! The golden files and the script that made them are those of `stages/nn/tests/goldens`.
#![allow(missing_docs, clippy::unwrap_used)]

use brigade::checkpoint::NamedTensor;
use brigade::layer::{Data, KeyPattern, LayerError, Network, StepId, Tensor, Tensors};
use brigade::{Config, Cuts, ScheduleKind, Trainer, Weights, nn};
use safetensors::SafeTensors;
use std::ops::Range;
use std::sync::Arc;

const STEPS: usize = 10;
const ROWS: usize = 6;
const CONTEXT: usize = 8;
const SOURCE: usize = 9;

fn f32s(file: &SafeTensors, key: &str) -> (Vec<usize>, Vec<f32>) {
    let tensor = file.tensor(key).unwrap();
    let values = tensor
        .data()
        .as_chunks()
        .0
        .iter()
        .map(|raw| f32::from_le_bytes(*raw))
        .collect();
    (tensor.shape().to_vec(), values)
}

fn i32s(file: &SafeTensors, key: &str) -> Arc<[i32]> {
    let data = file.tensor(key).unwrap();
    data.data()
        .as_chunks()
        .0
        .iter()
        .map(|raw| i32::from_le_bytes(*raw))
        .collect()
}

/// Ids and targets of all steps, as PyTorch saw them.
#[derive(Clone)]
struct Golden {
    /// Of an encoder.
    sources: Option<Arc<[i32]>>,
    ids: Arc<[i32]>,
    targets: Arc<[i32]>,
}

impl Golden {
    fn rows_of(
        &self,
        (all, length): (&[i32], usize),
        step: StepId,
        rows: Range<usize>,
    ) -> Result<Tensor, LayerError> {
        let at = |row: usize| (step.get() as usize * ROWS + row) * length;
        let ids = all[at(rows.start)..at(rows.end)].to_vec();
        Tensor::from_vec([rows.len(), length], ids)
    }
}

impl Data for Golden {
    fn rows(&self, _: StepId) -> usize {
        ROWS
    }
    fn inputs(&self, step: StepId, rows: Range<usize>) -> Result<Tensors, LayerError> {
        let ids = self.rows_of((&self.ids, CONTEXT), step, rows.clone())?;
        match &self.sources {
            Some(sources) => Ok([self.rows_of((sources, SOURCE), step, rows)?, ids].into()),
            None => Ok(ids.into()),
        }
    }
    fn targets(&self, step: StepId, rows: Range<usize>) -> Result<Tensors, LayerError> {
        Ok(self.rows_of((&self.targets, CONTEXT), step, rows)?.into())
    }
}

fn gpt(tied: bool, biases: bool) -> Network {
    let gpt = nn::Gpt {
        vocab: 19,
        context: CONTEXT,
        width: 12,
        heads: 3,
        blocks: 2,
        tied,
        biases,
        dropout: 0.0,
        ..nn::Gpt::default()
    };
    gpt.network().unwrap()
}

fn trains_as_pytorch(name: &str, network: &Network, groups: &[nn::Group]) {
    let path = format!(
        "{}/stages/nn/tests/goldens/{name}.safetensors",
        env!("CARGO_MANIFEST_DIR")
    );
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let init: Vec<NamedTensor> = (file.names().iter())
        .filter_map(|key| {
            let name = key.strip_prefix("init/")?;
            let (shape, values) = f32s(&file, key);
            Some(NamedTensor::new(name, shape, values))
        })
        .collect();
    let rate = nn::LearningRate::Cosine {
        peak: 1e-2,
        min: 1e-3,
        warmup_steps: 3,
        steps: STEPS as u64,
    };
    let adamw = nn::AdamW {
        betas: (0.9, 0.95),
        weight_decay: 0.1,
        groups: groups.to_vec(),
        ..nn::AdamW::new(rate)
    };
    let sources = file.names().contains(&"sources");
    let data = Golden {
        sources: sources.then(|| i32s(&file, "sources")),
        ids: i32s(&file, "ids"),
        targets: i32s(&file, "targets"),
    };
    let (_, losses) = f32s(&file, "losses");
    let (_, norms) = f32s(&file, "grad_norms");
    for (nodes, micro_batch_size) in [(1, 6), (1, 1), (2, 4), (4, 2), (8, 1)] {
        let config = Config {
            nodes,
            cuts: Cuts::Balanced,
            schedule: ScheduleKind::OneFOneB,
            batch_size: ROWS,
            micro_batch_size,
            clip: Some(1.0),
            ..Config::default()
        };
        let mut trainer = Trainer::start(network, &config, adamw.clone()).unwrap();
        trainer.load_weights(&Weights::new(init.clone())).unwrap();
        if file.names().contains(&"logits0") {
            let (_, logits) = f32s(&file, "logits0");
            let found = trainer.predict(&data).unwrap();
            let greatest = { logits.iter() }.fold(0.0f32, |most, logit| most.max(logit.abs()));
            for (found, wanted) in found.f32().unwrap().iter().zip(&logits) {
                assert!(
                    (found - wanted).abs() <= 2e-5 * greatest,
                    "logits: {found} for {wanted}"
                );
            }
        }
        let mut worst = 0.0f64;
        for (step, (loss, norm)) in losses.iter().zip(&norms).enumerate() {
            let report = trainer.step(&data).unwrap();
            worst = worst.max((report.loss - f64::from(*loss)).abs());
            assert!(
                (report.loss - f64::from(*loss)).abs() < 1e-4,
                "step {step}: {} for {loss}",
                report.loss
            );
            let norm = f64::from(*norm);
            assert!(
                (report.gradient_norm - norm).abs() < 1e-3 * norm,
                "step {step}: {}",
                report.gradient_norm
            );
        }
        // The gradient of the keys' bias is 0 but for rounding: Adam makes anything of it.
        let defined = |param: &&NamedTensor| !param.key.ends_with("c_attn.bias");
        for param in trainer.weights().unwrap().params.iter().filter(defined) {
            let (_, wanted) = f32s(&file, &format!("final/{}", param.key));
            for (found, wanted) in param.values.iter().zip(&wanted) {
                let key = &param.key;
                assert!((found - wanted).abs() < 1e-4, "{key}: {found} for {wanted}");
            }
        }
        println!(
            "{name} on {nodes} nodes by {micro_batch_size}: losses within {worst:.1e} of PyTorch's"
        );
    }
}

#[test]
fn a_tied_gpt_trains_as_in_pytorch_on_any_number_of_nodes() {
    trains_as_pytorch("gpt", &gpt(true, true), &[]);
}

#[test]
fn an_untied_gpt_without_biases_trains_as_in_pytorch() {
    trains_as_pytorch("gpt_untied", &gpt(false, false), &[]);
}

#[test]
fn encoder_decoders_train_as_in_pytorch() {
    for (name, tied) in [("encoder_decoder", true), ("encoder_decoder_untied", false)] {
        let network = nn::EncoderDecoder {
            vocab: 19,
            source_context: SOURCE,
            context: CONTEXT,
            padding: Some(0),
            width: 12,
            heads: 3,
            tied,
            biases: tied,
            ..nn::EncoderDecoder::default()
        };
        trains_as_pytorch(name, &network.network().unwrap(), &[]);
    }
}

/// Frozen layers are parameters without a gradient there, groups are its `param_groups`.
#[test]
fn a_gpt_is_tuned_as_in_pytorch() {
    let layers = ["embed", "h.0.mlp"].map(KeyPattern::from);
    let network = gpt(false, true).freeze_matching(&layers).unwrap();
    let groups = [
        nn::Group::of("*.bias").weight_decay(0.05),
        nn::Group::of("h.0.*").lr(0.1),
        nn::Group::of("lm_head.weight").lr(2.0).weight_decay(0.0),
    ];
    trains_as_pytorch("gpt_tuned", &network, &groups);
}

#[test]
fn weights_that_do_not_fit_are_refused_and_change_nothing() {
    let gpt = nn::Gpt {
        vocab: 11,
        context: 4,
        width: 8,
        heads: 2,
        blocks: 1,
        ..nn::Gpt::default()
    };
    let config = Config {
        nodes: 2,
        batch_size: 2,
        micro_batch_size: 1,
        ..Config::default()
    };
    let mut trainer = Trainer::start(&gpt.network().unwrap(), &config, nn::Sgd::default()).unwrap();
    let (own, before) = (
        trainer.weights().unwrap(),
        trainer.weights_sha256().unwrap(),
    );
    let refused = |trainer: &mut Trainer, change: &dyn Fn(&mut Vec<NamedTensor>)| {
        let mut weights = own.clone();
        change(&mut weights.params);
        trainer.load_weights(&weights).unwrap_err().to_string()
    };
    let text = refused(&mut trainer, &|params| drop(params.remove(1)));
    assert!(text.contains("wpe.weight is missing"), "{text}");
    let text = refused(&mut trainer, &|params| {
        params.push(NamedTensor::new("x", vec![1], vec![0.0]))
    });
    assert!(text.contains("no parameter x"), "{text}");
    let text = refused(&mut trainer, &|params| params[0].shape = vec![8, 11]);
    assert!(
        text.contains("wte.weight has shape [8, 11], the network's has [11, 8]"),
        "{text}"
    );
    assert_eq!(trainer.weights_sha256().unwrap(), before);
    let mut zeros = own.clone();
    zeros
        .params
        .iter_mut()
        .for_each(|param| param.values.fill(0.0));
    trainer.load_weights(&zeros).unwrap();
    assert_eq!(trainer.weights().unwrap(), zeros);
}

/// Every node reads its own parameters out of the file; what is no whole file changes nothing.
#[test]
fn weights_come_back_from_their_file_on_any_number_of_nodes() {
    let gpt = nn::Gpt {
        vocab: 11,
        context: 4,
        width: 8,
        heads: 2,
        blocks: 2,
        tied: true,
        ..nn::Gpt::default()
    };
    let trainer = |nodes, seed| {
        let config = Config {
            nodes,
            seed,
            batch_size: 2,
            micro_batch_size: 1,
            ..Config::default()
        };
        Trainer::start(&gpt.network().unwrap(), &config, nn::Sgd::default()).unwrap()
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    let mut one = trainer(1, 1);
    one.save_weights(&path).unwrap();
    let (wanted, whole) = (one.weights_sha256().unwrap(), std::fs::read(&path).unwrap());
    assert_eq!(one.weights().unwrap().to_safetensors().unwrap(), whole);
    for nodes in [1, 3, 4] {
        let mut other = trainer(nodes, 2);
        let before = other.weights_sha256().unwrap();
        let damaged = folder.path().join("damaged");
        for length in [0, 7, 8, 40, whole.len() / 2, whole.len() - 1] {
            std::fs::write(&damaged, &whole[..length]).unwrap();
            let error = other.load_weights_file(&damaged).unwrap_err().to_string();
            assert!(error.contains("damaged"), "{error}");
        }
        std::fs::write(&damaged, [&whole[..], &[0]].concat()).unwrap();
        let error = other.load_weights_file(&damaged).unwrap_err().to_string();
        assert!(error.contains("where its header says"), "{error}");
        assert_eq!(other.weights_sha256().unwrap(), before);
        assert_ne!(before, wanted);
        other.load_weights_file(&path).unwrap();
        assert_eq!(other.weights_sha256().unwrap(), wanted);
    }
}
