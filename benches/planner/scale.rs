//! How long planning takes.

use super::common::planning::described;
use super::{Case, optimizer};
use brigade::layer::{Network, Random};
use brigade::nn::Gpt;
use brigade::planner::{Planned, Planner, Space};
use brigade::profile::{Effort, Profile};
use brigade::{Config, PlanError, ScheduleKind};
use std::time::Instant;

/// What is planned for.
struct Subject {
    network: Network,
    profile: Profile,
    config: Config,
}

pub(super) fn scale() {
    growth();
    large_gpt();
    let subject = Subject::drawn(1000, 128, 256);
    println!("1,000 layers on 128 nodes, 256 micro-batches");
    subject.show("all schedules", subject.any());
    for schedule in ScheduleKind::ALL {
        subject.show(schedule.name(), subject.only(schedule));
    }
    println!("\n10,000 layers on 1,024 nodes, 1,024 micro-batches");
    let subject = Subject::drawn(10_000, 1024, 1024);
    for schedule in [ScheduleKind::OneFOneB, ScheduleKind::ZbH1] {
        subject.show(schedule.name(), subject.only(schedule));
    }
}

/// Twice the layers, nodes and micro-batches: four times the actions.
fn growth() {
    println!("all schedules, a node for 8 layers, 2 micro-batches a node");
    let mut before = None;
    for layers in [125, 250, 500, 1000] {
        let nodes = layers / 8;
        let subject = Subject::drawn(layers, nodes, 2 * nodes);
        let took = subject.show(&format!("{layers} layers"), subject.any());
        if let Some(before) = before.replace(took) {
            println!("{:18} {:8.1} times as long", "", took / before);
        }
    }
    println!();
}

/// As large as GPT-3: most of its layers are not measured, but estimated from their operations.
fn large_gpt() {
    let gpt = Gpt {
        vocab: 51_200,
        context: 2048,
        width: 12_288,
        heads: 96,
        blocks: 96,
        ..Gpt::default()
    };
    let mut case = Case::gpt(&gpt, 16, 1);
    case.config.batch_size = 32;
    println!("{}, on 16 nodes", case.name);
    let begun = Instant::now();
    let profile = case.profile(&case.micro_batch(), Effort::Quick);
    println!("{:18} {:8.2} s", "profile", begun.elapsed().as_secs_f64());
    let subject = Subject {
        network: case.network,
        profile,
        config: case.config,
    };
    subject.show("all schedules", subject.any());
    println!();
}

impl Subject {
    /// Layers of random times.
    fn drawn(layers: usize, nodes: usize, micro_batches: usize) -> Self {
        let random = Random::named(1, "times of layers");
        let seconds =
            |layer: usize, work: u32| 1e-6 * (1 + random.below(layer as u64, work, 1000)) as f64;
        let file = described(layers, |layer| [0, 1, 2].map(|work| seconds(layer, work)));
        let config = Config {
            nodes,
            batch_size: micro_batches,
            micro_batch_size: 1,
            ..Config::default()
        };
        Self {
            network: file.network().unwrap(),
            profile: file.profile(&config).unwrap(),
            config,
        }
    }

    fn any(&self) -> Space {
        Space::only(&self.config).any_schedule(&self.config)
    }

    /// One schedule, on as many stages as of all of them.
    fn only(&self, schedule: ScheduleKind) -> Space {
        Space {
            schedules: vec![schedule],
            ..self.any()
        }
    }

    fn planned(&self, space: Space) -> Result<Planned, PlanError> {
        let (optimizer, Self { config, .. }) = (optimizer(), self);
        let planner = Planner::new(&self.network, config, &optimizer, &self.profile)?;
        planner.space(space).plan()
    }

    /// Prints how long planning takes, in seconds, and what is found.
    fn show(&self, what: &str, space: Space) -> f64 {
        let begun = Instant::now();
        let planned = self.planned(space);
        let took = begun.elapsed().as_secs_f64();
        let found = match planned {
            Ok(planned) => {
                let best = &planned.candidates[0];
                format!(
                    "{}: {:.2} ms a step, bubble {:.1}%, {} predicted, {} pruned",
                    best.words(),
                    1e3 * best.step_time,
                    100.0 * best.bubble,
                    planned.candidates.len(),
                    planned.pruned
                )
            }
            Err(error) => error.to_string(),
        };
        println!("{what:18} {took:8.2} s  {found}");
        took
    }
}
