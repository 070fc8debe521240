//! Nodes as a file describes them: what they hold, how fast they are, how they are linked.

use super::json::{
    Document, Element, Quantity, Seen, called, document, needed, once, one, read, unknown,
};
use super::layers_file::Bytes;
use super::units::{bandwidth, check_bandwidth, check_latency, duration};
use crate::error::PlanError;
use crate::files::{parse_json, read_json};
use crate::schedule::Link;
use serde::de::MapAccess;
use serde::{Deserialize, Deserializer, Serialize};
use std::path::Path;

/// A node that stages are planned for.
///
/// # Example
/// ```
/// use brigade::planner::NodeSpec;
/// let nodes = NodeSpec::read_file("docs/examples/nodes.json")?;
/// let link = nodes[0].link(&nodes[1]);
/// assert!(link.latency > 0.0 && link.per_byte > 0.0);
/// assert_eq!(NodeSpec::equal(4).len(), 4);
/// # Ok::<(), brigade::PlanError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NodeSpec {
    /// Its name: no other node has it.
    pub name: String,
    /// The most bytes that it may hold: as many as it needs unless given. `memory` in a file, where
    /// it may be text, such as `"80GB"`.
    #[serde(rename = "memory", skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// How fast it is, relative to what times were measured on: 1 unless given, 2 takes half the
    /// time.
    pub speed: f64,
    /// Bytes a second of its port: bytes cost nothing unless given. In a file it may be text, such
    /// as `"10 GB/s"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<f64>,
    /// Seconds from the end of a transfer to when the message can be taken: 0 unless given. In a
    /// file it may be text, such as `"5us"`.
    pub latency: f64,
}

/// The most nodes: beyond it a file is taken for a mistake.
const MOST_NODES: usize = 65_536;
/// Outside of these a speed is taken for a mistake.
const SPEEDS: [f64; 2] = [1e-6, 1e6];

const FIELDS: &[&str] = &["name", "memory", "speed", "bandwidth", "latency"];

impl NodeSpec {
    /// Nodes that are all alike, as many as that, with links that take nothing.
    pub fn equal(count: usize) -> Vec<Self> {
        let node = |number| Self::named(format!("node {number}"));
        (0..count).map(node).collect()
    }

    fn named(name: String) -> Self {
        Self {
            name,
            memory_bytes: None,
            speed: 1.0,
            bandwidth: None,
            latency: 0.0,
        }
    }

    /// Reads a file: a list of nodes, or an object with it as `nodes`.
    ///
    /// # Errors
    /// Says in which line what is wrong.
    pub fn read_file(path: impl AsRef<Path>) -> Result<Vec<Self>, PlanError> {
        let nodes: Nodes = read_json(path.as_ref())?;
        Ok(nodes.0)
    }

    /// As [`read_file`](Self::read_file), from the text of a file of this name.
    ///
    /// # Errors
    /// As [`read_file`](Self::read_file).
    pub fn parse_file(name: &str, text: &str) -> Result<Vec<Self>, PlanError> {
        let nodes: Nodes = parse_json(name, text.as_bytes())?;
        Ok(nodes.0)
    }

    /// The link between two nodes: as wide as the narrower port, as late as the later one.
    pub fn link(&self, other: &Self) -> Link {
        let ports = [self.bandwidth, other.bandwidth].into_iter().flatten();
        let narrower = ports.reduce(f64::min);
        Link {
            latency: self.latency.max(other.latency),
            per_byte: narrower.map_or(0.0, |bandwidth| 1.0 / bandwidth),
        }
    }
}

struct Nodes(Vec<NodeSpec>);

impl<'de> Deserialize<'de> for Nodes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let Document { list, .. } = document(from)?;
        Ok(Self(list))
    }
}

impl<'de> Deserialize<'de> for NodeSpec {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        one(from)
    }
}

impl Element for NodeSpec {
    const WORDS: [&'static str; 2] = ["node", "nodes"];
    const EXPECTED: &'static str = "a node: an object with a name";
    const LEAST: usize = 1;
    const MOST: usize = MOST_NODES;
    const AROUND: &'static [&'static str] = &["nodes"];

    fn fields<'de, A: MapAccess<'de>>(mut map: A, seen: &mut Seen) -> Result<Self, A::Error> {
        let (mut name, mut memory, mut speed) = (None, None, None);
        let (mut bandwidth, mut latency) = (None, None);
        while let Some(key) = map.next_key::<String>()? {
            let map = &mut map;
            match key.as_str() {
                "name" => once(map, &mut name, "name", &mut *seen)?,
                "memory" => once(map, &mut memory, "memory", read::<Bytes>())?,
                "speed" => once(map, &mut speed, "speed", read::<Speed>())?,
                "bandwidth" => once(map, &mut bandwidth, "bandwidth", read::<Bandwidth>())?,
                "latency" => once(map, &mut latency, "latency", read::<Latency>())?,
                _ => return Err(unknown(&key, FIELDS)),
            }
        }
        let of = called("node", name.as_deref());
        Ok(Self {
            name: needed(name, &of, "name")?,
            memory_bytes: memory,
            speed: speed.unwrap_or(1.0),
            bandwidth,
            latency: latency.unwrap_or(0.0),
        })
    }
}

struct Speed;

impl Quantity for Speed {
    type Value = f64;
    const EXPECTED: &'static str = "a speed: a number above 0";
    fn of_number(number: f64) -> Result<f64, String> {
        let [least, most] = SPEEDS;
        match (least..=most).contains(&number) {
            true => Ok(number),
            false => Err(format!(
                "a speed of {number}; it must be between {least} and {most}"
            )),
        }
    }
}

struct Bandwidth;

impl Quantity for Bandwidth {
    type Value = f64;
    const EXPECTED: &'static str = "a bandwidth: bytes a second, or text such as \"10 GB/s\"";
    fn of_number(number: f64) -> Result<f64, String> {
        check_bandwidth(number)
    }
    fn of_text(text: &str) -> Option<Result<f64, String>> {
        Some(bandwidth(text))
    }
}

struct Latency;

impl Quantity for Latency {
    type Value = f64;
    const EXPECTED: &'static str = "a latency: seconds, or text such as \"5us\"";
    fn of_number(number: f64) -> Result<f64, String> {
        check_latency(number)
    }
    fn of_text(text: &str) -> Option<Result<f64, String>> {
        Some(duration(text))
    }
}
