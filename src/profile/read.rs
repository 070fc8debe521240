//! Reading profiles. What is wrong is found where it is read, so that the error knows the line.

use super::file::{FORMAT, LayerText, LinkText, MOST_US, MachineText, Micros, UnequalText};
use super::{LayerProfile, Profile, SizeProfile};
use crate::error::PlanError;
use crate::files::{parse_json, up_to};
use crate::ids::NodeId;
use crate::schedule::{Link, Links};
use crate::trace::LayerTime;
use brigade_layer::Precision;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeSet;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

/// No network has more.
const MOST_LAYERS: usize = 1_000_000;
const MOST_EDGES: usize = 4 * MOST_LAYERS;
const MOST_LINKS: usize = 1_000_000;
/// Nobody measures more.
const MOST_SIZES: usize = 1000;

/// A profile from the text of a file of this name.
pub(super) fn profile(name: &str, text: &str) -> Result<Profile, PlanError> {
    let read: ProfileText = parse_json(name, text.as_bytes())?;
    let mut sizes = read.sizes.0;
    sizes.sort_by_key(|size| size.rows);
    let unequal = read.unequal_links.into_iter().map(|link| {
        let UnequalText {
            latency_us,
            per_mib_us,
            ..
        } = link;
        let of = LinkText {
            latency_us,
            per_mib_us,
        };
        (NodeId::new(link.from), NodeId::new(link.to), Link::from(of))
    });
    Ok(Profile {
        sizes,
        links: Links {
            all: read.links.into(),
            unequal: unequal.collect(),
            message_bytes: Vec::new(),
        },
        precision: read.precision,
        threads_per_node: read.threads_per_node.0,
        machine: read.machine.into(),
        measured_at: read.measured_at,
        version: read.version,
        network: read.network,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a profile")]
struct ProfileText {
    #[serde(rename = "brigade_profile")]
    _format: Format,
    version: String,
    network: String,
    measured_at: String,
    machine: MachineText,
    precision: Precision,
    threads_per_node: Count,
    links: LinkText,
    #[serde(default, deserialize_with = "up_to::<_, _, MOST_LINKS>")]
    unequal_links: Vec<UnequalText>,
    sizes: Sizes,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a size of micro-batch")]
struct SizeText {
    rows: Count,
    #[serde(deserialize_with = "up_to::<_, _, MOST_EDGES>")]
    message_bytes: Vec<u64>,
    layers: Layers,
}

/// A number that is checked as it is read.
struct Number<T, C>(&'static str, C, PhantomData<T>);

impl<T, C: Fn(f64) -> Result<T, String>> Visitor<'_> for Number<T, C> {
    type Value = T;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
    fn visit_f64<E: Error>(self, number: f64) -> Result<T, E> {
        (self.1)(number).map_err(E::custom)
    }
    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        self.visit_f64(number as f64)
    }
    fn visit_i64<E: Error>(self, number: i64) -> Result<T, E> {
        self.visit_f64(number as f64)
    }
}

fn number<'de, T, D: Deserializer<'de>>(
    deserializer: D,
    expected: &'static str,
    check: impl Fn(f64) -> Result<T, String>,
) -> Result<T, D::Error> {
    deserializer.deserialize_f64(Number(expected, check, PhantomData))
}

impl<'de> Deserialize<'de> for Micros {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        number(deserializer, "microseconds", |us| {
            match us.is_finite() && (0.0..=MOST_US).contains(&us) {
                true => Ok(Self(Duration::from_nanos((us * 1e3).round() as u64))),
                false => Err(format!(
                    "{us} microseconds; it must be between 0 and {MOST_US}"
                )),
            }
        })
    }
}

/// A whole number from 1.
struct Count(usize);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const MOST: f64 = (1u64 << 30) as f64;
        number(deserializer, "a whole number from 1", |number| {
            match number.fract() == 0.0 && (1.0..=MOST).contains(&number) {
                true => Ok(Self(number as usize)),
                false => Err(format!(
                    "{number}; it must be a whole number from 1 to {MOST}"
                )),
            }
        })
    }
}

struct Format;

impl<'de> Deserialize<'de> for Format {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        number(deserializer, "the number of a format", |format| {
            match format == FORMAT as f64 {
                true => Ok(Self),
                false => Err(format!(
                    "a profile of format {format}; this version reads format {FORMAT}: measure again"
                )),
            }
        })
    }
}

/// Reads an object and checks it: an error is one of its place.
fn object<'de, T: Deserialize<'de>, R, D: Deserializer<'de>>(
    deserializer: D,
    expected: &'static str,
    check: impl FnOnce(T) -> Result<R, String>,
) -> Result<R, D::Error> {
    struct Object<T, C>(&'static str, C, PhantomData<T>);
    impl<'de, T, R, C> Visitor<'de> for Object<T, C>
    where
        T: Deserialize<'de>,
        C: FnOnce(T) -> Result<R, String>,
    {
        type Value = R;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<R, A::Error> {
            let read = T::deserialize(MapAccessDeserializer::new(map))?;
            (self.1)(read).map_err(A::Error::custom)
        }
    }
    deserializer.deserialize_map(Object(expected, check, PhantomData))
}

/// A list whose elements are each read with what came before them in mind.
trait Listed: Default {
    const EXPECTED: &'static str;
    fn next<'de, D: Deserializer<'de>>(&mut self, deserializer: D) -> Result<(), D::Error>;
    fn end(&self) -> Result<(), String>;
}

struct Element<'a, L>(&'a mut L);

impl<'de, L: Listed> DeserializeSeed<'de> for Element<'_, L> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        self.0.next(deserializer)
    }
}

struct List<L>(PhantomData<L>);

impl<'de, L: Listed> Visitor<'de> for List<L> {
    type Value = L;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(L::EXPECTED)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<L, A::Error> {
        let mut all = L::default();
        while list.next_element_seed(Element(&mut all))?.is_some() {}
        all.end().map_err(A::Error::custom)?;
        Ok(all)
    }
}

#[derive(Default)]
struct Layers {
    list: Vec<LayerProfile>,
    keys: BTreeSet<String>,
}

impl<'de> Deserialize<'de> for Layers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(List(PhantomData))
    }
}

impl Listed for Layers {
    const EXPECTED: &'static str = "a list of layers";

    fn next<'de, D: Deserializer<'de>>(&mut self, deserializer: D) -> Result<(), D::Error> {
        object(deserializer, "a layer", |layer: LayerText| {
            if self.list.len() == MOST_LAYERS {
                return Err(format!("more than {MOST_LAYERS} layers"));
            }
            if !self.keys.insert(layer.key.clone()) {
                return Err(format!("layer {:?} is there twice", layer.key));
            }
            self.list.push(layer.into());
            Ok(())
        })
    }

    fn end(&self) -> Result<(), String> {
        match self.list.is_empty() {
            true => Err("no layers; a network has at least one".into()),
            false => Ok(()),
        }
    }
}

#[derive(Default)]
struct Sizes(Vec<SizeProfile>);

impl<'de> Deserialize<'de> for Sizes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(List(PhantomData))
    }
}

impl Listed for Sizes {
    const EXPECTED: &'static str = "a list of sizes";

    fn next<'de, D: Deserializer<'de>>(&mut self, deserializer: D) -> Result<(), D::Error> {
        object(deserializer, "a size of micro-batch", |size: SizeText| {
            let (rows, layers) = (size.rows.0, size.layers.list);
            if self.0.iter().any(|known| known.rows == rows) {
                return Err(format!("micro-batches of {rows} rows are there twice"));
            }
            if self.0.len() == MOST_SIZES {
                return Err(format!("more than {MOST_SIZES} sizes"));
            }
            let keys = |layers: &[LayerProfile]| -> Vec<String> {
                layers.iter().map(|layer| layer.key.clone()).collect()
            };
            if let Some(first) = self.0.first()
                && keys(&first.layers) != keys(&layers)
            {
                let first = first.rows;
                return Err(format!(
                    "other layers than for micro-batches of {first} rows"
                ));
            }
            self.0.push(SizeProfile {
                rows,
                layers,
                message_bytes: size.message_bytes,
                exact: Vec::new(),
            });
            Ok(())
        })
    }

    fn end(&self) -> Result<(), String> {
        match self.0.is_empty() {
            true => Err("no sizes; a profile is of at least one".into()),
            false => Ok(()),
        }
    }
}

impl From<LayerText> for LayerProfile {
    fn from(text: LayerText) -> Self {
        Self {
            key: text.key,
            measured: text.measured,
            time: LayerTime {
                forward: text.forward_us.0,
                input: text.input_us.0,
                weight: text.weight_us.0,
            },
            update: text.update_us.0,
            parameter_bytes: text.parameter_bytes,
            stash_bytes: text.stash_bytes,
            kept_bytes: text.kept_bytes,
            output_bytes: text.output_bytes,
        }
    }
}
