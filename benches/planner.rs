//! What the planner promises beside what comes of it.
//!
//! 1. `accuracy`: every schedule, with and without recomputation, on two nodes: a step predicted
//!    from layers that were measured one by one just before, and measured. Expected: median error
//!    at most 5%, worst 10%, for each network and overall. Also predicted memory beside what nodes
//!    held. Needs two cores that nobody else uses.
//! 2. `chosen`: in six settings the candidate that the planner chooses and the next five, run in
//!    turn. Expected: the chosen one takes at most 3% longer than whichever turns out best.
//! 3. `lopsided`: a GPT of small blocks between a large table and a large head, cut by layers, by
//!    parameters and by the planner.
//! 4. `scale`: how long planning takes, of layers and nodes by the thousand. Trains nothing.
//!
//! `cargo bench --bench planner`, or with the names of some parts, `-- accuracy`, only those; of
//! the first two with a part of a network's name, `-- accuracy "width 512"`, only such networks. It
//! fails where an expectation does.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "planner/accuracy.rs"]
mod accuracy;
#[path = "planner/chosen.rs"]
mod chosen;
#[path = "../tests/common/mod.rs"]
mod common;
#[path = "planner/lopsided.rs"]
mod lopsided;
#[path = "planner/scale.rs"]
mod scale;

use brigade::layer::{Batch, Data, Network, Tensor, TensorSpec};
use brigade::nn::{AdamW, Gpt, MeanSquaredError, Mlp, TokenWindows};
use brigade::planner::{Planned, Planner, Space};
use brigade::profile::{Effort, Profile};
use brigade::schedule::Measured;
use brigade::{Config, Plan, PlanError, Recompute, Trainer};
use std::process::ExitCode;
use std::sync::Arc;

/// Width, heads, context and micro-batch of GPTs of four blocks.
const GPTS: [[usize; 4]; 3] = [[256, 4, 128, 4], [384, 6, 256, 2], [512, 8, 256, 2]];
const MICRO_BATCHES: usize = 8;
const WARM_UPS: usize = 2;

const PARTS: [&str; 4] = ["accuracy", "chosen", "lopsided", "scale"];

fn names() -> Vec<String> {
    let names = std::env::args().skip(1);
    names.filter(|name| !name.starts_with('-')).collect()
}

fn main() -> ExitCode {
    let names = names();
    let parts: Vec<_> = names
        .iter()
        .filter(|name| PARTS.contains(&name.as_str()))
        .collect();
    let wanted = |name: &str| parts.is_empty() || parts.iter().any(|given| *given == name);
    let mut fine = true;
    if wanted("accuracy") {
        fine &= accuracy::accuracy();
    }
    if wanted("chosen") {
        fine &= chosen::chosen();
    }
    if wanted("lopsided") {
        lopsided::lopsided();
    }
    if wanted("scale") {
        scale::scale();
    }
    match fine {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// A network, and how it is trained unless something else is chosen.
struct Case {
    name: String,
    network: Network,
    data: Arc<dyn Data>,
    config: Config,
}

fn optimizer() -> AdamW {
    AdamW::new(1e-3)
}

fn config(nodes: usize, micro_batch_size: usize) -> Config {
    Config {
        nodes,
        batch_size: MICRO_BATCHES * micro_batch_size,
        micro_batch_size,
        ..Config::default()
    }
}

impl Case {
    /// Whether it is asked for: by a part of its name, or all are.
    fn is_wanted(&self) -> bool {
        let names = names();
        let mut asked = names
            .iter()
            .filter(|name| !PARTS.contains(&name.as_str()))
            .peekable();
        asked.peek().is_none() || asked.any(|part| self.name.contains(part.as_str()))
    }

    fn gpt(gpt: &Gpt, nodes: usize, micro_batch_size: usize) -> Self {
        let config = config(nodes, micro_batch_size);
        let tokens: Vec<i32> = (0..8192).map(|n| n * 31 % gpt.vocab as i32).collect();
        let data = TokenWindows::random(tokens, gpt.context, config.batch_size, 1).unwrap();
        Self {
            name: format!(
                "GPT of {} blocks of width {} on {} of {} tokens",
                gpt.blocks, gpt.width, gpt.context, gpt.vocab
            ),
            network: gpt.network().unwrap(),
            data: Arc::new(data),
            config,
        }
    }

    fn of_shape([width, heads, context, micro_batch_size]: [usize; 4]) -> Self {
        let gpt = Gpt {
            width,
            heads,
            context,
            blocks: 4,
            ..Gpt::default()
        };
        Self::gpt(&gpt, 2, micro_batch_size)
    }

    fn lopsided(nodes: usize) -> Self {
        let gpt = Gpt {
            vocab: 8192,
            width: 128,
            blocks: 8,
            tied: false,
            ..Gpt::default()
        };
        Self::gpt(&gpt, nodes, 4)
    }

    fn mlp() -> Self {
        let mlp = Mlp::new([512; 8]);
        let config = config(2, 256);
        let shape = [config.batch_size, 512];
        let values = (0..shape[0] * shape[1]).map(|at| (at % 101) as f32 / 101.0 - 0.5);
        let points = Tensor::from_vec(shape, values.collect()).unwrap();
        let network = mlp.network(MeanSquaredError, TensorSpec::f32([512]));
        Self {
            name: "MLP of 6 hidden layers of width 512".into(),
            network: network.unwrap(),
            data: Arc::new(Batch::new(points.clone(), points).unwrap()),
            config,
        }
    }

    fn profile(&self, rows: &[usize], effort: Effort) -> Profile {
        let (network, data) = (&self.network, &*self.data);
        Profile::measure_sizes(network, data, &self.config, &optimizer(), rows, effort).unwrap()
    }

    fn micro_batch(&self) -> [usize; 1] {
        [self.config.micro_batch_size]
    }

    fn planned(&self, profile: &Profile, space: &Space) -> Result<Planned, PlanError> {
        let optimizer = optimizer();
        let planner = Planner::new(&self.network, &self.config, &optimizer, profile)?;
        planner.space(space.clone()).plan()
    }

    /// As the planner makes it: the schedule is told what was measured.
    fn plan(&self, config: &Config, profile: &Profile) -> Result<Plan, PlanError> {
        let keeping = Config {
            recompute: Recompute::Never,
            ..config.clone()
        };
        let schedule = config.schedule;
        let keeping = Plan::proposed(&self.network, &keeping, &optimizer(), &schedule)?;
        let told = Measured {
            schedule,
            times: profile.times(&keeping),
        };
        Plan::with_schedule(&self.network, config, &optimizer(), &told)
    }

    fn start(&self, config: &Config, plan: Plan) -> Trainer {
        Trainer::start_with_plan(&self.network, config, optimizer(), plan).unwrap()
    }

    /// Medians of so many steps, by trainer and round: in turn, so that a machine that becomes
    /// slower meanwhile does so for all.
    fn in_turn(&self, trainers: &mut [Trainer], rounds: usize, steps: usize) -> Vec<Vec<f64>> {
        let step = |trainer: &mut Trainer| {
            let report = trainer.step(&self.data).unwrap();
            report.duration.as_secs_f64()
        };
        for trainer in trainers.iter_mut() {
            for _ in 0..WARM_UPS {
                step(trainer);
            }
        }
        let mut all = vec![Vec::new(); trainers.len()];
        for _ in 0..rounds {
            for (own, trainer) in all.iter_mut().zip(trainers.iter_mut()) {
                own.push(median((0..steps).map(|_| step(trainer)).collect()));
            }
        }
        all
    }
}

fn median(mut list: Vec<f64>) -> f64 {
    list.sort_by(f64::total_cmp);
    list[list.len() / 2]
}

fn largest(list: impl IntoIterator<Item = f64>) -> f64 {
    list.into_iter().fold(0.0, f64::max)
}

fn mib(bytes: impl IntoIterator<Item = u64>) -> f64 {
    bytes.into_iter().max().unwrap_or(0) as f64 / f64::from(1 << 20)
}

fn in_words(fine: bool) -> &'static str {
    match fine {
        true => "as expected",
        false => "worse than expected",
    }
}
