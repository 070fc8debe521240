//! Which tensor of a folder is which parameter.

use super::convert::FloatType;
use super::folder::TensorFolder;
use crate::error::{Error, TensorError};
use crate::files::brief;
use brigade_layer::{ForeignNames, ForeignParam, Shape};
use std::collections::{BTreeMap, BTreeSet};

/// Of every parameter by its key: the tensor's name in the folder, and whether rows and columns
/// are exchanged there.
pub(super) type Places = BTreeMap<String, (String, bool)>;

/// Finds all parameters of a network, and nothing else, in a folder.
pub(super) fn places(
    folder: &TensorFolder,
    names: &ForeignNames,
    wanted: &[(String, Shape)],
) -> Result<Places, Error> {
    let matching = Matching::new(folder, names)?;
    let params: BTreeMap<_, _> = names
        .params
        .iter()
        .map(|it| (it.key.as_str(), it))
        .collect();
    let (mut places, mut used) = (Places::new(), BTreeSet::new());
    for (key, shape) in wanted {
        let own = ForeignParam {
            key: key.clone(),
            name: key.clone(),
            transposed: false,
        };
        let param = params.get(key.as_str()).copied().unwrap_or(&own);
        let found = matching.find(param)?;
        matching.check(found, param, shape.axes())?;
        used.insert(found);
        places.insert(key.clone(), (found.to_owned(), param.transposed));
    }
    matching.nothing_else(&used)?;
    Ok(places)
}

/// Compares tensors with those that they are superfluous copies of.
pub(super) fn copies_are_equal(folder: &TensorFolder, names: &ForeignNames) -> Result<(), Error> {
    let matching = Matching::new(folder, names)?;
    for (copy, of) in &names.copies {
        let both = matching.found.get(copy.as_str());
        let Some((copy, of)) = both.zip(matching.found.get(of.as_str())) else {
            continue;
        };
        if !equal(folder, copy, of) {
            return Err(matching.error(copy, |path, tensor| TensorError::Differs {
                path,
                tensor,
                other: brief(of),
            }));
        }
    }
    Ok(())
}

/// Whether two tensors have the same numbers.
fn equal(folder: &TensorFolder, one: &str, other: &str) -> bool {
    const PIECE: usize = 1 << 20;
    let (Some(one_at), Some(other_at)) = (folder.at(one), folder.at(other)) else {
        return false;
    };
    let floats = FloatType::of(one_at.0.dtype).zip(FloatType::of(other_at.0.dtype));
    let Some(floats) = floats.filter(|_| one_at.0.shape == other_at.0.shape) else {
        return false;
    };
    let (one_piece, other_piece) = (PIECE * floats.0.bytes(), PIECE * floats.1.bytes());
    let pieces = one_at
        .1
        .chunks(one_piece)
        .zip(other_at.1.chunks(other_piece));
    pieces.enumerate().all(|(at, (a, b))| {
        let same = match floats.0 == floats.1 {
            true => a == b,
            false => floats.0.read(a) == floats.1.read(b),
        };
        folder.release(one, at * one_piece..at * one_piece + a.len());
        folder.release(other, at * other_piece..at * other_piece + b.len());
        same
    })
}

/// The tensors of a folder under the names that they would be written with.
struct Matching<'a> {
    folder: &'a TensorFolder,
    names: &'a ForeignNames,
    /// Their names in the folder.
    found: BTreeMap<String, &'a str>,
}

impl<'a> Matching<'a> {
    fn new(folder: &'a TensorFolder, names: &'a ForeignNames) -> Result<Self, Error> {
        let prefix = names.prefix.as_str();
        let params = names.params.iter().map(|param| param.name.as_str());
        let bare: BTreeSet<_> =
            { params.chain(names.copies.iter().map(|(copy, _)| copy.as_str())) }
                .filter(|name| !name.starts_with(prefix))
                .collect();
        let mut found = BTreeMap::new();
        for (name, _, _) in folder.tensors() {
            let full = match name.starts_with(prefix) || bare.contains(name) {
                true => name.to_owned(),
                false => format!("{prefix}{name}"),
            };
            if let Some(other) = found.insert(full, name) {
                let problem = format!("it has both {} and {}", brief(other), brief(name));
                return Err(super::damaged(folder.path(), problem));
            }
        }
        Ok(Self {
            folder,
            names,
            found,
        })
    }

    /// The name in the folder of a parameter's tensor, or of its copy where that is the only one.
    fn find(&self, param: &ForeignParam) -> Result<&'a str, Error> {
        let copies = self.names.copies.iter();
        let copies = copies.filter(|(_, of)| *of == param.name);
        let mut names = std::iter::once(&param.name).chain(copies.map(|(copy, _)| copy));
        let found = names.find_map(|name| self.found.get(name).copied());
        found.ok_or_else(|| {
            let path = self.folder.path().display().to_string();
            let tensor = param.name.clone();
            Error::Tensor(Box::new(TensorError::Missing { path, tensor }))
        })
    }

    /// Whether a tensor is of numbers that can be read, as many as there are to be.
    fn check(&self, name: &str, param: &ForeignParam, own: &[usize]) -> Result<(), Error> {
        let Some((at, _)) = self.folder.at(name) else {
            return Ok(());
        };
        if FloatType::of(at.dtype).is_none() {
            return Err(self.error(name, |path, tensor| TensorError::DType {
                path,
                tensor,
                found: format!("{:?}", at.dtype),
            }));
        }
        let mut wanted = own.to_vec();
        if param.transposed {
            wanted.reverse();
        }
        match at.shape == wanted {
            true => Ok(()),
            false => Err(self.error(name, |path, tensor| TensorError::Shape {
                path,
                tensor,
                found: at.shape.clone(),
                wanted,
            })),
        }
    }

    /// Whether all tensors are used, or known to be superfluous.
    fn nothing_else(&self, used: &BTreeSet<&str>) -> Result<(), Error> {
        let ForeignNames {
            copies, ignored, ..
        } = self.names;
        let superfluous = |full: &str| {
            copies.iter().any(|(copy, _)| copy == full)
                || ignored.iter().any(|end| full.ends_with(end.as_str()))
        };
        let mut all = self.found.iter();
        match all.find(|(full, name)| !used.contains(*name) && !superfluous(full)) {
            None => Ok(()),
            Some((_, name)) => {
                Err(self.error(name, |path, tensor| TensorError::Extra { path, tensor }))
            }
        }
    }

    fn error(&self, name: &str, error: impl FnOnce(String, String) -> TensorError) -> Error {
        let path = self.folder.file_of(name).display().to_string();
        Error::Tensor(Box::new(error(path, brief(name))))
    }
}
