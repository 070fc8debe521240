//! Weights of all nodes: out, in, and their digest.

use super::Trainer;
use super::nodes::To;
use crate::checkpoint::{NamedTensor, Weights, WeightsFile, weights_sha256};
use crate::error::Error;
use crate::stage::{Command, Reply};
use crate::wire::{from_bytes, to_bytes};
use brigade_layer::{LayerError, LayerIndex, Shape};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// So many numbers of a parameter go to another process at once.
const PIECE: usize = 4 << 20;

impl Trainer {
    /// All weights, in layer order.
    ///
    /// # Errors
    /// As [`Trainer::step`].
    pub fn weights(&mut self) -> Result<Weights, Error> {
        let mut params = Vec::new();
        for (key, spec) in self.network.params() {
            let mut values = Vec::new();
            self.values(&key, spec.shape, To::All, |bytes| {
                values.extend(from_bytes(bytes));
            })?;
            params.push(NamedTensor::new(key, spec.shape.axes().to_vec(), values));
        }
        Ok(Weights::new(params))
    }

    /// Writes all weights as a safetensors file, whole or not at all: the same bytes as
    /// [`Weights::save`], but no process ever holds more than its own weights and one parameter.
    /// Of several processes the first one writes, and all hear how that went.
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
        let created = crate::process::is_first()
            .then(|| WeightsFile::create(path.as_ref(), &specs))
            .transpose();
        let mut file = self.alike(created)?;
        let mut put = Ok(());
        for (key, shape) in specs {
            self.values(&key, shape, To::First, |bytes| {
                if let (Some(file), Ok(())) = (&mut file, &put) {
                    put = file.put(bytes);
                }
            })?;
        }
        let finished = put.and_then(|()| file.map_or(Ok(()), WeightsFile::finish));
        self.alike(finished)
    }

    /// What the first process has done, or why it has not: the same on all.
    fn alike<T>(&mut self, done: Result<T, Error>) -> Result<T, Error> {
        let problem = done.as_ref().err().map(ToString::to_string);
        let problem = self.nodes.share("file", problem)?.swap_remove(0);
        match (done, problem) {
            (Ok(_), Some(problem)) => Err(Error::Elsewhere { rank: 0, problem }),
            (done, _) => done,
        }
    }

    /// A parameter's values as little-endian bytes, piece by piece, from whoever holds it.
    fn values(
        &mut self,
        key: &str,
        shape: Shape,
        to: To,
        mut on: impl FnMut(&[u8]),
    ) -> Result<(), Error> {
        let mut own = None;
        for reply in self.nodes.ask(&Command::Param(key.into()))? {
            if let Reply::Values(found) = reply {
                own = found.or(own);
            }
        }
        for start in (0..shape.elements()).step_by(PIECE) {
            let end = shape.elements().min(start + PIECE);
            let mine = own.as_ref().and_then(|values| values.get(start..end));
            let mine = mine.map_or(Vec::new(), to_bytes);
            let all = self.nodes.share_bytes("weights", mine, to)?;
            let piece = all.iter().find(|bytes| !bytes.is_empty());
            match piece {
                Some(bytes) => on(bytes),
                None if to == To::First && !crate::process::is_first() => {}
                None => {
                    let problem = format!("no node has parameter {key}");
                    return Err(LayerError::Value(problem).into());
                }
            }
        }
        Ok(())
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
        let mut digests: Vec<_> = self
            .nodes
            .share("digests", digests)?
            .into_iter()
            .flatten()
            .collect();
        digests.sort_by_key(|(layer, _)| *layer);
        Ok(weights_sha256(
            digests.into_iter().map(|(_, digest)| digest),
        ))
    }
}
