//! `brigade checkpoint show`.

use super::list::seconds;
use super::{Options, Place};
use crate::Checkpoint;
use crate::checkpoint::{FileEntry, Manifest, TensorEntry};
use crate::cli::failure::Failure;
use crate::cli::output::{print, printable};
use crate::profile::date;
use crate::schedule::counted;
use clap::Args;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::Write;
use std::time::SystemTime;

#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct ShowOptions {
    #[command(flatten)]
    options: Options,
    /// Every tensor too.
    #[arg(long)]
    tensors: bool,
}

pub(super) fn show(options: &ShowOptions, to: &mut dyn Write) -> Result<(), Failure> {
    let ShowOptions { options, tensors } = options;
    let place = Place::of(&options.dir)?;
    let path = place.all()?.pop().ok_or_else(|| place.nothing())?;
    let (checkpoint, saved) = (Checkpoint::open(&path)?, Checkpoint::saved(&path)?);
    let manifest = checkpoint.manifest();
    match options.json {
        true => print(to, &object(&checkpoint, saved))?,
        false => {
            print(to, &format!("checkpoint      {}", path.display()))?;
            print(to, &format!("saved           {}", date(saved)))?;
            facts(manifest).try_for_each(|line| print(to, &printable(&line)))?;
        }
    }
    for file in manifest.files.iter().filter(|_| *tensors) {
        for tensor in &file.tensors {
            let line = match options.json {
                true => tensor_object(file, tensor),
                false => tensor_line(tensor),
            };
            print(to, &printable(&line))?;
        }
    }
    Ok(())
}

/// Numbers of all parameters.
fn parameters(manifest: &Manifest) -> u64 {
    let values = manifest.values().into_iter();
    values.filter_map(TensorEntry::bytes).sum::<u64>() / 4
}

fn object(checkpoint: &Checkpoint, saved: SystemTime) -> String {
    let manifest = checkpoint.manifest();
    let files = manifest.files.iter();
    let files: Vec<_> = files
        .map(
            |file| json!({ "name": file.name, "bytes": file.bytes, "tensors": file.tensors.len() }),
        )
        .collect();
    json!({
        "checkpoint": checkpoint.path().display().to_string(),
        "step": manifest.step,
        "saved_s": seconds(saved),
        "version": manifest.version,
        "layers": manifest.layers.len(),
        "parameters": parameters(manifest),
        "settings": manifest.settings,
        "notes": manifest.notes,
        "weights_sha256": manifest.weights_sha256,
        "files": files,
    })
    .to_string()
}

/// What it says of itself, a line for each thing.
fn facts(manifest: &Manifest) -> impl Iterator<Item = String> {
    let network = format!(
        "{}, {}",
        counted(manifest.layers.len(), "layer"),
        counted(parameters(manifest), "parameter")
    );
    let pairs = |pairs: &BTreeMap<String, String>| -> Vec<String> {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| format!("{name} = {value}"))
            .collect()
    };
    let file = |file: &FileEntry| {
        let tensors = counted(file.tensors.len(), "tensor");
        format!("{}, {} bytes, {tensors}", file.name, file.bytes)
    };
    let facts = [
        ("step", vec![manifest.step.to_string()]),
        ("version", vec![manifest.version.clone()]),
        ("network", vec![network]),
        ("weights_sha256", vec![manifest.weights_sha256.clone()]),
        ("settings", pairs(&manifest.settings)),
        ("notes", pairs(&manifest.notes)),
        ("files", manifest.files.iter().map(file).collect()),
    ];
    facts.into_iter().flat_map(|(name, lines)| {
        let name = |at| if at == 0 { name } else { "" };
        let lines = lines.into_iter().enumerate();
        let lines: Vec<_> = lines
            .map(|(at, line)| format!("{:<14}  {line}", name(at)))
            .collect();
        lines
    })
}

fn tensor_line(tensor: &TensorEntry) -> String {
    let TensorEntry {
        layer,
        shape,
        sha256,
        ..
    } = tensor;
    let name = tensor.name();
    format!(
        "  layer {layer:>4}  {name:<40} {:<14} {}",
        format!("{shape:?}"),
        &sha256[..12]
    )
}

fn tensor_object(file: &FileEntry, tensor: &TensorEntry) -> String {
    json!({
        "tensor": tensor.key,
        "state": tensor.state,
        "layer": tensor.layer,
        "shape": tensor.shape,
        "sha256": tensor.sha256,
        "file": file.name,
    })
    .to_string()
}
