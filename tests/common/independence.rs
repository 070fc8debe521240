//! The same numbers, whatever the pipeline.

use super::{is_legal, train, with};
use brigade::layer::{Data, Network};
use brigade::{Config, Cuts, Recompute, ScheduleKind, Transport};

/// From every schedule, on so many nodes of so many threads; at least on two such pairs.
pub fn of_nodes_and_threads<D: Data + Clone>(
    network: &Network,
    (data, steps): (&D, usize),
    pairs: &[(usize, usize)],
) {
    let one = with(1, ScheduleKind::GPipe, Cuts::Balanced, 1);
    let one = train(network, &one, steps, data);
    for schedule in ScheduleKind::ALL {
        let mut tried = 0;
        for (nodes, threads) in pairs {
            let config = with(*nodes, schedule, Cuts::Balanced, *threads);
            if is_legal(network, &config) {
                let found = train(network, &config, steps, data);
                assert_eq!(found, one, "{schedule} on {nodes} nodes, {threads} threads");
                tried += 1;
            }
        }
        assert!(tried >= 2, "{schedule}: {tried}");
    }
}

/// From two nodes that are cut anywhere, over either transport, recomputed or not.
pub fn of_cuts_transport_and_recomputation<D: Data + Clone>(
    network: &Network,
    (data, steps): (&D, usize),
) {
    let one = with(1, ScheduleKind::GPipe, Cuts::Balanced, 1);
    let one = train(network, &one, steps, data);
    for cut in 1..network.layers().len() {
        for (transport, recompute) in [
            (Transport::Local, Recompute::Always),
            (Transport::Encoded, Recompute::Never),
        ] {
            let config = Config {
                transport,
                recompute: recompute.clone(),
                ..with(2, ScheduleKind::OneFOneB, Cuts::Before(vec![cut]), 1)
            };
            let found = train(network, &config, steps, data);
            assert_eq!(found, one, "cut before {cut}, {transport:?}, {recompute:?}");
        }
    }
}
