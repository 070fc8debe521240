//! What a manifest may say, whoever wrote it: beyond its checksum, so that nothing that follows
//! from it has to be doubted.

use super::manifest::{FileEntry, MANIFEST, Manifest, TensorEntry};
use brigade_layer::Shape;
use std::collections::{BTreeMap, BTreeSet};

/// A step beyond is no step of a training; up to here steps are exact in floating point.
const MOST_STEPS: u64 = 1 << 53;
/// No file system takes longer names.
const MOST_NAME_BYTES: usize = 255;
/// Nobody gives a parameter a longer key.
const MOST_KEY_BYTES: usize = 4096;

impl Manifest {
    /// Whether what it says fits together.
    pub(super) fn sound(&self) -> Result<(), String> {
        if self.step > MOST_STEPS {
            return Err(format!("of step {}; the most is {MOST_STEPS}", self.step));
        }
        let sums = [&self.network, &self.weights_sha256];
        sums.into_iter().try_for_each(|sum| checksum(sum))?;
        let mut names = BTreeSet::new();
        let mut bytes = 0u64;
        for file in &self.files {
            file.sound()?;
            if !names.insert(&file.name) {
                return Err(format!("it has the file {} twice", file.name));
            }
            let sum = bytes.checked_add(file.bytes);
            bytes = sum.ok_or("its files have more bytes than can be counted")?;
        }
        self.tensors_are_sound()?;
        match self.digest() == self.weights_sha256 {
            true => Ok(()),
            false => Err("damaged: its tensors are not those of its weights".into()),
        }
    }

    /// Every tensor is there once, and every state beside its values.
    fn tensors_are_sound(&self) -> Result<(), String> {
        let mut known = BTreeMap::new();
        for tensor in self.files.iter().flat_map(|file| &file.tensors) {
            tensor.sound()?;
            if tensor.layer as usize >= self.layers.len() {
                let (layer, layers) = (tensor.layer, self.layers.len());
                let name = tensor.name();
                return Err(format!(
                    "{name} is of layer {layer}, and there are {layers}"
                ));
            }
            let name = (tensor.key.as_str(), tensor.state.as_deref());
            if known.insert(name, tensor).is_some() {
                return Err(format!("it has {} twice", tensor.name()));
            }
        }
        for ((key, _), state) in known.iter().filter(|((_, state), _)| state.is_some()) {
            let values = known.get(&(*key, None));
            let beside = |values: &&TensorEntry| {
                (values.layer, &values.shape) == (state.layer, &state.shape)
            };
            if !values.is_some_and(beside) {
                return Err(format!("{} is of no values that it has", state.name()));
            }
        }
        Ok(())
    }
}

impl FileEntry {
    /// Whether its tensors fill it from its header to its end, and it lies where it should.
    fn sound(&self) -> Result<(), String> {
        let name = &self.name;
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let is_plain = name.len() <= MOST_NAME_BYTES && name.chars().all(plain);
        if name.is_empty() || name.starts_with('.') || !is_plain || name == MANIFEST {
            let shown: String = name.chars().take(MOST_NAME_BYTES).collect();
            return Err(format!("a file {shown:?}, which is no plain name"));
        }
        checksum(&self.header_sha256)?;
        let end = self.tensors.iter().try_fold(self.start, |end, tensor| {
            tensor.bytes().and_then(|bytes| end.checked_add(bytes))
        });
        match end == Some(self.bytes) && self.start >= 8 {
            true => Ok(()),
            false => Err(format!(
                "{name} has {} bytes, and its tensors do not fill them",
                self.bytes
            )),
        }
    }
}

impl TensorEntry {
    /// Whether there can be such a tensor.
    fn sound(&self) -> Result<(), String> {
        let names = [Some(&self.key), self.state.as_ref()];
        if names
            .into_iter()
            .flatten()
            .any(|name| name.len() > MOST_KEY_BYTES)
        {
            return Err(format!(
                "a tensor's name is longer than any, {MOST_KEY_BYTES} bytes"
            ));
        }
        Shape::new(&self.shape).map_err(|error| format!("{}: {error}", self.name()))?;
        checksum(&self.sha256)
    }
}

/// Whether it is a SHA-256 as this program writes it.
fn checksum(text: &str) -> Result<(), String> {
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    match text.len() == 64 && text.bytes().all(digit) {
        true => Ok(()),
        false => {
            let shown: String = text.chars().take(65).collect();
            Err(format!("{shown:?} is no SHA-256"))
        }
    }
}
