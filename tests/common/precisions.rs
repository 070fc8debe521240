//! The same numbers from pipelines of several kinds, in one precision.

use super::{Outcome, train, with};
use brigade::layer::{Data, Network, Precision};
use brigade::{Config, Cuts, ScheduleKind, Transport};

/// What comes out of any of them, with products and messages in these precisions.
pub fn from_any_pipeline<D: Data + Clone>(
    network: &Network,
    (precision, wire): (Precision, Precision),
    data: &D,
) -> Outcome {
    let of = |nodes, schedule, threads, transport| {
        let config = Config {
            precision,
            wire,
            transport,
            ..with(nodes, schedule, Cuts::Balanced, threads)
        };
        train(network, &config, 3, data)
    };
    let one = of(1, ScheduleKind::GPipe, 1, Transport::Local);
    for (nodes, schedule, threads, transport) in [
        (1, ScheduleKind::OneFOneB, 2, Transport::Local),
        (2, ScheduleKind::ZbV, 1, Transport::Local),
        (2, ScheduleKind::OneFOneB, 3, Transport::Encoded),
        (5, ScheduleKind::ZbH1, 1, Transport::Encoded),
    ] {
        let found = of(nodes, schedule, threads, transport);
        let how = format!("{precision:?} {wire:?} {nodes} {schedule} {threads}");
        assert_eq!(found, one, "{how}");
    }
    one
}
