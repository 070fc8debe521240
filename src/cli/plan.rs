//! `brigade plan`: what a training would be like.

use super::failure::Failure;
use super::options::RunOptions;
use super::ordering::{self, MOST_FLOPS};
use super::output::{Output, mib, picture, picture_width};
use super::summary::host;
use super::text::Corpus;
use crate::Plan;
use crate::bench::Profile;
use crate::ids::NodeId;
use crate::process::Processes;
use crate::schedule::Timeline;
use serde_json::json;
use std::io::Write;

pub(super) fn plan(options: &RunOptions, to: &mut dyn Write) -> Result<(), Failure> {
    let config = options.checked_config()?;
    let optimizer = options.training.optimizer()?;
    let corpus = Corpus::of(options)?;
    let gpt = options.network.gpt(corpus.vocab);
    let network = gpt.network()?;
    // What is wrong with the setting is said before anything is measured.
    config.validate()?;
    let windows = corpus.windows(options)?;
    let profile = ordering::profile(&network, &windows, &config, &*optimizer)?;
    let measured = profile.as_ref();
    let schedule = ordering::schedule(options, &network, &windows, &*optimizer, measured)?;
    let mut plan = Plan::with_schedule(&network, &config, &*optimizer, schedule.as_ref())?;
    plan.hosts = Processes::meet(config.deadline())?.hosts_of(plan.layout.nodes())?;
    let timeline = profile.as_ref().map(|profile| profile.simulate(&plan));
    let timeline = timeline.transpose()?;
    let tokens = options.tokens_per_step();

    let mut output = Output::new(to, options.output.json);
    output.tell(&as_json(&plan, profile.as_ref(), timeline.as_ref(), tokens))?;
    let parameters = gpt.parameters();
    output.say(&format!(
        "A GPT of {parameters} parameters on {}\n",
        corpus.source
    ))?;
    output.say(&table(&plan, profile.as_ref()))?;
    match timeline {
        Some(timeline) => output.say(&step(&plan, &timeline, tokens)),
        None => output.say(&format!(
            "Times were not measured: a layer takes more than {MOST_FLOPS} operations a micro-batch."
        )),
    }?;
    let threads = config.nodes * config.threads_per_node;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    if threads > cores {
        output.say(&format!(
            "The prediction is for {threads} cores; this machine has {cores}."
        ))?;
    }
    Ok(())
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

fn table(plan: &Plan, profile: Option<&Profile>) -> String {
    let mut text = String::from(
        "node  stages  layers                          parameters   F, ms   B, ms      memory\n",
    );
    for (node, memory) in plan.layout.nodes().iter().zip(&plan.memory) {
        let stages: Vec<_> = plan.layout.placement.stages_on(node).collect();
        let stages: Vec<_> = stages.iter().map(ToString::to_string).collect();
        let layers = plan.layers_in_words(node);
        let parameters = memory.parameter_bytes / 4;
        let times = match profile.map(|profile| node_ms(plan, profile, node)) {
            Some((forward, backward)) => format!("{forward:>6.2}  {backward:>6.2}"),
            None => format!("{:>6}  {:>6}", "-", "-"),
        };
        let peak = mib(memory.peak_bytes());
        let (stages, host) = (stages.join(","), host(plan, node));
        text += &format!(
            "{node:<4}  {stages:<6}  {layers:<30}  {parameters:>10}  {times}  {peak:>6.1} MiB{host}\n"
        );
    }
    text
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
    profile: Option<&Profile>,
    timeline: Option<&Timeline>,
    tokens: usize,
) -> serde_json::Value {
    let node = |node: NodeId| {
        let memory = &plan.memory[node.index()];
        let ms = profile.map(|profile| node_ms(plan, profile, node));
        json!({
            "node": node.get(),
            "host": plan.host_of(node),
            "stages": plan.layout.placement.stages_on(node).map(|s| s.get()).collect::<Vec<_>>(),
            "layers": plan.layers_on(node).collect::<Vec<_>>(),
            "parameters": memory.parameter_bytes / 4,
            "forward_ms": ms.map(|(forward, _)| forward),
            "backward_ms": ms.map(|(_, backward)| backward),
            "peak_bytes": memory.peak_bytes(),
            "memory": memory,
            "sent_bytes": plan.sent_bytes[node.index()],
        })
    };
    json!({
        "schedule": plan.schedule,
        "micro_batches": plan.training.batch.micro_batches().index(),
        "cuts": plan.partition.cuts(),
        "nodes": plan.layout.nodes().iter().map(node).collect::<Vec<_>>(),
        "step_ms": timeline.map(|timeline| 1e3 * timeline.makespan),
        "tokens_per_s": timeline.map(|timeline| tokens as f64 / timeline.makespan),
        "bubble": timeline.map(Timeline::bubble),
        "fingerprint": plan.fingerprint(),
    })
}
