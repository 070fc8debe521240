//! Weights of all nodes: out, in, and their digest.

use super::Trainer;
use super::nodes::To;
use crate::checkpoint::{NamedTensor, Weights, WeightsFile, WeightsSource, weights_sha256};
use crate::error::Error;
use crate::files::read_error;
use crate::interchange::{TensorFolder, TensorSource};
use crate::stage::{Command, Reply};
use crate::wire::{from_bytes, to_bytes};
use brigade_layer::{ForeignNames, LayerError, LayerIndex, Shape};
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
        for (key, shape) in specs {
            let mut put = Ok(());
            self.values(&key, shape, To::First, |bytes| {
                if let (Some(file), Ok(())) = (&mut file, &put) {
                    put = file.put(bytes);
                }
            })?;
            // Nobody runs far ahead of who writes.
            self.alike(put)?;
        }
        self.alike(file.map_or(Ok(()), WeightsFile::finish))
    }

    /// What every process has done, or why one of them has not: well on all or on none.
    pub(super) fn alike<T>(&mut self, done: Result<T, Error>) -> Result<T, Error> {
        let problem = done.as_ref().err().map(ToString::to_string);
        let problems = self.nodes.share("file", problem)?.into_iter().enumerate();
        let first = { problems }.find_map(|(rank, problem)| Some((rank, problem?)));
        match (done, first) {
            (Ok(_), Some((rank, problem))) => Err(Error::Elsewhere { rank, problem }),
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
        // What is being saved is to be as it was.
        self.finish_in_report()?;
        let shapes = weights.params.iter();
        let shapes = shapes.map(|param| (param.key.as_str(), param.shape.as_slice()));
        self.fits(shapes)?;
        for NamedTensor { key, shape, values } in &weights.params {
            if values.len() != shape.iter().product::<usize>() {
                let problem = format!("{key} has {} values for shape {shape:?}", values.len());
                return Err(LayerError::spec("weights", problem).into());
            }
        }
        let params = weights.params.iter();
        let values = params.map(|param| (param.key.clone(), param.values.clone()));
        let values: BTreeMap<String, Vec<f32>> = values.collect();
        self.nodes.ask(&Command::Load(Arc::new(values)))?;
        Ok(())
    }

    /// As [`Trainer::load_weights`], from a safetensors file of f32 tensors, of which every node
    /// reads its own: a file larger than any node can be loaded.
    ///
    /// # Errors
    /// As [`Trainer::load_weights`], and when the file cannot be read, or is no such file.
    pub fn load_weights_file(&mut self, path: impl AsRef<Path>) -> Result<(), Error> {
        self.finish_in_report()?;
        let opened = WeightsSource::open(path.as_ref()).and_then(|source| {
            let shapes = source.shapes();
            let shapes = shapes.iter();
            self.fits(shapes.map(|(key, shape)| (key.as_str(), shape.as_slice())))?;
            Ok(source)
        });
        let source = self.alike(opened)?;
        self.nodes.ask(&Command::Load(Arc::new(source)))?;
        Ok(())
    }

    /// Starts from the tensors of another library's folder, under these names: every node reads its
    /// own, piece by piece, so that none needs room for more than its share. The optimizer's state
    /// stays as it is.
    ///
    /// # Errors
    /// When a tensor is missing, superfluous, or of another shape or elements than it must be:
    /// which, with both shapes. Nothing has changed then.
    pub fn load_tensors(
        &mut self,
        folder: &TensorFolder,
        names: &ForeignNames,
    ) -> Result<(), Error> {
        self.finish_in_report()?;
        let params = self.network.params().into_iter();
        let params: Vec<_> = params.map(|(key, spec)| (key, spec.shape)).collect();
        let source = TensorSource::new(folder, names, &params).and_then(|source| {
            if crate::process::is_first() {
                source.is_at_one(names)?;
            }
            Ok(source)
        });
        let source = self.alike(source)?;
        let all = self.nodes.share("tensors", source.description())?;
        let other = all.iter().position(|other| *other != all[0]);
        self.alike(other.map_or(Ok(()), |rank| {
            let problem = format!("rank {rank} sees others there; give all the same files");
            Err(read_error(folder.path(), problem))
        }))?;
        self.nodes.ask(&Command::Load(Arc::new(source)))?;
        Ok(())
    }

    /// Whether these are the network's parameters.
    pub(super) fn fits<'a>(
        &self,
        params: impl Iterator<Item = (&'a str, &'a [usize])>,
    ) -> Result<(), Error> {
        let mut known: BTreeMap<_, _> = self.network.params().into_iter().collect();
        let refuse = |problem: String| Err(Error::from(LayerError::spec("weights", problem)));
        for (key, found) in params {
            match known.remove(key) {
                None => return refuse(format!("the network has no parameter {key}")),
                Some(spec) if spec.shape.axes() != found => {
                    let wanted = spec.shape;
                    return refuse(format!(
                        "{key} has shape {found:?}, the network's has {wanted}"
                    ));
                }
                Some(_) => {}
            }
        }
        match known.keys().next() {
            Some(missing) => refuse(format!("{missing} is missing")),
            None => Ok(()),
        }
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
