//! Weights of all nodes: out, in, and their digest.

use super::Trainer;
use crate::checkpoint::{NamedTensor, Weights, WeightsFile, weights_sha256};
use crate::error::Error;
use crate::stage::{Command, ParamReport, Reply};
use brigade_layer::{LayerError, LayerIndex};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

impl Trainer {
    /// All weights, in layer order.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn weights(&mut self) -> Result<Weights, Error> {
        let mut params: Vec<ParamReport> = Vec::new();
        for reply in self.nodes.ask(&Command::Weights)? {
            if let Reply::Weights(own) = reply {
                params.extend(own);
            }
        }
        let mut params: Vec<_> = self.nodes.share(params)?.into_iter().flatten().collect();
        params.sort_by_key(|param| param.layer);
        let named = |p: ParamReport| NamedTensor::new(p.key, p.shape.axes().to_vec(), p.values);
        Ok(Weights::new(params.into_iter().map(named).collect()))
    }

    /// Writes all weights as a safetensors file, whole or not at all: the same bytes as
    /// [`Weights::save`], but no process ever holds more than its own weights and one parameter.
    /// Of several processes the first one writes.
    ///
    /// # Errors
    /// As [`Trainer::step`], and when the file cannot be written.
    pub fn save_weights(&mut self, path: impl AsRef<Path>) -> Result<(), Error> {
        let params = self.network.params();
        let mut specs: Vec<_> = params
            .into_iter()
            .map(|(key, spec)| (key, spec.shape))
            .collect();
        // The order of the file.
        specs.sort_by(|a, b| a.0.cmp(&b.0));
        let first = crate::process::is_first();
        let mut file = first
            .then(|| WeightsFile::create(path.as_ref(), &specs))
            .transpose()?;
        for (key, _) in specs {
            let mut own = None;
            for reply in self.nodes.ask(&Command::Param(key.as_str().into()))? {
                if let Reply::Weights(found) = reply {
                    own = found.into_iter().next().or(own);
                }
            }
            let found = self.nodes.bring(own.map(|param| param.values))?;
            if let Some(file) = &mut file {
                let values = found.into_iter().flatten().next();
                let none = || LayerError::Value(format!("no node has parameter {key}"));
                file.put(&values.ok_or_else(none)?)?;
            }
        }
        file.map_or(Ok(()), WeightsFile::finish)
    }

    /// Starts from these weights instead of the initial ones. They are looked up by key; the
    /// optimizer's state stays as it is.
    ///
    /// # Errors
    /// When a parameter is missing, unknown, or has another shape. Nothing has changed then.
    pub fn load_weights(&mut self, weights: &Weights) -> Result<(), Error> {
        let mut known: BTreeMap<_, _> = self.network.params().into_iter().collect();
        let refuse = |problem: String| Err(Error::from(LayerError::spec("weights", problem)));
        for param in &weights.params {
            match known.remove(&param.key) {
                None => return refuse(format!("the network has no parameter {}", param.key)),
                Some(spec) if spec.shape.axes() != param.shape => {
                    let (key, found) = (&param.key, &param.shape);
                    let wanted = spec.shape;
                    return refuse(format!(
                        "{key} has shape {found:?}, the network's has {wanted}"
                    ));
                }
                Some(spec) if spec.shape.elements() != param.values.len() => {
                    let (key, found) = (&param.key, param.values.len());
                    return refuse(format!("{key} has {found} values for shape {}", spec.shape));
                }
                Some(_) => {}
            }
        }
        if let Some(missing) = known.keys().next() {
            return refuse(format!("{missing} is missing"));
        }
        let values = weights
            .params
            .iter()
            .map(|param| (param.key.clone(), param.values.clone()));
        self.nodes.ask(&Command::Load(Arc::new(values.collect())))?;
        Ok(())
    }

    /// SHA-256, in hexadecimal, over the digests of all parameters in layer order: see
    /// [`Weights::sha256`]. No weight leaves its node.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn weights_sha256(&mut self) -> Result<String, Error> {
        let mut digests: Vec<(LayerIndex, [u8; 32])> = Vec::new();
        for reply in self.nodes.ask(&Command::Digests)? {
            if let Reply::Digests(own) = reply {
                digests.extend(own);
            }
        }
        let mut digests: Vec<_> = self.nodes.share(digests)?.into_iter().flatten().collect();
        digests.sort_by_key(|(layer, _)| *layer);
        Ok(weights_sha256(
            digests.into_iter().map(|(_, digest)| digest),
        ))
    }
}
