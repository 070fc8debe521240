//! `brigade profile`: what layers and links take on this machine.

use super::failure::Failure;
use super::options::{ProfileOptions, counted};
use super::output::Output;
use super::text::Corpus;
use crate::bench::kinds;
use crate::process;
use crate::profile::{Effort, LayerProfile, Profile, SizeProfile};
use brigade_layer::{LayerShapes, Network};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::time::{Duration, Instant};

pub(super) fn profile(options: &ProfileOptions, to: &mut dyn Write) -> Result<(), Failure> {
    let run = &options.run;
    let config = run.checked_config()?;
    let optimizer = run.optimizer()?;
    let corpus = Corpus::of(run)?;
    let decoder = run.network.decoder(corpus.vocab)?;
    let network = run.tuned(&decoder)?;
    let sizes = match &options.micro_batch_sizes {
        Some(sizes) => sizes.0.clone(),
        None => vec![config.mini_batch().largest()],
    };
    let most = run.training.batch_size;
    if let Some(size) = sizes.iter().find(|size| **size > most) {
        let problem = format!("--micro-batch-sizes has {size}; --batch-size is {most}");
        return Err(Failure::Usage(problem));
    }
    let windows = corpus.windows(run)?;
    let begun = Instant::now();
    let effort = Effort::Thorough;
    let profile = Profile::measure_sizes(&network, &windows, &config, &*optimizer, &sizes, effort)?;
    let seconds = begun.elapsed().as_secs_f64();
    let out = run.output.out.as_deref();
    if let Some(path) = out.filter(|_| process::is_first()) {
        profile.save(path)?;
    }

    let mut output = Output::new(to, run.output.json);
    let sizes = (profile.sizes.iter())
        .map(|size| Ok((size, rows_of(&network, size)?)))
        .collect::<Result<Vec<_>, Failure>>()?;
    output.tell(&json!({
        "machine": profile.machine,
        "measured_at": profile.measured_at,
        "version": profile.version,
        "network": profile.network,
        "precision": profile.precision,
        "threads_per_node": profile.threads_per_node,
        "seconds": seconds,
        "latency_us": 1e6 * profile.links.all.latency,
        "per_mib_us": per_mib_us(&profile),
        "sizes": sizes.iter().map(|(size, rows)| json!({
            "rows": size.rows,
            "layers": rows.iter().map(Row::as_json).collect::<Vec<_>>(),
        })).collect::<Vec<_>>(),
        "file": out.map(|path| path.display().to_string()),
    }))?;
    let (family, parameters) = (decoder.family(), counted(&network));
    let source = &corpus.source;
    output.say(&format!("A {family} of {parameters} on {source}"))?;
    let machine = &profile.machine;
    output.say(&format!("Measured now in {seconds:.2} s on {machine}"))?;
    for (size, rows) in &sizes {
        output.say(&table(size, rows))?;
    }
    output.say(&links(&profile))?;
    match out {
        Some(path) => output.say(&format!("written to {}", path.display())),
        None => Ok(()),
    }
}

/// A distinct layer of a table.
struct Row<'a> {
    layer: &'a LayerProfile,
    /// How many are like it, itself included.
    alike: usize,
    flops: u64,
}

fn rows_of<'a>(network: &Network, size: &'a SizeProfile) -> Result<Vec<Row<'a>>, Failure> {
    let shapes: Vec<LayerShapes> = network.infer(size.rows)?;
    let mut alike = BTreeMap::new();
    for kind in kinds(network, &shapes) {
        *alike.entry(kind).or_insert(0) += 1;
    }
    let row = |(index, alike): (brigade_layer::LayerIndex, usize)| {
        let cost = &shapes[index.index()].cost;
        let backward = match network.needs_gradient(index) {
            true => cost.input_flops + cost.weight_flops,
            false => 0,
        };
        Row {
            layer: &size.layers[index.index()],
            alike,
            flops: cost.forward_flops + backward,
        }
    };
    Ok(alike.into_iter().map(row).collect())
}

fn ms(time: Duration) -> f64 {
    1e3 * time.as_secs_f64()
}

impl Row<'_> {
    /// Billions of operations a second, by the description's count.
    fn gflops(&self) -> f64 {
        let seconds = self.layer.time.total().as_secs_f64();
        match seconds > 0.0 {
            true => self.flops as f64 / seconds / 1e9,
            false => 0.0,
        }
    }

    fn as_json(&self) -> Value {
        let layer = self.layer;
        json!({
            "key": layer.key,
            "alike": self.alike,
            "measured": layer.measured,
            "forward_ms": ms(layer.time.forward),
            "input_ms": ms(layer.time.input),
            "weight_ms": ms(layer.time.weight),
            "update_ms": ms(layer.update),
            "parameter_bytes": layer.parameter_bytes,
            "stash_bytes": layer.stash_bytes,
            "kept_bytes": layer.kept_bytes,
            "output_bytes": layer.output_bytes,
            "gflops": self.gflops(),
        })
    }
}

fn table(size: &SizeProfile, rows: &[Row<'_>]) -> String {
    let mut text = format!(
        "\nMicro-batches of {}:\n{:<14}{:>6}{:>9}{:>9}{:>9}{:>11}{:>12}{:>11}{:>11}{:>11}{:>9}\n",
        size.rows,
        "layer",
        "alike",
        "F, ms",
        "I, ms",
        "W, ms",
        "update, ms",
        "parameters",
        "stash",
        "kept",
        "output",
        "GFLOP/s",
    );
    for row in rows {
        let LayerProfile { key, time, .. } = row.layer;
        let estimated = if row.layer.measured {
            ""
        } else {
            "  estimated"
        };
        text += &format!(
            "{key:<14}{:>6}{:>9.3}{:>9.3}{:>9.3}{:>11.3}{:>12}{:>11}{:>11}{:>11}{:>9.1}{estimated}\n",
            row.alike,
            ms(time.forward),
            ms(time.input),
            ms(time.weight),
            ms(row.layer.update),
            bytes(row.layer.parameter_bytes),
            bytes(row.layer.stash_bytes),
            bytes(row.layer.kept_bytes),
            bytes(row.layer.output_bytes),
            row.gflops(),
        );
    }
    text.trim_end().to_owned()
}

fn bytes(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", super::output::mib(bytes)),
    }
}

fn per_mib_us(profile: &Profile) -> f64 {
    1e6 * f64::from(1 << 20) * profile.links.all.per_byte
}

fn links(profile: &Profile) -> String {
    let latency = 1e6 * profile.links.all.latency;
    match per_mib_us(profile) {
        0.0 => format!("\nlinks: {latency:.1} us, whatever the bytes"),
        per_mib => format!("\nlinks: {latency:.1} us, and {per_mib:.1} us for each MiB"),
    }
}
