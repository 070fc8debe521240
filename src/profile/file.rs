//! Profiles as files: JSON, a layer a line, times in microseconds.

use super::{LayerProfile, Machine, Profile, SizeProfile, read};
use crate::error::{Error, PlanError};
use crate::files::{read_error, read_text, write_whole};
use crate::schedule::Link;
use serde::{Deserialize, Serialize, Serializer};
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

/// Of what is written here.
pub(super) const FORMAT: u64 = 1;
/// No file is longer.
const MOST_BYTES: u64 = 256 << 20;
/// Longer times cannot be written.
pub(super) const MOST_US: f64 = 1e15;
const MIB: f64 = (1 << 20) as f64;

/// A time in microseconds, to the nanosecond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Micros(pub(super) Duration);

impl Serialize for Micros {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64((self.0.as_nanos() as f64 / 1e3).min(MOST_US))
    }
}

/// One layer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a layer")]
pub(super) struct LayerText {
    pub(super) key: String,
    pub(super) measured: bool,
    pub(super) forward_us: Micros,
    pub(super) input_us: Micros,
    pub(super) weight_us: Micros,
    pub(super) update_us: Micros,
    pub(super) parameter_bytes: u64,
    pub(super) stash_bytes: u64,
    pub(super) kept_bytes: u64,
    pub(super) output_bytes: u64,
}

impl From<&LayerProfile> for LayerText {
    fn from(layer: &LayerProfile) -> Self {
        Self {
            key: layer.key.clone(),
            measured: layer.measured,
            forward_us: Micros(layer.time.forward),
            input_us: Micros(layer.time.input),
            weight_us: Micros(layer.time.weight),
            update_us: Micros(layer.update),
            parameter_bytes: layer.parameter_bytes,
            stash_bytes: layer.stash_bytes,
            kept_bytes: layer.kept_bytes,
            output_bytes: layer.output_bytes,
        }
    }
}

/// One link.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a link")]
pub(super) struct LinkText {
    pub(super) latency_us: Micros,
    pub(super) per_mib_us: Micros,
}

impl From<Link> for LinkText {
    fn from(link: Link) -> Self {
        let micros = |seconds| Micros(Duration::try_from_secs_f64(seconds).unwrap_or_default());
        Self {
            latency_us: micros(link.latency),
            per_mib_us: micros(MIB * link.per_byte),
        }
    }
}

impl From<LinkText> for Link {
    fn from(text: LinkText) -> Self {
        Self {
            latency: text.latency_us.0.as_secs_f64(),
            per_byte: text.per_mib_us.0.as_secs_f64() / MIB,
        }
    }
}

/// A link as a file can hold it.
pub(super) fn rounded(link: Link) -> Link {
    LinkText::from(link).into()
}

/// A link that differs from the others.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a link between two nodes")]
pub(super) struct UnequalText {
    pub(super) from: u32,
    pub(super) to: u32,
    pub(super) latency_us: Micros,
    pub(super) per_mib_us: Micros,
}

impl Profile {
    /// Writes it as readable JSON, whole or not at all.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        write_whole(path.as_ref(), self.to_json().as_bytes())
    }

    /// Reads what [`save`](Self::save) wrote, and checks all of it.
    ///
    /// # Errors
    /// When the file cannot be read, or is no profile: names the line.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        let text = read_text(path, MOST_BYTES).map_err(|error| read_error(path, error))?;
        Ok(read::profile(&path.display().to_string(), &text)?)
    }

    /// What [`to_json`](Self::to_json) wrote.
    ///
    /// # Errors
    /// When it is no profile.
    pub fn from_json(text: &str) -> Result<Self, PlanError> {
        read::profile("profile", text)
    }

    /// As readable JSON.
    pub fn to_json(&self) -> String {
        let unequal = self.links.unequal.iter().map(|(from, to, link)| {
            let LinkText {
                latency_us,
                per_mib_us,
            } = (*link).into();
            UnequalText {
                from: from.get(),
                to: to.get(),
                latency_us,
                per_mib_us,
            }
        });
        let mut text = String::from("{\n");
        let mut field = |name: &str, value: String| {
            let _ = writeln!(text, "  \"{name}\": {value},");
        };
        field("brigade_profile", json(&FORMAT));
        field("version", json(&self.version));
        field("network", json(&self.network));
        field("measured_at", json(&self.measured_at));
        field("machine", json(&self.machine));
        field("precision", json(&self.precision));
        field("threads_per_node", json(&self.threads_per_node));
        field("links", json(&LinkText::from(self.links.all)));
        field("unequal_links", json(&unequal.collect::<Vec<_>>()));
        let sizes: Vec<_> = self.sizes.iter().map(size_json).collect();
        text += &format!("  \"sizes\": [\n{}\n  ]\n}}\n", sizes.join(",\n"));
        text
    }
}

fn size_json(size: &SizeProfile) -> String {
    let layers = size.layers.iter();
    let lines: Vec<_> = layers
        .map(|layer| format!("        {}", json(&LayerText::from(layer))))
        .collect();
    format!(
        "    {{\n      \"rows\": {},\n      \"message_bytes\": {},\n      \"layers\": [\n{}\n      ]\n    }}",
        size.rows,
        json(&size.message_bytes),
        lines.join(",\n")
    )
}

/// In one line.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("numbers, words and lists of them are JSON")
}

/// What a file says of the machine.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a machine")]
pub(super) struct MachineText {
    host: Option<String>,
    cpu: String,
    cores: usize,
}

impl From<MachineText> for Machine {
    fn from(text: MachineText) -> Self {
        Self {
            host: text.host,
            cpu: text.cpu,
            cores: text.cores,
        }
    }
}
