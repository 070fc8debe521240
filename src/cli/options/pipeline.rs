//! How the network is cut, and in which order the nodes work.

use super::values::{CutsArg, PrecisionArg, RecomputeArg, order};
use super::{OrderArg, whole};
use crate::planner::units::bytes;
use clap::Args;

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Pipeline")]
pub(in crate::cli) struct PipelineOptions {
    /// Pipeline nodes.
    #[arg(
        long, default_value = "4", value_name = "P",
        allow_negative_numbers = true, value_parser = whole::<usize>
    )]
    pub(in crate::cli) nodes: usize,
    /// Stages per node; as many as the schedule needs unless given.
    #[arg(
        long, value_name = "V",
        allow_negative_numbers = true, value_parser = whole::<usize>
    )]
    pub(in crate::cli) chunks: Option<usize>,
    /// Where to cut: balanced, uniform, or the first layers of all stages but the first, as 3,6,9.
    #[arg(long, default_value = "balanced", value_name = "CUTS")]
    pub(super) cuts: CutsArg,
    /// In which order the nodes work: by name, a CSV file as PyTorch writes it, or auto for the
    /// fastest that fits.
    #[arg(
        long, default_value = "1f1b", value_name = "NAME|FILE.csv",
        value_parser = order()
    )]
    pub(in crate::cli) schedule: OrderArg,
    /// Threads of every node.
    #[arg(
        long, default_value = "1", value_name = "N",
        allow_negative_numbers = true, value_parser = whole::<usize>
    )]
    pub(in crate::cli) threads_per_node: usize,
    /// In which numbers tensors travel; bf16 is half as much, and rounds at every boundary of two
    /// layers.
    #[arg(long, value_enum, default_value_t = PrecisionArg::F32, value_name = "NAME")]
    pub(in crate::cli) wire: PrecisionArg,
    /// Which layers are computed again in the backward pass, for less memory: never, except-last
    /// (stages, but for those where it saves nothing), always (all stages), layers, as 0-7,8-15,
    /// or auto for what is fastest and fits.
    #[arg(long, default_value = "never", value_name = "NAME|LAYERS")]
    pub(in crate::cli) recompute: RecomputeArg,
    /// Bytes that a node may hold, as 512MiB or 2GiB; a plan that needs more is refused.
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub(in crate::cli) node_memory: Option<u64>,
    /// Seconds without progress of any node after which waiting is an error; an action may take
    /// 20 times what is predicted for it.
    #[arg(
        long, default_value = "60", value_name = "SECONDS", allow_negative_numbers = true,
        value_parser = super::number::<f64>
    )]
    pub(in crate::cli) deadline: f64,
}

#[cfg(test)]
mod tests {
    use crate::planner::units::bytes as memory;

    #[test]
    fn memory_has_units() {
        for (text, bytes) in [
            ("0", 0),
            ("1000", 1000),
            ("64KiB", 65_536),
            ("1.5MiB", 3 << 19),
            ("2 GiB", 2 << 30),
            ("1MB", 1_000_000),
        ] {
            assert_eq!(memory(text), Ok(bytes), "{text}");
        }
        for wrong in ["", "MiB", "-1", "1e3", "1.2.3", "much"] {
            assert!(memory(wrong).is_err(), "{wrong}");
        }
    }
}
