//! What comes to layers from those before them, and what goes from them to those behind. A value
//! goes straight from the node that makes it to every node that reads it: who is between pays
//! nothing.

use crate::profile::SizeProfile;
use brigade_layer::{EdgeId, LayerIndex, Network, Precision};
use std::collections::BTreeMap;
use std::ops::{AddAssign, Range};
use std::sync::{Arc, Mutex, PoisonError};

/// Values times the cuts that they cross: so many are counted.
const MOST_CROSSINGS: usize = 1 << 22;

/// Messages and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Traffic {
    pub(super) messages: f64,
    pub(super) bytes: f64,
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, other: Self) {
        self.messages += other.messages;
        self.bytes += other.bytes;
    }
}

/// The values over one cut, as far as one end decides: that end of each, and all up to it together.
#[derive(Clone, Debug, Default)]
struct Over(Vec<(usize, Traffic)>);

impl Over {
    /// In the order of the ends.
    fn new(mut values: Vec<(usize, Traffic)>) -> Self {
        values.sort_by_key(|(end, _)| *end);
        let mut all = Traffic::default();
        for (_, traffic) in &mut values {
            all += *traffic;
            *traffic = all;
        }
        Self(values)
    }

    /// All whose end is before this layer.
    fn before(&self, layer: usize) -> Traffic {
        let count = self.0.partition_point(|(end, _)| *end < layer);
        count
            .checked_sub(1)
            .map_or_else(Traffic::default, |last| self.0[last].1)
    }
}

/// What crosses each cut of a network.
#[derive(Clone, Debug)]
pub(super) struct Crossing {
    /// By the cut where a stage begins, for each value from before it: its first reader behind.
    comes: Vec<Over>,
    /// By the cut where a stage ends, for each value that is read behind it: how far the layer that
    /// makes it is before the cut.
    goes: Vec<Over>,
    /// What the layer before a cut makes and the one behind it reads: that surely goes from stage
    /// to stage, wherever the other cuts are.
    surely: Vec<Traffic>,
    /// By edge.
    edges: Vec<Traffic>,
}

impl Crossing {
    pub(super) fn new(network: &Network, size: &SizeProfile, wire: Precision) -> Self {
        let cuts = network.layers().len() + 1;
        let share = if wire == Precision::Bf16 { 0.5 } else { 1.0 };
        let mut readers = BTreeMap::<(LayerIndex, usize), (Vec<usize>, f64)>::new();
        for (edge, bytes) in network.edges().iter().zip(&size.message_bytes) {
            let bytes = share * *bytes as f64;
            let value = readers.entry((edge.from, edge.output));
            let (readers, _) = value.or_insert_with(|| (Vec::new(), bytes));
            readers.push(edge.to.index());
        }
        let edge = |bytes: &u64| Traffic {
            messages: 1.0,
            bytes: share * *bytes as f64,
        };
        let edges = size.message_bytes.iter().map(edge).collect();
        let (mut comes, mut goes) = (vec![Vec::new(); cuts], vec![Vec::new(); cuts]);
        let mut room = MOST_CROSSINGS;
        let mut surely = vec![Traffic::default(); cuts];
        for ((from, _), (readers, bytes)) in readers {
            let (made, messages) = (from.index(), 1.0);
            let traffic = Traffic { messages, bytes };
            let mut before = made;
            for reader in readers {
                // Beyond that it is left to the simulation.
                let crosses = reader - before;
                if crosses > room {
                    break;
                }
                room -= crosses;
                for cut in &mut comes[before + 1..=reader] {
                    cut.push((reader, traffic));
                }
                for (cut, goes) in (before + 1..).zip(&mut goes[before + 1..=reader]) {
                    goes.push((cut - 1 - made, traffic));
                }
                if reader == made + 1 {
                    surely[reader] += traffic;
                }
                before = reader;
            }
        }
        let over = |cuts: Vec<Vec<_>>| cuts.into_iter().map(Over::new).collect();
        Self {
            comes: over(comes),
            goes: over(goes),
            surely,
            edges,
        }
    }

    /// One message over an edge.
    pub(super) fn of(&self, edge: EdgeId) -> Traffic {
        self.edges.get(edge.index()).copied().unwrap_or_default()
    }

    /// What comes to a stage of these layers: each value once, however many of them read it.
    pub(super) fn comes(&self, layers: &Range<usize>) -> Traffic {
        self.comes[layers.start].before(layers.end)
    }

    /// What goes from it: each value once, though it goes to every stage that reads it.
    pub(super) fn goes(&self, layers: &Range<usize>) -> Traffic {
        self.goes[layers.end].before(layers.len())
    }

    /// What surely goes over a cut from the stage before it to the one behind it.
    pub(super) fn surely(&self, cut: usize) -> Traffic {
        self.surely[cut]
    }
}

/// What crosses the cuts of one network: it is kept for the size of micro-batch asked for last,
/// because it takes as long to work out as there are crossings, and the planner asks often.
#[derive(Clone, Debug, Default)]
pub(super) struct Crossings(Arc<Mutex<Last>>);

/// Rows of a micro-batch, and what crosses then.
type Last = Option<(usize, Arc<Crossing>)>;

impl Crossings {
    /// For micro-batches of this size.
    pub(super) fn at(
        &self,
        network: &Network,
        size: &SizeProfile,
        wire: Precision,
    ) -> Arc<Crossing> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, crossing)) = last.as_ref().filter(|(rows, _)| *rows == size.rows) {
            return crossing.clone();
        }
        let crossing = Arc::new(Crossing::new(network, size, wire));
        *last = Some((size.rows, crossing.clone()));
        crossing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::planner::LayersFile;
    use crate::profile::Profile;

    /// Every range of layers of a small graph, counted by hand: edge by edge.
    #[test]
    fn what_comes_and_goes_is_what_the_edges_say() {
        let file = LayersFile::parse(
            "layers",
            r#"[
            {"name": "a", "forward": 1, "backward_input": 1, "backward_weight": 1,
             "parameter_bytes": 4, "stash_bytes": 4, "output_bytes": 40},
            {"name": "b", "forward": 1, "backward_input": 1, "backward_weight": 1,
             "parameter_bytes": 4, "stash_bytes": 4, "output_bytes": 80},
            {"name": "c", "forward": 1, "backward_input": 1, "backward_weight": 1,
             "parameter_bytes": 4, "stash_bytes": 4, "output_bytes": 160, "inputs": ["b", "a"]},
            {"name": "d", "forward": 1, "backward_input": 1, "backward_weight": 1,
             "parameter_bytes": 4, "stash_bytes": 4, "output_bytes": 320, "inputs": ["c", "a"]},
            {"name": "e", "forward": 1, "backward_input": 1, "backward_weight": 1,
             "parameter_bytes": 4, "stash_bytes": 4, "output_bytes": 640, "inputs": ["d", "b"]},
            {"name": "loss", "forward": 1, "backward_input": 1, "backward_weight": 1,
             "parameter_bytes": 0, "stash_bytes": 4, "output_bytes": 4}]"#,
        )
        .unwrap();
        let (network, config) = (file.network().unwrap(), Config::default());
        let profile: Profile = file.profile(&config).unwrap();
        let rows = config.mini_batch().largest();
        let size = profile.at(&network, rows).unwrap();
        let crossing = Crossing::new(&network, &size, Precision::F32);
        let layers = network.layers().len();
        let mut some = 0;
        for start in 0..layers {
            for end in start + 1..=layers {
                let inside = |layer: LayerIndex| (start..end).contains(&layer.index());
                let mut values = [BTreeMap::new(), BTreeMap::new()];
                for (edge, bytes) in network.edges().iter().zip(&size.message_bytes) {
                    let (from, to) = (inside(edge.from), inside(edge.to));
                    if from != to {
                        values[usize::from(from)].insert((edge.from, edge.output), *bytes);
                    }
                }
                let [comes, goes] = values.map(|values| Traffic {
                    messages: values.len() as f64,
                    bytes: values.values().sum::<u64>() as f64,
                });
                assert_eq!(crossing.comes(&(start..end)), comes, "{start}..{end}");
                assert_eq!(crossing.goes(&(start..end)), goes, "{start}..{end}");
                some += usize::from(comes.messages > 1.0);
            }
        }
        assert!(some > 3, "{some}");
        let surely: Vec<f64> = (0..layers).map(|cut| crossing.surely(cut).bytes).collect();
        assert_eq!(surely, [0.0, 40.0, 80.0, 160.0, 320.0, 640.0]);
    }
}
