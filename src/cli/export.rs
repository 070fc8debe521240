//! `brigade export`: a run as a folder of Hugging Face.

use super::carried::{CARRIED, Carried};
use super::failure::Failure;
use super::model::{HUGGING_FACE, Model};
use super::output::Output;
use super::run_folder::newest;
use crate::files::write_whole;
use crate::interchange::{Export, FloatType, TensorFolder, export as write};
use crate::planner::units::bytes;
use crate::process;
use clap::{Args, ValueHint};
use serde_json::json;
use std::io::Write;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, Args)]
pub(super) struct ExportOptions {
    /// Run folder; the newest of runs/1, runs/2, ... unless given.
    #[arg(value_name = "RUN", value_hint = ValueHint::DirPath)]
    run: Option<PathBuf>,
    /// Folder to write; made if it is not there.
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    out: PathBuf,
    /// In which numbers: f32, bf16 or f16, rounded to nearest even.
    #[arg(long, value_name = "NAME", default_value = "f32")]
    dtype: FloatType,
    /// Bytes of tensors in a file at most, as 500MB or 2GiB; more go to several with an index.
    #[arg(long, value_name = "BYTES", default_value = "5GB", value_parser = bytes)]
    shard_size: u64,
    /// For programs: one JSON object a line.
    #[arg(long)]
    json: bool,
}

pub(super) fn export(options: &ExportOptions, to: &mut dyn Write) -> Result<(), Failure> {
    if !process::is_first() {
        return Ok(());
    }
    if options.shard_size == 0 {
        return Err(Failure::Usage(
            "--shard-size is 0; it must be at least 1".into(),
        ));
    }
    let run = match &options.run {
        Some(run) => run.clone(),
        None => newest(Path::new("runs"))?,
    };
    let model = Model::of(&run)?;
    if !model.is_run {
        let problem = format!("{} is a folder of Hugging Face already", run.display());
        return Err(Failure::Usage(problem));
    }
    let config = model.decoder.to_hugging_face(options.dtype.torch_name());
    let config = config.map_err(|error| Failure::Other(error.to_string()))?;
    let (config, carried) = Carried::of(&run)?.beside(&config)?;
    let names = (
        &model.decoder.hugging_face_names()?,
        &model.decoder.network()?,
    );
    let weights = TensorFolder::open(model.weights()?)?;
    let how = Export::default();
    let how = how.float(options.dtype).shard_bytes(options.shard_size);
    vacant(&options.out)?;
    let written = write(&weights, names, &options.out, &how)?;
    let carried = carried.write(&options.out)?;
    // Without it nobody takes the folder for a model.
    write_whole(&options.out.join(HUGGING_FACE), config.as_bytes())?;

    let mut output = Output::new(to, options.json);
    let name = |path: &PathBuf| {
        path.file_name()
            .map(|name| name.to_string_lossy().into_owned())
    };
    let files: Vec<_> = written.files.iter().filter_map(name).collect();
    let out = options.out.display().to_string();
    output.tell(&json!({ "exported": {
        "folder": out,
        "files": files,
        "tensors": written.tensors,
        "bytes": written.bytes,
        "dtype": options.dtype.to_string(),
        "carried": carried,
    }}))?;
    let all = [HUGGING_FACE].into_iter().chain(carried);
    let all: Vec<_> = all.map(str::to_owned).chain(files).collect();
    output.say(&format!(
        "{out} has {}: {} tensors of {}, {} bytes",
        all.join(", "),
        written.tensors,
        options.dtype,
        written.bytes
    ))
}

/// Files of another model would pass for this one's.
fn vacant(out: &Path) -> Result<(), Failure> {
    let mut names = [HUGGING_FACE].into_iter().chain(CARRIED);
    match names.find(|name| out.join(name).exists()) {
        None => Ok(()),
        Some(name) => Err(Failure::Other(format!(
            "{} has {name} already; give another folder",
            out.display()
        ))),
    }
}
