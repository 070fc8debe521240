//! The layers that a described layer reads: names of some that are described before it.

use super::json::{Seen, shortened};
use brigade_layer::MAX_TENSORS;
use serde::Deserializer;
use serde::de::{self, DeserializeSeed, SeqAccess, Visitor};
use std::fmt;

/// Reads a list of names.
pub(super) struct Before<'a> {
    pub(super) seen: &'a Seen,
    /// The layer's own name, where it is known by then.
    pub(super) own: Option<&'a str>,
}

impl<'de> DeserializeSeed<'de> for Before<'_> {
    type Value = Vec<String>;
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Vec<String>, D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Before<'_> {
    type Value = Vec<String>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of names of layers before it")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<String>, A::Error> {
        let mut names = Vec::new();
        while let Some(name) = seq.next_element_seed(Name(&self))? {
            if names.len() == MAX_TENSORS {
                let problem = format!("more than {MAX_TENSORS} inputs, the most of a layer");
                return Err(de::Error::custom(problem));
            }
            names.push(name);
        }
        match names.is_empty() {
            false => Ok(names),
            true => Err(de::Error::custom(
                "no inputs; name layers, or leave this out to read the layer before",
            )),
        }
    }
}

struct Name<'a>(&'a Before<'a>);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = String;
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<String, D::Error> {
        from.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = String;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a layer, as text")
    }
    fn visit_str<E: de::Error>(self, name: &str) -> Result<String, E> {
        if self.0.seen.knows(name) && self.0.own != Some(name) {
            return Ok(name.to_owned());
        }
        let name = shortened(name);
        Err(E::custom(format!(
            "no layer {name:?} before this one; name layers that are described before it"
        )))
    }
}
