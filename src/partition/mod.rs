//! Which layers make a stage: contiguous cuts of the network, and which are best.

use crate::error::PlanError;
use crate::ids::{LayerIndex, NodeCount, StageCount, StageId};
use crate::placement::Placement;
use serde::{Deserialize, Serialize};
use std::ops::Range;

mod chain;
mod optimum;

pub use chain::{ChainCosts, ChainMemory, CutCost};
pub use optimum::{NoPartition, Optimum, StageCosts, optimum};

/// How to cut the network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Cuts {
    /// So that the most expensive stage is as cheap as can be: the [`optimum`].
    #[default]
    Balanced,
    /// The same number of layers everywhere, one more in the first stages where it does not divide.
    Uniform,
    /// Before these layers.
    Before(Vec<usize>),
}

/// The layers of every stage. Every layer is in exactly one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Partition {
    /// Where each stage ends: the first layer of the next.
    ends: Vec<LayerIndex>,
}

impl Partition {
    /// Cuts layers of these costs (in any one unit) into stages.
    ///
    /// # Errors
    /// When there are fewer layers than stages, or explicit cuts do not fit.
    ///
    /// # Example
    /// ```
    /// use brigade::{partition::{Cuts, Partition}, ids::StageCount};
    /// let partition = Partition::new(&[1, 1, 1, 5, 1, 1], StageCount::new(3), &Cuts::Balanced)?;
    /// assert_eq!(partition.cuts(), [3, 4]);
    /// # Ok::<(), brigade::PlanError>(())
    /// ```
    pub fn new(costs: &[u64], stages: StageCount, cuts: &Cuts) -> Result<Self, PlanError> {
        let layers = costs.len();
        if stages.index() == 0 || stages.index() > layers {
            return Err(PlanError::TooManyStages { stages, layers });
        }
        let ends = match cuts {
            Cuts::Balanced => {
                let times: Vec<f64> = costs.iter().map(|cost| *cost as f64).collect();
                let placement = Placement::straight(NodeCount::new(stages.get()));
                let best = optimum(&ChainCosts::new(&times, &placement));
                let none = |_| PlanError::TooManyStages { stages, layers };
                return best.map(|best| best.partition).map_err(none);
            }
            Cuts::Uniform => {
                let (each, more) = (layers / stages.index(), layers % stages.index());
                (1..=stages.index())
                    .map(|stage| stage * each + stage.min(more))
                    .collect()
            }
            Cuts::Before(cuts) => explicit(cuts, layers, stages)?,
        };
        Ok(Self {
            ends: ends
                .into_iter()
                .map(|end| LayerIndex::new(end as u32))
                .collect(),
        })
    }

    /// How many stages.
    pub fn stages(&self) -> StageCount {
        StageCount::new(self.ends.len() as u32)
    }

    /// The layers of a stage.
    pub fn layers_of(&self, stage: StageId) -> Range<usize> {
        let start = stage
            .index()
            .checked_sub(1)
            .map_or(0, |before| self.ends[before].index());
        start..self.ends[stage.index()].index()
    }

    /// The stage of a layer.
    pub fn stage_of(&self, layer: LayerIndex) -> StageId {
        StageId::new(self.ends.partition_point(|end| *end <= layer) as u32)
    }

    /// The first layers of all stages but the first, as [`Cuts::Before`] takes them.
    pub fn cuts(&self) -> Vec<usize> {
        self.ends[..self.ends.len() - 1]
            .iter()
            .map(|end| end.index())
            .collect()
    }
}

fn explicit(cuts: &[usize], layers: usize, stages: StageCount) -> Result<Vec<usize>, PlanError> {
    let rising = cuts.windows(2).all(|pair| pair[0] < pair[1]);
    let inside = cuts.iter().all(|cut| (1..layers).contains(cut));
    if cuts.len() + 1 != stages.index() || !rising || !inside {
        return Err(PlanError::BadCuts {
            cuts: cuts.to_vec(),
            layers,
            stages,
        });
    }
    Ok(cuts.iter().copied().chain([layers]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use brigade_layer::Random;

    #[test]
    fn every_layer_is_in_exactly_one_stage() {
        for layers in 1..12 {
            for stages in 1..=layers {
                let count = StageCount::new(stages as u32);
                for cuts in [Cuts::Balanced, Cuts::Uniform] {
                    let partition = Partition::new(&vec![1; layers], count, &cuts).unwrap();
                    let all: Vec<_> = count.iter().flat_map(|s| partition.layers_of(s)).collect();
                    assert_eq!(all, (0..layers).collect::<Vec<_>>());
                    for stage in count.iter() {
                        assert!(!partition.layers_of(stage).is_empty());
                        for layer in partition.layers_of(stage) {
                            assert_eq!(partition.stage_of(LayerIndex::new(layer as u32)), stage);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn uniform_gives_the_first_stages_one_more() {
        let partition = Partition::new(&[1; 10], StageCount::new(4), &Cuts::Uniform).unwrap();
        assert_eq!(partition.cuts(), [3, 6, 8]);
    }

    #[test]
    fn explicit_cuts_are_checked() {
        let cut = |cuts: &[usize]| {
            Partition::new(&[1; 5], StageCount::new(3), &Cuts::Before(cuts.to_vec()))
        };
        assert_eq!(cut(&[1, 4]).unwrap().layers_of(StageId::new(1)), 1..4);
        for wrong in [&[1][..], &[1, 2, 3], &[0, 2], &[2, 2], &[3, 1], &[1, 5]] {
            assert!(
                matches!(cut(wrong), Err(PlanError::BadCuts { .. })),
                "{wrong:?}"
            );
        }
        let more_stages = Partition::new(&[1; 2], StageCount::new(3), &Cuts::Balanced);
        assert!(matches!(more_stages, Err(PlanError::TooManyStages { .. })));
    }

    /// All ways to cut, one after the other.
    fn exhaustive(costs: &[u64], stages: usize, start: usize) -> u64 {
        let cost = |end: usize| costs[start..end].iter().sum::<u64>();
        if stages == 1 {
            return cost(costs.len());
        }
        (start + 1..=costs.len() - (stages - 1))
            .map(|end| cost(end).max(exhaustive(costs, stages - 1, end)))
            .min()
            .unwrap()
    }

    #[test]
    fn the_balanced_split_is_as_good_as_exhaustive_search() {
        let random = Random::named(1, "partition");
        for case in 0..400 {
            let layers = 1 + random.below(case, 0, 10) as usize;
            let stages = 1 + random.below(case, 1, layers as u64) as usize;
            let costs: Vec<u64> = (0..layers)
                .map(|layer| random.below(case, 2 + layer as u32, 20))
                .collect();
            let count = StageCount::new(stages as u32);
            let partition = Partition::new(&costs, count, &Cuts::Balanced).unwrap();
            let cost = |stage| costs[partition.layers_of(stage)].iter().sum::<u64>();
            let bottleneck = count.iter().map(cost).max();
            let best = exhaustive(&costs, stages, 0);
            assert_eq!(bottleneck, Some(best), "{costs:?} {stages}");
        }
    }
}
