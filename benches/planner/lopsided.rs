//! Cuts of a network whose ends are dear.

use super::{Case, largest, median, mib};
use brigade::ids::StageCount;
use brigade::partition::Partition;
use brigade::plan::NodeMemory;
use brigade::planner::Space;
use brigade::profile::{Effort, Profile};
use brigade::{Config, Cuts, Plan};

pub(super) fn lopsided() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for nodes in [2, 4] {
        let case = Case::lopsided(nodes);
        println!("{}, {nodes} nodes", case.name);
        println!("cuts                     predicted   measured  busiest   peak, MiB  measured");
        let profile = case.profile(&case.micro_batch(), Effort::Thorough);
        let layers = profile.sizes[0].layers.iter();
        let bytes: Vec<_> = layers.map(|layer| layer.parameter_bytes).collect();
        let stages = StageCount::new(nodes as u32);
        let parameters = Partition::new(&bytes, stages, &Cuts::Balanced).unwrap();
        let cut = |cuts| Config {
            cuts,
            ..case.config.clone()
        };
        let only = Space::only(&case.config);
        let planner = |space| case.planned(&profile, &space).unwrap().config;
        let ways = [
            ("layers", cut(Cuts::Uniform)),
            ("parameters", cut(Cuts::Before(parameters.cuts()))),
            ("planner", planner(only.clone())),
            (
                "planner, any schedule",
                planner(only.any_schedule(&case.config)),
            ),
        ];
        let plans = ways.map(|(way, config)| {
            let plan = case.plan(&config, &profile).unwrap();
            (way, config, plan)
        });
        let runs = plans.iter().filter(|_| nodes <= cores);
        let mut trainers: Vec<_> = runs
            .map(|(_, config, plan)| case.start(config, plan.clone()))
            .collect();
        let rounds = case.in_turn(&mut trainers, 5, 3);
        for (at, (way, _, plan)) in plans.iter().enumerate() {
            let step = |seconds: f64| format!("{:.2} ms", 1e3 * seconds);
            let dash = || "-".to_owned();
            let measured = rounds
                .get(at)
                .map_or_else(dash, |own| step(median(own.clone())));
            let held = trainers.get_mut(at).map_or_else(dash, |trainer| {
                let reports = trainer.report().unwrap();
                format!(
                    "{:.1}",
                    mib(reports.iter().map(|own| own.memory.peak_bytes))
                )
            });
            println!(
                "{way:22} {:>11} {measured:>10}  {:6.1}%  {:10.1} {held:>9}  before {:?}",
                step(profile.simulate(plan).unwrap().makespan),
                100.0 * busiest(plan, &profile),
                mib(plan.memory.iter().map(NodeMemory::peak_bytes)),
                plan.partition.cuts()
            );
        }
        println!();
    }
}

/// The busiest node's share of what a micro-batch takes.
fn busiest(plan: &Plan, profile: &Profile) -> f64 {
    let times = profile.times(plan);
    let busy = |node| {
        let stages = plan
            .layout
            .placement
            .stages_on(node)
            .map(|stage| stage.index());
        let takes = |at: usize| times.forward[at] + times.input[at] + times.weight[at];
        stages.map(takes).sum::<f64>()
    };
    let all: Vec<_> = plan.layout.nodes().iter().map(busy).collect();
    largest(all.iter().copied()) / all.iter().sum::<f64>()
}
