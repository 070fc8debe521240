//! A plan that was made elsewhere, proven again.

use super::uncarried::explained;
use super::{Plan, network_fingerprint, recompute};
use crate::config::Config;
use crate::error::PlanError;
use crate::schedule::{Action, check, stash_peaks};
use brigade_layer::Network;

impl Plan {
    /// This plan, if it is of this network and configuration and its lists are sound.
    pub(crate) fn proven(mut self, network: &Network, config: &Config) -> Result<Self, PlanError> {
        let (batch, layout) = (config.mini_batch(), &self.layout);
        let shapes = network.infer(batch.largest())?;
        let other = |setting, value: String, allowed: String| PlanError::Setting {
            setting,
            value,
            allowed,
        };
        if self.network != network_fingerprint(network, &shapes) {
            let value = format!("a plan of network {}", self.network);
            return Err(other("plan", value, "a plan of this network".into()));
        }
        if self.wire != config.wire {
            let value = format!("a plan whose tensors travel as {:?}", self.wire);
            let allowed = format!("a plan whose tensors travel as {:?}", config.wire);
            return Err(other("plan", value, allowed));
        }
        if self.precision != config.precision {
            let value = format!("a plan for products in {:?}", self.precision);
            let allowed = format!("a plan for products in {:?}", config.precision);
            return Err(other("plan", value, allowed));
        }
        if self.training.batch != batch || layout.nodes() != config.node_count() {
            let (rows, nodes) = (self.training.batch.rows(), layout.nodes());
            let value = format!("a plan for {rows} rows on {nodes} nodes");
            let allowed = format!("a plan for {} rows on {} nodes", batch.rows(), config.nodes);
            return Err(other("plan", value, allowed));
        }
        self.fits(config)?;
        let lowered = &self.training.lowered;
        let (partition, wanted) = (&self.partition, &config.recompute);
        let wanted = recompute::segments(wanted, network, partition, Some(lowered))?;
        if self.recomputed != wanted {
            let value = format!("a plan that recomputes layers {:?}", self.recomputed);
            let allowed = format!("a plan that recomputes layers {wanted:?}");
            return Err(other("plan", value, allowed));
        }
        // The check lets a sender without slots wait for its receiver; the engine never waits.
        let slots = |lane| lowered.slots.of(lane);
        let full = |action: &&Action| matches!(action, Action::Send(t) if slots(t.lane) == 0);
        if let Some(send) = lowered.nodes.iter().flatten().find(full) {
            let value = format!("a plan without slots for {send}");
            return Err(other(
                "plan",
                value,
                "one with a slot for every lane".into(),
            ));
        }
        check(lowered, layout, batch.micro_batches(), None, &|lane| {
            lowered.slots.of(lane)
        })
        .map_err(|error| explained(error, network, partition))?;
        self.training.stash_limits = stash_peaks(lowered, layout);
        Ok(self)
    }
}
