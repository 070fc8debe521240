//! A folder of tensors as a file of weights under our own keys.

use super::folder::TensorFolder;
use super::source::TensorSource;
use crate::checkpoint::WeightsFile;
use crate::error::Error;
use crate::stage::Values;
use crate::wire::to_bytes;
use brigade_layer::{ForeignNames, LayerError, Network, Shape};
use std::path::Path;

/// Whether the tensors of a folder are the parameters of a network, all of them and nothing else.
///
/// # Errors
/// Which is not, and why.
pub fn check(from: &TensorFolder, names: &ForeignNames, network: &Network) -> Result<(), Error> {
    source(from, names, network).map(drop)
}

/// Those of a network, in the order of a file of weights.
fn source(
    from: &TensorFolder,
    names: &ForeignNames,
    network: &Network,
) -> Result<(TensorSource, Vec<(String, Shape)>), Error> {
    let params = network.params().into_iter();
    let mut params: Vec<_> = params.map(|(key, spec)| (key, spec.shape)).collect();
    params.sort_by(|one, other| one.0.cmp(&other.0));
    let source = TensorSource::new(from, names, &params)?;
    source.is_at_one(names)?;
    Ok((source, params))
}

/// Writes the weights of a network that are in a folder of another library as a file like that of
/// [`Trainer::save_weights`](crate::Trainer::save_weights), of f32: whole or not at all, and piece
/// by piece.
///
/// # Errors
/// When the folder's tensors are not the network's parameters, or the file cannot be written.
pub fn import(
    from: &TensorFolder,
    names: &ForeignNames,
    network: &Network,
    to: impl AsRef<Path>,
) -> Result<(), Error> {
    let (source, params) = source(from, names, network)?;
    let mut file = WeightsFile::create(to.as_ref(), &params)?;
    for (key, _) in &params {
        let mut written = Ok(());
        let each = source.each(key, &mut |_, piece| {
            written = file.put(&to_bytes(piece));
            // Nothing is read that cannot be written.
            let stop = || LayerError::Value(String::new());
            written.as_ref().map_err(|_| stop()).copied()
        });
        written?;
        each?;
    }
    file.finish()
}
