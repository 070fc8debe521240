//! The header of a safetensors file, as whoever has written it.

use crate::files::{brief, up_to};
use safetensors::tensor::Dtype;
use serde::de::{Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

/// No header is longer: what the format allows.
const MOST_BYTES: u64 = 100_000_000;
/// More axes than any tensor has.
const MOST_AXES: usize = 64;
/// What is no tensor.
const METADATA: &str = "__metadata__";

/// A tensor in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TensorAt {
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    /// Its bytes, from the beginning of the file.
    pub(super) bytes: Range<usize>,
}

/// The tensors of a file by their names: together they are all that comes behind the header.
pub(super) fn read(file: &[u8]) -> Result<BTreeMap<String, TensorAt>, String> {
    let (length, rest) = file
        .split_first_chunk::<8>()
        .ok_or("it is no safetensors file: it has less than 8 bytes")?;
    let length = u64::from_le_bytes(*length);
    if length > MOST_BYTES || length > rest.len() as u64 {
        return Err(format!(
            "it is no safetensors file, or was cut off: its header is to have {length} bytes"
        ));
    }
    let header = &rest[..length as usize];
    let entries = serde_json::from_slice::<Entries>(header);
    let Entries(entries) = entries.map_err(|error| format!("its header: {error}"))?;
    let start = 8 + header.len();
    let mut tensors = BTreeMap::new();
    for (name, entry) in entries {
        let tensor = entry.placed(start, file.len());
        let tensor = tensor.map_err(|problem| format!("tensor {}: {problem}", brief(&name)))?;
        tensors.insert(name, tensor);
    }
    seamless(&tensors, start..file.len())?;
    Ok(tensors)
}

/// Whether every byte is of one tensor.
fn seamless(tensors: &BTreeMap<String, TensorAt>, data: Range<usize>) -> Result<(), String> {
    let mut places: Vec<_> = tensors.iter().map(|(name, at)| (&at.bytes, name)).collect();
    places.sort_by_key(|(bytes, _)| (bytes.start, bytes.end));
    let mut end = data.start;
    for (bytes, name) in places {
        if bytes.start != end {
            let (what, name) = (
                if bytes.start < end {
                    "overlap"
                } else {
                    "do not follow"
                },
                name,
            );
            return Err(format!(
                "tensor {}: its bytes {what} those before it",
                brief(name)
            ));
        }
        end = bytes.end;
    }
    match end == data.end {
        true => Ok(()),
        false => Err(format!(
            "it has {} bytes where its header says {end}",
            data.end
        )),
    }
}

/// What the header says of a tensor.
#[derive(Deserialize)]
struct Entry {
    dtype: Dtype,
    #[serde(deserialize_with = "up_to::<_, _, MOST_AXES>")]
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

impl Entry {
    /// Where it is, in a file of so many bytes whose tensors begin at `start`.
    fn placed(self, start: usize, length: usize) -> Result<TensorAt, String> {
        let (from, to) = self.data_offsets;
        let product = |all: u64, axis: &u64| all.checked_mul(*axis);
        let elements = self.shape.iter().try_fold(1u64, product);
        let bits = elements.and_then(|elements| elements.checked_mul(self.dtype.bitsize() as u64));
        let bits = bits.ok_or("its shape has more elements than can be counted")?;
        if !bits.is_multiple_of(8) || to.checked_sub(from) != Some(bits / 8) {
            return Err(format!(
                "its shape takes {} bytes, its offsets are {from} and {to}",
                bits.div_ceil(8)
            ));
        }
        let place = |offset: u64| usize::try_from(offset).ok()?.checked_add(start);
        let bytes = place(from).zip(place(to)).map(|(from, to)| from..to);
        let bytes = bytes.filter(|bytes| bytes.end <= length);
        let bytes = bytes.ok_or_else(|| format!("it ends at {to}, beyond the end of the file"))?;
        let axes = self.shape.into_iter().map(usize::try_from);
        Ok(TensorAt {
            dtype: self.dtype,
            shape: axes
                .collect::<Result<_, _>>()
                .map_err(|_| "its shape is too large")?,
            bytes,
        })
    }
}

/// The tensors of a header, none of them twice.
struct Entries(BTreeMap<String, Entry>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Entries;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tensors")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == METADATA {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    let name_again = brief(&name);
                    let entry = map.next_value().map_err(|error| {
                        A::Error::custom(format!("tensor {name_again}: {error}"))
                    })?;
                    if entries.insert(name, entry).is_some() {
                        let problem = format!("tensor {name_again} is there twice");
                        return Err(A::Error::custom(problem));
                    }
                }
                Ok(Entries(entries))
            }
        }
        from.deserialize_map(Each)
    }
}
