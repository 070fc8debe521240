//! `brigade import`: a folder of Hugging Face as a run folder.

use super::carried::Carried;
use super::config_file::Decided;
use super::failure::Failure;
use super::model::{Model, network_json};
use super::output::Output;
use super::run_folder::{CONFIG, LOCK, NETWORK, WEIGHTS, vacant};
use super::run_options::settings_of_train;
use crate::files::write_whole;
use crate::interchange::{TensorFolder, check, import as write};
use crate::process;
use clap::{Args, ValueHint};
use serde_json::json;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, Args)]
pub(super) struct ImportOptions {
    /// Folder with config.json and model.safetensors, or several files with an index.
    #[arg(value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    folder: PathBuf,
    /// Run folder; the next of runs/1, runs/2, ... unless given.
    #[arg(long, value_name = "RUN", value_hint = ValueHint::DirPath)]
    out: Option<PathBuf>,
    /// For programs: one JSON object a line.
    #[arg(long)]
    json: bool,
}

pub(super) fn import(options: &ImportOptions, to: &mut dyn Write) -> Result<(), Failure> {
    if !process::is_first() {
        return Ok(());
    }
    let model = Model::of(&options.folder)?;
    if model.is_run {
        let folder = options.folder.display();
        let problem = format!("{folder} is a run folder already; use it as it is");
        return Err(Failure::Usage(problem));
    }
    let network = model.decoder.network()?;
    let names = model.decoder.hugging_face_names()?;
    let tensors = TensorFolder::open(&options.folder)?;
    // What does not fit leaves no folder behind.
    check(&tensors, &names, &network)?;
    let carried = Carried::of(&options.folder)?;
    let mut options_of_run = model.options;
    options_of_run.network.describe(&model.decoder);
    let mut decided = Decided::from([("from", None)]);
    decided.extend(options_of_run.network.described());
    let texts = [network_json(&model.decoder)?, settings_of_train(&decided)?];
    let own = options.out.as_ref().is_none_or(|out| !out.exists());
    let (run, _lock) = vacant(options.out.as_deref())?;
    let written = || -> Result<_, Failure> {
        write(&tensors, &names, &network, run.join(WEIGHTS))?;
        let carried = carried.write(&run)?;
        for (name, text) in [NETWORK, CONFIG].iter().zip(&texts) {
            write_whole(&run.join(name), text.as_bytes())?;
        }
        Ok(carried)
    };
    let carried = written().inspect_err(|_| undo(&run, &carried, own))?;

    let mut output = Output::new(to, options.json);
    let (family, parameters) = (model.decoder.family(), model.decoder.parameters());
    let (count, path) = (tensors.tensors().count(), run.display().to_string());
    output.tell(&json!({ "imported": {
        "run": path,
        "family": family,
        "parameters": parameters,
        "context": model.decoder.context(),
        "vocab": model.decoder.vocab(),
        "tensors": count,
        "carried": carried,
    }}))?;
    let beside = match carried.is_empty() {
        true => String::new(),
        false => format!(", {}", carried.join(", ")),
    };
    output.say(&format!(
        "A {family} of {parameters} parameters in {count} tensors\n\
         {path} has {WEIGHTS}, {NETWORK}, {CONFIG}{beside}\n\
         go on with brigade train DATA --from {path}, or brigade generate {path}"
    ))
}

/// Removes what was made; what was there before stays.
fn undo(run: &Path, carried: &Carried, own: bool) {
    let names = [WEIGHTS, NETWORK, CONFIG].into_iter();
    for name in names.chain(carried.names()) {
        let _ = fs::remove_file(run.join(name));
    }
    if own {
        let _ = fs::remove_file(run.join(LOCK));
        let _ = fs::remove_dir(run);
    }
}
