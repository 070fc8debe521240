//! What actions and messages take: the costs that a schedule is simulated with.

use super::Work;
use crate::ids::{NodeId, StageId};
use serde::{Deserialize, Serialize};

/// Times in any one unit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Times {
    /// Of F, for every stage.
    pub forward: Vec<f64>,
    /// Of I, for every stage.
    pub input: Vec<f64>,
    /// Of W, for every stage.
    pub weight: Vec<f64>,
    /// Of the optimizer's work, for every node; a node that is not there takes none.
    pub step: Vec<f64>,
    /// Of the links between nodes.
    pub links: Links,
}

/// What messages take. A link, from one node to another, carries one message at a time: it is
/// busy for the bytes of a message, and the message can be taken a latency later. Nobody waits for
/// a send.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Links {
    /// Of every link but those below.
    pub all: Link,
    /// Links that differ: sender, receiver, link.
    pub unequal: Vec<(NodeId, NodeId, Link)>,
    /// Bytes of a message, by the number of its edge; an edge that is not there has none.
    pub message_bytes: Vec<f64>,
}

/// A link from one node to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Link {
    /// From the end of a transfer to when the message can be taken.
    pub latency: f64,
    /// What a byte takes: 0 where bytes cost nothing.
    pub per_byte: f64,
}

impl Times {
    /// The same times for every stage, and links and optimizer that take none.
    pub fn equal(stages: usize, forward: f64, input: f64, weight: f64) -> Self {
        let all = |time| vec![time; stages];
        Self {
            forward: all(forward),
            input: all(input),
            weight: all(weight),
            ..Self::default()
        }
    }

    /// The same latency on every link.
    #[must_use]
    pub fn with_latency(mut self, latency: f64) -> Self {
        self.links.all.latency = latency;
        self
    }

    /// Of one action; a stage that is not there takes none.
    pub fn of(&self, stage: StageId, work: Work) -> f64 {
        let at = |list: &[f64]| list.get(stage.index()).copied().unwrap_or(0.0);
        match work {
            Work::F => at(&self.forward),
            Work::I => at(&self.input),
            Work::W => at(&self.weight),
            Work::B => at(&self.input) + at(&self.weight),
        }
    }
}

impl Links {
    /// The most that a message takes on a link that is free.
    pub fn slowest(&self) -> f64 {
        let bytes = self.message_bytes.iter().copied().fold(0.0, f64::max);
        let links = self.unequal.iter().map(|(.., link)| link);
        let takes = |link: &Link| link.latency + bytes * link.per_byte;
        links.map(takes).fold(takes(&self.all), f64::max)
    }

    /// The link between two nodes.
    pub fn between(&self, from: NodeId, to: NodeId) -> Link {
        let unequal = self.unequal.iter().find(|it| (it.0, it.1) == (from, to));
        unequal.map_or(self.all, |(.., link)| *link)
    }
}
