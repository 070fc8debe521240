//! What crosses between the stages of a network that is cut.

use crate::ids::{EdgeId, LayerIndex, StageId};
use crate::partition::Partition;
use crate::placement::Placement;
use crate::schedule::{Direction, Lane, Layout, Route, SharedSum};
use brigade_layer::Network;
use std::collections::BTreeMap;

/// Routes of all edges that cross a cut. An output goes to every stage that reads it once; every
/// edge brings its own gradient back.
pub(super) fn layout(network: &Network, partition: &Partition, placement: Placement) -> Layout {
    let mut forward = BTreeMap::<(LayerIndex, usize, StageId), EdgeId>::new();
    let mut routes = Vec::new();
    for edge in network.edges() {
        let (from, to) = (partition.stage_of(edge.from), partition.stage_of(edge.to));
        if from == to {
            continue;
        }
        forward
            .entry((edge.from, edge.output, to))
            .or_insert_with(|| {
                routes.push(Route {
                    lane: Lane {
                        edge: edge.id,
                        direction: Direction::Forward,
                    },
                    from,
                    to,
                });
                edge.id
            });
        if edge.gradient {
            let lane = Lane {
                edge: edge.id,
                direction: Direction::Backward,
            };
            routes.push(Route {
                lane,
                from: to,
                to: from,
            });
        }
    }
    routes.sort_by_key(|route| route.lane);
    let shared = (network.holders().into_iter())
        .filter(|(_, layers)| layers.len() > 1)
        .map(|(shared, layers)| {
            let holders = layers
                .into_iter()
                .map(|layer| (layer, partition.stage_of(layer)))
                .collect();
            SharedSum { shared, holders }
        })
        .collect();
    Layout {
        placement,
        routes,
        shared,
    }
}
