//! What the options ask for, step by step: a schedule in a size, its definition, what runs. A file
//! is read once, so that it may be a pipe.

use super::options::ScheduleOptions;
use crate::cli::failure::Failure;
use crate::cli::options::ScheduleArg;
use crate::ids::{MicroBatchCount, NodeCount};
use crate::schedule::csv::{CsvSchedule, Format};
use crate::schedule::{
    CheckError, Costs, Definition, Layout, Lowered, Schedule, ScheduleKind, StashLimit, Task,
    Times, as_defined, check, lower, node_stash_peaks,
};
use crate::{Config, PlanError};

/// More compute actions than this are a mistake: they take gigabytes.
const MOST_ACTIONS: usize = 1 << 24;
/// Of nodes, and of stages on a node.
const MOST_CHUNKS: usize = 1024;

/// A schedule that is asked for, and in which size.
pub(super) struct Asked {
    schedule: Box<dyn Schedule>,
    chunks: Option<usize>,
    pub(super) nodes: NodeCount,
    pub(super) micro_batches: MicroBatchCount,
    /// What its file was, if it is from one.
    pub(super) format: Option<Format>,
}

impl Asked {
    /// Another schedule in the same size, with the stages a node that it needs.
    pub(super) fn with(&self, kind: ScheduleKind) -> Self {
        Self {
            schedule: Box::new(kind),
            chunks: self.chunks.filter(|_| kind.takes_any_chunks()),
            format: None,
            ..*self
        }
    }
}

/// A schedule in one setting, as it defines it.
pub(super) struct Defined {
    pub(super) name: String,
    pub(super) layout: Layout,
    pub(super) micro_batches: MicroBatchCount,
    pub(super) times: Times,
    pub(super) definition: Definition,
}

/// A schedule in one setting, proven.
pub(super) struct Setting {
    pub(super) defined: Defined,
    /// What runs; or, where it was asked for, the definition with its messages.
    pub(super) lowered: Lowered,
    /// What every node keeps at most.
    pub(super) kept: Vec<f64>,
}

impl ScheduleOptions {
    /// The schedule and its size: what is asked for, or what a file has.
    pub(super) fn asked(&self) -> Result<Asked, Failure> {
        let (mut format, mut own) = (None, (4, 8));
        let schedule: Box<dyn Schedule> = match &self.schedule {
            ScheduleArg::Kind(kind) => Box::new(*kind),
            ScheduleArg::File(path) => {
                let file = CsvSchedule::read(path, self.dialect())?;
                format = Some(file.format());
                own = (
                    file.placement().nodes().index(),
                    file.micro_batches().index(),
                );
                Box::new(file)
            }
        };
        let (nodes, micro_batches) = own;
        let nodes = self.nodes.unwrap_or(nodes);
        let micro_batches = self.micro_batches.unwrap_or(micro_batches);
        self.sane(nodes, micro_batches)?;
        Ok(Asked {
            schedule,
            chunks: self.chunks,
            nodes: NodeCount::new(nodes as u32),
            micro_batches: MicroBatchCount::new(micro_batches as u32),
            format,
        })
    }

    fn sane(&self, nodes: usize, micro_batches: usize) -> Result<(), Failure> {
        let config = Config {
            nodes,
            ..Config::default()
        };
        config.validate()?;
        let wrong = |what: &str, value: usize, allowed: String| {
            Failure::Usage(format!("--{what} is {value}; it must be {allowed}"))
        };
        if micro_batches == 0 {
            return Err(wrong("micro-batches", 0, "at least 1".into()));
        }
        let chunks = self.chunks.unwrap_or(1);
        if !(1..=MOST_CHUNKS).contains(&chunks) {
            let allowed = format!("between 1 and {MOST_CHUNKS}");
            return Err(wrong("chunks", chunks, allowed));
        }
        if nodes * chunks * 2 > MOST_ACTIONS / micro_batches {
            let most = (MOST_ACTIONS / (nodes * chunks * 2)).max(1);
            let allowed = format!("at most {most} for {nodes} nodes");
            return Err(wrong("micro-batches", micro_batches, allowed));
        }
        Ok(())
    }

    /// Placed and ordered.
    pub(super) fn defined(&self, asked: &Asked) -> Result<Defined, Failure> {
        let limit = self.limit()?.map(|limit| limit.most);
        let placement = asked.schedule.place(asked.nodes, asked.chunks)?;
        let layout = Layout::chain(placement);
        let times = self.times(&layout)?;
        let kept = layout.placement.stages().iter().map(|stage| {
            let node = layout.placement.node_of(stage);
            let share = 1.0 / layout.placement.stages_on(node).len() as f64;
            [share, share * (1.0 - self.freed_at_input)]
        });
        let costs = Costs {
            times: times.clone(),
            kept: kept.collect(),
            limits: limit.map_or(Vec::new(), |most| vec![most; asked.nodes.index()]),
        };
        let task = Task::new(layout.placement.clone(), asked.micro_batches).with_costs(costs);
        let definition = asked.schedule.define(&task)?;
        Ok(Defined {
            name: asked.schedule.name().to_owned(),
            layout,
            micro_batches: asked.micro_batches,
            times,
            definition,
        })
    }

    /// As it runs, proven; or as defined, where that is asked for. Within the limit.
    pub(super) fn setting(&self) -> Result<Setting, Failure> {
        let setting = self.unlimited(self.defined(&self.asked()?)?)?;
        match self.limit()? {
            Some(limit) if limit.exceeded_by(setting.most_kept()) => Err(setting.too_much(limit)),
            _ => Ok(setting),
        }
    }

    /// The same whatever it keeps.
    pub(super) fn unlimited(&self, defined: Defined) -> Result<Setting, Failure> {
        let lowered = match self.as_defined {
            true => as_defined(&defined.definition, &defined.layout, defined.micro_batches),
            false => defined.proven(None),
        };
        let lowered = lowered.map_err(PlanError::from)?;
        Ok(Setting::new(defined, lowered, self.freed_at_input))
    }
}

impl Defined {
    /// As it runs.
    pub(super) fn lowered(&self) -> Result<Lowered, Box<CheckError>> {
        lower(&self.definition, &self.layout, self.micro_batches)
    }

    /// The same, proven.
    pub(super) fn proven(&self, limit: Option<StashLimit>) -> Result<Lowered, Box<CheckError>> {
        let lowered = self.lowered()?;
        check(&lowered, &self.layout, self.micro_batches, limit, &|lane| {
            lowered.slots.of(lane)
        })?;
        Ok(lowered)
    }
}

impl Setting {
    pub(super) fn new(defined: Defined, lowered: Lowered, freed_at_input: f64) -> Self {
        let kept = node_stash_peaks(&lowered, &defined.layout, freed_at_input);
        Self {
            defined,
            lowered,
            kept,
        }
    }

    /// What the node keeps that keeps most.
    pub(super) fn most_kept(&self) -> f64 {
        self.kept.iter().copied().fold(0.0, f64::max)
    }

    fn too_much(&self, limit: StashLimit) -> Failure {
        let most = self.most_kept();
        let node = self.kept.iter().position(|kept| *kept == most);
        Failure::Other(format!(
            "{}, node {}: it keeps {} micro-batches of its whole share and may keep {}; {}",
            self.defined.name,
            node.unwrap_or_default(),
            rounded_up(most),
            limit.most,
            advice(most)
        ))
    }
}

/// What to change where nodes keep so much.
pub(super) fn advice(most: f64) -> String {
    format!(
        "raise --memory-limit to {}, or use another schedule",
        rounded_up(most)
    )
}

/// Four digits that are enough as a limit.
fn rounded_up(kept: f64) -> f64 {
    ((kept - 1e-9) * 1e4).ceil() / 1e4
}
