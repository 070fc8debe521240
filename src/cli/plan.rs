//! `brigade plan`: what a training would be like.

use super::failure::Failure;
use super::options::PlanOptions;
use super::ordering;
use super::output::{Output, mib, picture, picture_width};
use super::summary::{host, recomputed};
use super::text::Corpus;
use crate::ids::NodeId;
use crate::process::Processes;
use crate::profile::{Effort, Profile};
use crate::schedule::Timeline;
use crate::{Config, Plan};
use brigade_layer::{Data, Network, Optimizer};
use serde_json::json;
use std::io::Write;
use std::time::Instant;

pub(super) fn plan(options: &PlanOptions, to: &mut dyn Write) -> Result<(), Failure> {
    let (options, file) = (&options.run, options);
    let config = options.checked_config()?;
    let optimizer = options.training.optimizer()?;
    let corpus = Corpus::of(options)?;
    let gpt = options.network.gpt(corpus.vocab);
    let network = gpt.network()?;
    // What is wrong with the setting is said before anything is measured.
    config.validate()?;
    let windows = corpus.windows(options)?;
    let known = Known::of(file, &network, &windows, &config, &*optimizer)?;
    let profile = &known.profile;
    let schedule = ordering::schedule(options, &network, &windows, &*optimizer, Some(profile))?;
    let mut plan = Plan::with_schedule(&network, &config, &*optimizer, schedule.as_ref())?;
    plan.hosts = Processes::meet(config.deadline())?.hosts_of(plan.layout.nodes())?;
    let timeline = profile.simulate(&plan)?;
    let tokens = options.tokens_per_step();

    let mut output = Output::new(to, options.output.json);
    let mut object = as_json(&plan, profile, &timeline, tokens);
    object["profile"] = known.as_json(file);
    output.tell(&object)?;
    let parameters = gpt.parameters();
    output.say(&format!(
        "A GPT of {parameters} parameters on {}",
        corpus.source
    ))?;
    output.say(&format!("{}\n", known.in_words(file)))?;
    output.say(&table(&plan, profile))?;
    output.say(&step(&plan, &timeline, tokens))?;
    let threads = config.nodes * config.threads_per_node;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if threads > cores {
        output.say(&format!(
            "The prediction is for {threads} cores; this machine has {cores}."
        ))?;
    }
    Ok(())
}

/// What the layers take, and how that is known.
struct Known {
    profile: Profile,
    /// Seconds that measuring took, where it was done now.
    seconds: Option<f64>,
}

impl Known {
    /// From the file, or measured now.
    fn of(
        options: &PlanOptions,
        network: &Network,
        data: &dyn Data,
        config: &Config,
        optimizer: &dyn Optimizer,
    ) -> Result<Self, Failure> {
        let Some(path) = &options.profile else {
            let begun = Instant::now();
            let profile = Profile::measure(network, data, config, optimizer, Effort::Quick)?;
            let seconds = Some(begun.elapsed().as_secs_f64());
            return Ok(Self { profile, seconds });
        };
        let profile = Profile::load(path)?;
        profile.check(network, config)?;
        let profile = profile.sized(network, config.mini_batch().largest())?;
        let seconds = None;
        Ok(Self { profile, seconds })
    }

    fn in_words(&self, options: &PlanOptions) -> String {
        let Profile {
            machine,
            measured_at,
            version,
            ..
        } = &self.profile;
        match (self.seconds, &options.profile) {
            (None, Some(path)) => format!(
                "Times of {}, measured {measured_at} on {machine} by brigade {version}",
                path.display()
            ),
            (seconds, _) => {
                let seconds = seconds.unwrap_or_default();
                format!("Measured now in {seconds:.2} s on {machine}")
            }
        }
    }

    fn as_json(&self, options: &PlanOptions) -> serde_json::Value {
        json!({
            "file": options.profile.as_ref().map(|path| path.display().to_string()),
            "seconds": self.seconds,
            "measured_at": self.profile.measured_at,
            "machine": self.profile.machine,
            "version": self.profile.version,
        })
    }
}

/// Milliseconds of F and of B (I and W) of a node's stages for one micro-batch.
fn node_ms(plan: &Plan, profile: &Profile, node: NodeId) -> (f64, f64) {
    let times = profile.times(plan);
    let stages = plan.layout.placement.stages_on(node);
    stages.fold((0.0, 0.0), |(forward, backward), stage| {
        let at = stage.index();
        let both = times.input[at] + times.weight[at];
        (forward + 1e3 * times.forward[at], backward + 1e3 * both)
    })
}

fn table(plan: &Plan, profile: &Profile) -> String {
    let mut text = String::from(
        "node  stages  layers                          parameters   F, ms   B, ms      memory\n",
    );
    for (node, memory) in plan.layout.nodes().iter().zip(&plan.memory) {
        let stages: Vec<_> = plan.layout.placement.stages_on(node).collect();
        let stages: Vec<_> = stages.iter().map(ToString::to_string).collect();
        let layers = plan.layers_in_words(node);
        let parameters = memory.parameter_bytes / 4;
        let (forward, backward) = node_ms(plan, profile, node);
        let times = format!("{forward:>6.2}  {backward:>6.2}");
        let peak = mib(memory.peak_bytes());
        let (stages, host) = (stages.join(","), host(plan, node));
        text += &format!(
            "{node:<4}  {stages:<6}  {layers:<30}  {parameters:>10}  {times}  {peak:>6.1} MiB{host}\n"
        );
    }
    text + &recomputed(plan)
}

fn step(plan: &Plan, timeline: &Timeline, tokens: usize) -> String {
    let (schedule, micro_batches) = (&plan.schedule, plan.training.batch.micro_batches());
    let (seconds, bubble) = (timeline.makespan, 100.0 * timeline.bubble());
    format!(
        "One step of {schedule} with {micro_batches} micro-batches:\n{}\
         predicted: {:.1} ms a step, {:.0} tokens/s, bubble {bubble:.1}%",
        picture(timeline, picture_width()),
        1e3 * seconds,
        tokens as f64 / seconds,
    )
}

fn as_json(
    plan: &Plan,
    profile: &Profile,
    timeline: &Timeline,
    tokens: usize,
) -> serde_json::Value {
    let node = |node: NodeId| {
        let memory = &plan.memory[node.index()];
        let (forward, backward) = node_ms(plan, profile, node);
        json!({
            "node": node.get(),
            "host": plan.host_of(node),
            "stages": plan.layout.placement.stages_on(node).map(|s| s.get()).collect::<Vec<_>>(),
            "layers": plan.layers_on(node).collect::<Vec<_>>(),
            "parameters": memory.parameter_bytes / 4,
            "forward_ms": forward,
            "backward_ms": backward,
            "peak_bytes": memory.peak_bytes(),
            "memory": memory,
            "sent_bytes": plan.sent_bytes[node.index()],
        })
    };
    json!({
        "schedule": plan.schedule,
        "micro_batches": plan.training.batch.micro_batches().index(),
        "cuts": plan.partition.cuts(),
        "recomputed": plan.recomputed.iter().map(|s| [s.start, s.end - 1]).collect::<Vec<_>>(),
        "nodes": plan.layout.nodes().iter().map(node).collect::<Vec<_>>(),
        "step_ms": 1e3 * timeline.makespan,
        "tokens_per_s": tokens as f64 / timeline.makespan,
        "bubble": timeline.bubble(),
        "fingerprint": plan.fingerprint(),
    })
}
