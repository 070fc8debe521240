//! How values flow through one stage: worked out once, so that running decides nothing.

use super::recompute::Again;
use crate::ids::{LayerIndex, StageId};
use crate::partition::Partition;
use crate::plan::Segment;
use crate::schedule::{Direction, Lane, Layout};
use brigade_layer::{Feed, Network, Source};

/// A value's place while a stage computes one micro-batch: an output of one of its layers, or one
/// that arrived.
pub(super) type Place = usize;

/// Where an input of a layer comes from, within the stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    Feed(Feed),
    /// The last reader takes the value, so that it can be changed in place; others get a second
    /// handle.
    Value {
        place: Place,
        last: bool,
    },
}

/// Where the gradient of an input goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GradientTo {
    Nowhere,
    /// Added to that of a value of this stage.
    Value(Place),
    /// To the stage that made the value.
    Lane(Lane),
}

/// One layer's wiring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LayerProgram {
    pub(super) layer: LayerIndex,
    pub(super) inputs: Vec<Input>,
    pub(super) outputs: Vec<Place>,
    pub(super) gradients: Vec<GradientTo>,
    /// Whether it takes part in the backward pass.
    pub(super) trains: bool,
    /// Whether it has no W.
    pub(super) frozen: bool,
    /// Whether it has parameters that change where a step ends.
    pub(super) changes: bool,
    pub(super) is_loss: bool,
    /// The segment that it is in, if it is computed again.
    pub(super) segment: Option<usize>,
}

/// One stage's wiring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Program {
    pub(super) layers: Vec<LayerProgram>,
    pub(super) places: usize,
    /// Values that arrive before F.
    pub(super) arrivals: Vec<(Lane, Place)>,
    /// Values that leave after F. The last one takes the value.
    pub(super) departures: Vec<(Lane, Place, bool)>,
    /// Gradients that arrive before I, from the last consumer to the first: the order in which
    /// they are added.
    pub(super) gradient_arrivals: Vec<(Lane, Place)>,
    /// What is computed again before its backward pass.
    pub(super) segments: Vec<Again>,
}

impl Program {
    pub(super) fn new(
        network: &Network,
        partition: &Partition,
        layout: &Layout,
        (stage, segments): (StageId, &[Segment]),
    ) -> Self {
        let mut values: Vec<(LayerIndex, usize)> = Vec::new();
        let place_of = |values: &mut Vec<_>, key| {
            values
                .iter()
                .position(|value| *value == key)
                .unwrap_or_else(|| {
                    values.push(key);
                    values.len() - 1
                })
        };
        let edge_value = |lane: Lane| {
            let edge = network.edges()[lane.edge.index()];
            (edge.from, edge.output)
        };
        let arrivals: Vec<_> = layout
            .into(stage, Direction::Forward)
            .map(|route| (route.lane, place_of(&mut values, edge_value(route.lane))))
            .collect();
        let mut layers = Vec::new();
        for index in partition.layers_of(stage) {
            let layer = LayerIndex::new(index as u32);
            let node = &network.layers()[index];
            let inputs = (node.inputs.iter())
                .map(|source| match *source {
                    Source::Feed(feed) => Input::Feed(feed),
                    Source::Output { layer, output } => Input::Value {
                        place: place_of(&mut values, (layer, output)),
                        last: false,
                    },
                })
                .collect();
            let gradients = (0..node.inputs.len())
                .map(|input| {
                    let edge = network
                        .edges_into(layer)
                        .find(|edge| edge.input == input && edge.gradient);
                    edge.map_or(GradientTo::Nowhere, |edge| {
                        match partition.stage_of(edge.from) == stage {
                            true => {
                                GradientTo::Value(place_of(&mut values, (edge.from, edge.output)))
                            }
                            false => GradientTo::Lane(Lane {
                                edge: edge.id,
                                direction: Direction::Backward,
                            }),
                        }
                    })
                })
                .collect();
            let outputs = (0..network.outputs(layer))
                .map(|output| place_of(&mut values, (layer, output)))
                .collect();
            let (trains, is_loss) = (network.needs_gradient(layer), layer == network.loss());
            layers.push(LayerProgram {
                layer,
                inputs,
                outputs,
                gradients,
                trains,
                frozen: network.is_frozen(layer),
                changes: network.trains(layer),
                is_loss,
                segment: segments.iter().position(|s| s.layers.contains(&index)),
            });
        }
        let departures = layout
            .out_of(stage, Direction::Forward)
            .map(|route| {
                (
                    route.lane,
                    place_of(&mut values, edge_value(route.lane)),
                    false,
                )
            })
            .collect();
        let mut gradient_arrivals: Vec<_> = layout
            .into(stage, Direction::Backward)
            .map(|route| (route.lane, place_of(&mut values, edge_value(route.lane))))
            .collect();
        gradient_arrivals.sort_by_key(|(lane, _)| std::cmp::Reverse(lane.edge));
        let first = partition.layers_of(stage).start;
        let again = |segment: &Segment| {
            let kept = segment.kept.iter();
            Again::new(
                segment.layers.start - first..segment.layers.end - first,
                segment.again.iter().map(|layer| layer.index() - first),
                kept.map(|value| place_of(&mut values, *value)).collect(),
                &layers,
            )
        };
        let segments = segments.iter().map(again).collect();
        let mut program = Self {
            segments,
            layers,
            places: values.len(),
            arrivals,
            departures,
            gradient_arrivals,
        };
        program.mark_last_readers();
        program
    }

    /// The segment that a layer is in, by its place in the stage, if it is computed again.
    pub(super) fn segment_of(&self, at: usize) -> Option<(usize, &Again)> {
        let number = self.layers[at].segment?;
        Some((number, &self.segments[number]))
    }

    fn mark_last_readers(&mut self) {
        let mut read_later = vec![false; self.places];
        for (_, place, last) in self.departures.iter_mut().rev() {
            *last = !std::mem::replace(&mut read_later[*place], true);
        }
        for layer in self.layers.iter_mut().rev() {
            for input in layer.inputs.iter_mut().rev() {
                if let Input::Value { place, last } = input {
                    *last = !std::mem::replace(&mut read_later[*place], true);
                }
            }
        }
    }
}
