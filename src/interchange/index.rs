//! The index of tensors in several files: which is where.

use crate::files::brief;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// More files than any network is in.
const MOST_FILES: usize = 1 << 14;

/// An index: the file of every tensor, a name without a folder.
#[derive(Debug, Deserialize)]
pub(super) struct Index {
    weight_map: Files,
}

impl Index {
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        let index = serde_json::from_slice::<Self>(text).map_err(|error| error.to_string())?;
        let files = index.files();
        if files.len() > MOST_FILES {
            let found = files.len();
            return Err(format!("it names {found} files; the most is {MOST_FILES}"));
        }
        if let Some(file) = files.into_iter().find(|file| !is_plain(file)) {
            return Err(format!(
                "{} is no name of a safetensors file beside it",
                brief(file)
            ));
        }
        Ok(index)
    }

    /// The files that it names.
    pub(super) fn files(&self) -> BTreeSet<&str> {
        self.weight_map.0.values().map(String::as_str).collect()
    }

    /// The file of a tensor.
    pub(super) fn file_of(&self, tensor: &str) -> Option<&str> {
        self.weight_map.0.get(tensor).map(String::as_str)
    }

    /// How many tensors it names.
    pub(super) fn len(&self) -> usize {
        self.weight_map.0.len()
    }

    /// A tensor, with its file, that is not among those that are there.
    pub(super) fn missing_of<T>(&self, there: &BTreeMap<String, T>) -> Option<(&str, &str)> {
        let mut all = self.weight_map.0.iter();
        let missing = all.find(|(tensor, _)| !there.contains_key(*tensor))?;
        Some((missing.0, missing.1))
    }

    /// The file of every tensor.
    pub(super) fn into_files(self) -> BTreeMap<String, String> {
        self.weight_map.0
    }
}

/// Whether it is a name alone: nothing that leads to another folder.
fn is_plain(file: &str) -> bool {
    let odd = |c: char| c.is_control() || matches!(c, '/' | '\\' | ':');
    file.ends_with(".safetensors") && !file.starts_with('.') && !file.contains(odd)
}

/// File by tensor, none of them twice.
#[derive(Debug)]
struct Files(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Files {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Files;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of file names")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Files, A::Error> {
                let mut files = BTreeMap::new();
                while let Some((tensor, file)) = map.next_entry::<String, String>()? {
                    let again = brief(&tensor);
                    if files.insert(tensor, file).is_some() {
                        return Err(A::Error::custom(format!("tensor {again} is there twice")));
                    }
                }
                Ok(Files(files))
            }
        }
        from.deserialize_map(Each)
    }
}
