//! A file of weights as a folder of another library.

use super::convert::{FloatType, numbers};
use super::folder::{INDEX, TensorFolder};
use super::matching::places;
use crate::checkpoint::tensors_header;
use crate::error::{Error, TensorError};
use crate::files::{WholeFile, brief, write_error, write_whole};
use brigade_layer::{ForeignNames, Network};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// How tensors are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Export {
    /// Their elements: f32 at first.
    pub float: FloatType,
    /// No file has more bytes of tensors, unless of one alone: 5 GB at first.
    pub shard_bytes: u64,
}

impl Default for Export {
    fn default() -> Self {
        Self {
            float: FloatType::F32,
            shard_bytes: 5_000_000_000,
        }
    }
}

impl Export {
    /// With these elements.
    #[must_use]
    pub fn float(mut self, float: FloatType) -> Self {
        self.float = float;
        self
    }

    /// With files of at most so many bytes of tensors.
    #[must_use]
    pub fn shard_bytes(mut self, bytes: u64) -> Self {
        self.shard_bytes = bytes;
        self
    }
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exported {
    /// The files of tensors, and the index, if there is one.
    pub files: Vec<PathBuf>,
    /// How many tensors they have.
    pub tensors: usize,
    /// Bytes of all tensors.
    pub bytes: u64,
}

/// A tensor to be written.
struct Part {
    name: String,
    shape: Vec<usize>,
    /// The tensor that it is taken from, if it is not of zeros.
    from: Option<String>,
    transposed: bool,
}

/// Writes a file of weights under our own keys as another library has them: `model.safetensors`,
/// or several with an index. Each file is there whole or not at all, the index comes last, and
/// tensors go through piece by piece.
///
/// # Errors
/// When the weights are not the network's, one of them is too large for the elements, `to` has
/// weights already, or a file cannot be written.
pub fn export(
    from: &TensorFolder,
    (names, network): (&ForeignNames, &Network),
    to: impl AsRef<Path>,
    how: &Export,
) -> Result<Exported, Error> {
    let to = to.as_ref();
    fs::create_dir_all(to).map_err(|error| write_error(to, &error))?;
    vacant(to)?;
    let parts = parts(from, names, network)?;
    let shards = shards(&parts, how);
    let mut exported = Exported {
        files: Vec::new(),
        tensors: parts.len(),
        bytes: parts.iter().map(|part| part.bytes(how)).sum(),
    };
    let (count, mut map) = (shards.len(), BTreeMap::new());
    for (number, shard) in (1..).zip(shards) {
        let name = match count {
            1 => "model.safetensors".to_owned(),
            _ => format!("model-{number:05}-of-{count:05}.safetensors"),
        };
        let path = to.join(&name);
        if let Err(error) = write(from, shard, &path, how) {
            // What is there would be taken for a part of the next try.
            for file in &exported.files {
                let _ = fs::remove_file(file);
            }
            return Err(error);
        }
        exported.files.push(path);
        map.extend(shard.iter().map(|part| (part.name.as_str(), name.clone())));
    }
    if count > 1 {
        let index = json!({ "metadata": { "total_size": exported.bytes }, "weight_map": map });
        let path = to.join(INDEX);
        write_whole(&path, format!("{index:#}\n").as_bytes())?;
        exported.files.push(path);
    }
    Ok(exported)
}

/// That nothing there would be taken for a part of it.
fn vacant(to: &Path) -> Result<(), Error> {
    let fail = |error: &std::io::Error| write_error(to, error);
    for entry in fs::read_dir(to).map_err(|error| fail(&error))? {
        let name = entry.map_err(|error| fail(&error))?.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("model") && name.contains(".safetensors") {
            return Err(Error::Write {
                path: to.display().to_string(),
                problem: format!("it has {name} already; give another folder"),
            });
        }
    }
    Ok(())
}

/// All tensors that are written, in their order.
fn parts(from: &TensorFolder, names: &ForeignNames, network: &Network) -> Result<Vec<Part>, Error> {
    let params = network.params().into_iter();
    let params: Vec<_> = params.map(|(key, spec)| (key, spec.shape)).collect();
    places(
        from,
        &ForeignNames::own(params.iter().map(|(key, _)| key)),
        &params,
    )?;
    let known = names.params.iter();
    let known: BTreeMap<_, _> = known.map(|param| (&param.key, param)).collect();
    let mut parts = Vec::new();
    for (key, shape) in params {
        let (mut shape, named) = (shape.axes().to_vec(), known.get(&key));
        let transposed = named.is_some_and(|param| param.transposed);
        if transposed {
            shape.reverse();
        }
        parts.push(Part {
            name: named.map_or(&key, |param| &param.name).clone(),
            shape,
            from: Some(key),
            transposed,
        });
    }
    parts.extend(names.zeros.iter().map(|(name, shape)| Part {
        name: name.clone(),
        shape: shape.clone(),
        from: None,
        transposed: false,
    }));
    Ok(parts)
}

impl Part {
    fn bytes(&self, how: &Export) -> u64 {
        (self.shape.iter().product::<usize>() * how.float.bytes()) as u64
    }
}

/// As many after each other as fit into a file.
fn shards<'a>(parts: &'a [Part], how: &Export) -> Vec<&'a [Part]> {
    let (mut shards, mut start, mut bytes) = (Vec::new(), 0, 0);
    for (at, part) in parts.iter().enumerate() {
        if at > start && bytes + part.bytes(how) > how.shard_bytes {
            shards.push(&parts[start..at]);
            (start, bytes) = (at, 0);
        }
        bytes += part.bytes(how);
    }
    shards.push(&parts[start..]);
    shards
}

fn write(from: &TensorFolder, parts: &[Part], path: &Path, how: &Export) -> Result<(), Error> {
    let infos = parts
        .iter()
        .map(|part| (part.name.clone(), part.shape.clone()));
    let header = tensors_header(infos, how.float.dtype(), Some("pt"));
    let header = header.map_err(|problem| Error::Write {
        path: path.display().to_string(),
        problem,
    })?;
    let mut file = WholeFile::create(path)?;
    file.write(&header)?;
    let mut bytes = Vec::new();
    for part in parts {
        match &part.from {
            Some(name) => numbers(from, (name, part.transposed), &mut |_, piece| {
                if let Some(number) = how.float.too_large(piece) {
                    return Err(Error::Tensor(Box::new(TensorError::TooLarge {
                        path: from.file_of(name).display().to_string(),
                        tensor: brief(name),
                        number: number.to_string(),
                        float: how.float.to_string(),
                        instead: match how.float {
                            FloatType::F16 => "bf16 or f32",
                            _ => "f32",
                        },
                    })));
                }
                how.float.write(piece, &mut bytes);
                file.write(&bytes)
            })?,
            None => file.write(&vec![0; part.bytes(how) as usize])?,
        }
    }
    file.finish()
}
