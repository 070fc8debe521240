//! Layers as a file describes them: for planning what cannot be built here.

use super::before::Before;
use super::described::{Described, count_flops};
use super::json::{
    Document, Element, Quantity, Seen, called, document, needed, once, one, read, unknown,
};
use super::units::{MOST_BYTES, bytes, whole_bytes};
use crate::config::Config;
use crate::error::PlanError;
use crate::files::{parse_json, read_json};
use crate::profile::{LayerProfile, Profile};
use brigade_layer::{From, LayerError, Network, TensorSpec};
use serde::de::{self, MapAccess};
use serde::{Deserialize, Deserializer, Serialize};
use std::path::Path;

/// A layer by what it takes for one micro-batch.
///
/// In a file the first seven fields must be there, and bytes may be text, such as `"2GiB"`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DescribedLayer {
    /// Its name: no other layer has it.
    pub name: String,
    /// Time of F. In [`LayersFile`] all times are in seconds.
    pub forward: f64,
    /// Time of I.
    pub backward_input: f64,
    /// Time of W.
    pub backward_weight: f64,
    /// Bytes of its parameters' values.
    pub parameter_bytes: u64,
    /// Bytes kept from F to I.
    pub stash_bytes: u64,
    /// Bytes of its output.
    pub output_bytes: u64,
    /// Bytes kept from I to W: unless given as many as from F to I.
    pub kept_bytes: u64,
    /// Time of the optimizer's update, once a step: 0 unless given.
    pub update: f64,
    /// The most that F or I takes at once beside all that: unless given as much as its output.
    pub working_bytes: u64,
    /// The layers before it whose outputs it reads, by name: unless given the one before it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<String>,
}

/// A network as a file describes it: layers that read the one before them, or those that they name.
/// The last one is the loss.
///
/// # Example
/// ```
/// use brigade::nn::Sgd;
/// use brigade::planner::LayersFile;
/// use brigade::{Config, Plan};
///
/// let file = LayersFile::read("docs/examples/layers.json")?;
/// let config = Config { nodes: 2, ..Config::default() };
/// let plan = Plan::new(&file.network()?, &config, &Sgd::new(0.1))?;
/// assert_eq!(plan.layers.len(), file.layers.len());
/// # Ok::<(), brigade::PlanError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LayersFile {
    /// The layers in order, with times in seconds.
    pub layers: Vec<DescribedLayer>,
}

/// The most layers: beyond it a file is taken for a mistake.
const MOST_LAYERS: usize = 1_000_000;
/// A loss, and a layer before it.
const LEAST_LAYERS: usize = 2;
/// In any unit. More is taken for a mistake; sums of it are finite.
const MOST_TIME: f64 = 1e15;
/// Of a whole network, each kind of bytes counted: sums over layers and states are still counts.
const MOST_TOTAL_BYTES: u64 = 1 << 60;

const FIELDS: &[&str] = &[
    "name",
    "forward",
    "backward_input",
    "backward_weight",
    "parameter_bytes",
    "stash_bytes",
    "output_bytes",
    "kept_bytes",
    "update",
    "working_bytes",
    "inputs",
];

impl LayersFile {
    /// Reads a file: a list of layers, with times in seconds, or an object with it as `layers` and
    /// with the `unit` of its times, one of s, ms, us and ns.
    ///
    /// # Errors
    /// Says in which line what is wrong.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, PlanError> {
        read_json(path.as_ref())
    }

    /// As [`read`](Self::read), from the text of a file of this name.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn parse(name: &str, text: &str) -> Result<Self, PlanError> {
        parse_json(name, text.as_bytes())
    }

    /// A network to plan with. It cannot be trained: its layers cannot be built.
    ///
    /// Every size is that of one micro-batch, however many rows that has. Operations are counted
    /// in proportion to the times.
    ///
    /// # Errors
    /// When a layer was put in here that a file could not have.
    pub fn network(&self) -> Result<Network, PlanError> {
        self.check()?;
        let flops = count_flops(&self.layers);
        let mut builder = Network::builder()
            .input(TensorSpec::i32([0]))
            .target(TensorSpec::i32([0]));
        for (at, layer) in self.layers.iter().enumerate() {
            let is_loss = at + 1 == self.layers.len();
            let spec = Described {
                layer: layer.clone(),
                flops: flops[at],
                is_loss,
            };
            let named = layer.inputs.iter().map(|name| From::Layer(name));
            let mut inputs: Vec<_> = named.collect();
            if inputs.is_empty() {
                inputs.push(if at == 0 {
                    From::Input(0)
                } else {
                    From::Previous
                });
            }
            builder = match is_loss {
                true => {
                    inputs.push(From::Target(0));
                    builder.loss_from(&layer.name, spec, &inputs)
                }
                false => builder.layer_from(&layer.name, spec, &inputs),
            };
        }
        Ok(builder.build()?)
    }

    /// What the layers take, for micro-batches of the configuration's size, whatever that is.
    ///
    /// # Errors
    /// As [`network`](Self::network).
    pub fn profile(&self, config: &Config) -> Result<Profile, PlanError> {
        let network = self.network()?;
        let layers = self.layers.iter().map(|layer| {
            let seconds = [
                layer.forward,
                layer.backward_input,
                layer.backward_weight,
                layer.update,
            ];
            let bytes = LayerProfile {
                key: layer.name.clone(),
                parameter_bytes: layer.parameter_bytes,
                stash_bytes: layer.stash_bytes,
                kept_bytes: layer.kept_bytes,
                output_bytes: layer.output_bytes,
                ..LayerProfile::default()
            };
            (bytes, seconds)
        });
        let rows = config.mini_batch().largest();
        Ok(Profile::of_layers(&network, (rows, layers), config)?)
    }

    /// What reading a file holds, for layers that come from elsewhere. That names differ is seen
    /// when the network is built.
    fn check(&self) -> Result<(), LayerError> {
        let count = self.layers.len();
        if !(LEAST_LAYERS..=MOST_LAYERS).contains(&count) {
            let problem = format!("{count} layers; give {LEAST_LAYERS} to {MOST_LAYERS}");
            return Err(LayerError::spec("layers", problem));
        }
        let mut total = 0;
        for layer in &self.layers {
            let problem = |problem| LayerError::spec(&layer.name, problem);
            for time in layer.times() {
                check_time(time).map_err(problem)?;
            }
            if let Some(bytes) = layer.bytes().iter().find(|bytes| **bytes > MOST_BYTES) {
                return Err(problem(format!("{bytes} bytes are more than {MOST_BYTES}")));
            }
            layer.add_to(&mut total).map_err(problem)?;
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for LayersFile {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let Document { unit, list } = document::<DescribedLayer, D>(from)?;
        let mut layers = list;
        for layer in &mut layers {
            let times = [
                &mut layer.forward,
                &mut layer.backward_input,
                &mut layer.backward_weight,
                &mut layer.update,
            ];
            times
                .into_iter()
                .for_each(|time| *time /= unit.unwrap_or(1.0));
        }
        Ok(Self { layers })
    }
}

impl<'de> Deserialize<'de> for DescribedLayer {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        one(from)
    }
}

impl DescribedLayer {
    fn times(&self) -> [f64; 4] {
        let Self {
            forward, update, ..
        } = *self;
        [forward, self.backward_input, self.backward_weight, update]
    }

    fn bytes(&self) -> [u64; 5] {
        let Self {
            parameter_bytes,
            stash_bytes,
            output_bytes,
            ..
        } = *self;
        [
            parameter_bytes,
            stash_bytes,
            output_bytes,
            self.kept_bytes,
            self.working_bytes,
        ]
    }

    /// Counts its bytes among those of the layers before it.
    fn add_to(&self, total: &mut u64) -> Result<(), String> {
        *total = self
            .bytes()
            .iter()
            .fold(*total, |sum, bytes| sum.saturating_add(*bytes));
        if *total > MOST_TOTAL_BYTES {
            return Err(format!(
                "all layers up to here have {total} bytes; the most is {MOST_TOTAL_BYTES}"
            ));
        }
        Ok(())
    }
}

impl Element for DescribedLayer {
    const WORDS: [&'static str; 2] = ["layer", "layers"];
    const EXPECTED: &'static str = "a layer: an object with a name, times and bytes";
    const LEAST: usize = LEAST_LAYERS;
    const MOST: usize = MOST_LAYERS;
    const AROUND: &'static [&'static str] = &["layers", "unit"];

    fn fields<'de, A: MapAccess<'de>>(mut map: A, seen: &mut Seen) -> Result<Self, A::Error> {
        let (mut name, mut times, mut bytes) = (None::<String>, [None; 4], [None; 5]);
        let mut inputs = None;
        while let Some(key) = map.next_key::<String>()? {
            let Some(&field) = FIELDS.iter().find(|known| **known == key) else {
                return Err(unknown(&key, FIELDS));
            };
            let map = &mut map;
            match field {
                "name" => once(map, &mut name, field, &mut *seen)?,
                "forward" => once(map, &mut times[0], field, read::<Time>())?,
                "backward_input" => once(map, &mut times[1], field, read::<Time>())?,
                "backward_weight" => once(map, &mut times[2], field, read::<Time>())?,
                "update" => once(map, &mut times[3], field, read::<Time>())?,
                "parameter_bytes" => once(map, &mut bytes[0], field, read::<Bytes>())?,
                "stash_bytes" => once(map, &mut bytes[1], field, read::<Bytes>())?,
                "output_bytes" => once(map, &mut bytes[2], field, read::<Bytes>())?,
                "kept_bytes" => once(map, &mut bytes[3], field, read::<Bytes>())?,
                "inputs" => {
                    let own = name.as_deref();
                    once(map, &mut inputs, field, Before { seen, own })?;
                }
                _ => once(map, &mut bytes[4], field, read::<Bytes>())?,
            }
        }
        let of = called("layer", name.as_deref());
        let [parameters, stash, output, kept, working] = bytes;
        let name = needed(name, &of, "name")?;
        let forward = needed(times[0], &of, "forward")?;
        let backward_input = needed(times[1], &of, "backward_input")?;
        let backward_weight = needed(times[2], &of, "backward_weight")?;
        let parameter_bytes = needed(parameters, &of, "parameter_bytes")?;
        let stash_bytes = needed(stash, &of, "stash_bytes")?;
        let output_bytes = needed(output, &of, "output_bytes")?;
        let layer = Self {
            name,
            forward,
            backward_input,
            backward_weight,
            parameter_bytes,
            stash_bytes,
            output_bytes,
            kept_bytes: kept.unwrap_or(stash_bytes),
            update: times[3].unwrap_or(0.0),
            working_bytes: working.unwrap_or(output_bytes),
            inputs: inputs.unwrap_or_default(),
        };
        layer.add_to(&mut seen.bytes).map_err(de::Error::custom)?;
        Ok(layer)
    }
}

/// Of one micro-batch, in the file's unit.
struct Time;

impl Quantity for Time {
    type Value = f64;
    const EXPECTED: &'static str = "a time: a number, 0 or more";
    fn of_number(number: f64) -> Result<f64, String> {
        check_time(number)
    }
}

fn check_time(time: f64) -> Result<f64, String> {
    if (0.0..=MOST_TIME).contains(&time) {
        return Ok(time);
    }
    Err(format!(
        "a time of {time}; it must be between 0 and {MOST_TIME:e}"
    ))
}

/// A count of bytes.
pub(super) struct Bytes;

impl Quantity for Bytes {
    type Value = u64;
    const EXPECTED: &'static str = "bytes: a whole number, or text such as \"2GiB\"";
    fn of_number(number: f64) -> Result<u64, String> {
        whole_bytes(number)
    }
    fn of_text(text: &str) -> Option<Result<u64, String>> {
        Some(bytes(text))
    }
}
