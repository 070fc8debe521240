//! What is planned: a decoder of the options or the layers of a file, on nodes of the options or of
//! a file, with what it takes.

use super::failure::Failure;
use super::options::{OrderArg, PlanOptions, RunOptions, ScheduleArg, counted};
use super::text::Corpus;
use crate::config::Config;
use crate::partition::Cuts;
use crate::planner::{LayersFile, NodeSpec, Planner, Space, layout_string};
use crate::process::Processes;
use crate::profile::{Effort, Profile};
use brigade_layer::{Data, Network, Optimizer};
use std::sync::Arc;
use std::time::Instant;

/// Layers of our decoders before its blocks, of a block, and after its blocks.
const DECODER_LAYERS: [usize; 3] = [1, 2, 3];

/// What is planned.
pub(super) struct Subject {
    pub(super) network: Network,
    pub(super) config: Config,
    pub(super) optimizer: Arc<dyn Optimizer>,
    pub(super) known: Known,
    pub(super) nodes: Option<Vec<NodeSpec>>,
    /// What it is, in words.
    pub(super) what: String,
    /// Tokens of a step, where it is a decoder.
    pub(super) tokens: Option<usize>,
}

/// What the layers take, and how that is known.
pub(super) struct Known {
    pub(super) profile: Profile,
    /// Seconds that measuring took, where it was done now.
    pub(super) seconds: Option<f64>,
    /// The file that says it.
    pub(super) file: Option<String>,
}

impl Subject {
    pub(super) fn of(options: &PlanOptions) -> Result<Self, Failure> {
        let run = &options.run;
        let optimizer = run.optimizer()?;
        let mut config = run.checked_config()?;
        let nodes = options
            .nodes_file
            .as_ref()
            .map(NodeSpec::read_file)
            .transpose()?;
        if let Some(nodes) = &nodes {
            config.nodes = nodes.len();
        }
        if let (OrderArg::Given(ScheduleArg::File(_)), Some(_)) = (&run.pipeline.schedule, &nodes) {
            let problem = "a schedule of a file is planned for equal nodes: leave --nodes-file out";
            return Err(Failure::Usage(problem.into()));
        }
        if let Some(path) = &options.layers_file {
            if run.training.micro_batch_size.0.is_none() {
                let problem =
                    "--layers-file says what one micro-batch takes: give --micro-batch-size";
                return Err(Failure::Usage(problem.into()));
            }
            if let Some((option, _)) = run.tuning.in_words().first() {
                let problem = format!(
                    "--{option} is for networks of options; --layers-file says itself what \
                     goes backward"
                );
                return Err(Failure::Usage(problem));
            }
            let file = LayersFile::read(path)?;
            let network = file.network()?;
            if let Some(layout) = &options.layout {
                let layers = network.layers().len();
                config.cuts = Cuts::Before(layout_string::cuts(layout, 0, layers, 1, 0)?);
            }
            let known = Known {
                profile: file.profile(&config)?,
                seconds: None,
                file: Some(path.display().to_string()),
            };
            let what = format!("{} layers of {}", network.layers().len(), path.display());
            return Ok(Self {
                network,
                config,
                optimizer,
                known,
                nodes,
                what,
                tokens: None,
            });
        }
        if let Some(layout) = &options.layout {
            let [before, each, after] = DECODER_LAYERS;
            let blocks = run.network.layers;
            config.cuts = Cuts::Before(layout_string::cuts(layout, before, blocks, each, after)?);
        }
        let corpus = Corpus::of(run)?;
        let decoder = run.network.decoder(corpus.vocab)?;
        let network = run.tuned(&decoder)?;
        // What is wrong with the setting is said before anything is measured.
        config.validate()?;
        let windows = corpus.windows(run)?;
        let sizes = &space(run, &config).micro_batch_sizes;
        let measured = match &options.profile {
            Some(path) => Known {
                profile: Profile::load(path)?,
                seconds: None,
                file: Some(path.display().to_string()),
            },
            None => Known::measured(&network, &windows, &config, &*optimizer, sizes)?,
        };
        Ok(Self {
            what: format!(
                "A {} of {} on {}",
                decoder.family(),
                counted(&network),
                corpus.source
            ),
            tokens: Some(run.tokens_per_step()),
            network,
            config,
            optimizer,
            known: measured,
            nodes,
        })
    }

    /// A planner with the options' choices.
    pub(super) fn planner(&self, options: &PlanOptions) -> Result<Planner<'_>, Failure> {
        let Self {
            network,
            config,
            known,
            ..
        } = self;
        let planner = Planner::new(network, config, &*self.optimizer, &known.profile)?;
        let planner = match &self.nodes {
            Some(nodes) => planner.nodes(nodes.clone()),
            None => planner,
        };
        let planner = planner.cut_cost(options.cut_cost.into());
        Ok(planner.space(space(&options.run, config)))
    }
}

/// What the options leave open.
pub(super) fn space(run: &RunOptions, config: &Config) -> Space {
    let mut space = Space::only(config);
    if let OrderArg::Auto = run.pipeline.schedule {
        space = space.any_schedule(config);
    }
    if run.training.micro_batch_size.0.is_none() {
        space = space.any_micro_batch(config);
    }
    if run.pipeline.recompute.is_auto() {
        space = space.any_recompute();
    }
    space
}

impl Known {
    /// Measured now: of several processes by the first one, for all.
    pub(super) fn measured(
        network: &Network,
        data: &dyn Data,
        config: &Config,
        optimizer: &dyn Optimizer,
        sizes: &[usize],
    ) -> Result<Self, Failure> {
        let begun = Instant::now();
        let effort = Effort::Quick;
        let own = Profile::measure_sizes(network, data, config, optimizer, sizes, effort)?;
        let processes = Processes::meet(config.deadline())?;
        let all = processes
            .share("measured times", own.to_json(), config.deadline())
            .map_err(|cause| Failure::Other(cause.to_string()))?;
        let first = all.into_iter().next().unwrap_or_default();
        Ok(Self {
            profile: Profile::from_json(&first)?,
            seconds: Some(begun.elapsed().as_secs_f64()),
            file: None,
        })
    }

    pub(super) fn in_words(&self) -> String {
        let Profile {
            machine,
            measured_at,
            version,
            ..
        } = &self.profile;
        match (self.seconds, &self.file) {
            (Some(seconds), _) => format!("Measured now in {seconds:.2} s on {machine}"),
            (None, Some(file)) if measured_at.is_empty() => format!("Times of {file}"),
            (None, file) => format!(
                "Times of {}, measured {measured_at} on {machine} by brigade {version}",
                file.as_deref().unwrap_or_default()
            ),
        }
    }

    pub(super) fn as_json(&self) -> serde_json::Value {
        serde_json::json!({
            "file": self.file,
            "seconds": self.seconds,
            "measured_at": self.profile.measured_at,
            "machine": self.profile.machine,
            "version": self.profile.version,
        })
    }
}
