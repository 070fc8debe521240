//! What a node says of its parameters.

use super::command::Values;
use super::runner::Stage;
use crate::error::Cause;
use crate::ids::{LayerIndex, StageId};
use brigade_layer::{LayerError, ParamAccess, ParamBytes, Part, Pool};
use sha2::{Digest, Sha256};

type Stages = [(StageId, Stage)];

/// The values of the parameter with this key, if it is here first.
pub(super) fn values(stages: &mut Stages, key: &str) -> Result<Option<Vec<f32>>, Cause> {
    let mut found = None;
    for (_, stage) in stages.iter_mut() {
        stage.visit_params(&mut |_, param| {
            let info = param.info();
            if info.primary && info.key == key {
                found = Some(values_of(param)?);
            }
            Ok(())
        })?;
    }
    Ok(found)
}

/// Gives a node's parameters the values with their keys, every holder of a shared one alike, and
/// the optimizer's states with these names where there are any.
pub(super) fn load(
    stages: &mut Stages,
    from: &dyn Values,
    states: &[&str],
    pool: &Pool,
) -> Result<(), Cause> {
    for (_, stage) in stages.iter_mut() {
        stage.visit_params(&mut |_, param| {
            let info = param.info().clone();
            from.write(param, pool)?;
            let states = states.iter().enumerate().filter(|_| info.trains);
            for (number, name) in states {
                if let Some(state) = from.state(&info.key, name)? {
                    param.write(Part::State(number), &state, pool)?;
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// The SHA-256 of each of a node's parameters.
pub(super) fn digests(stages: &mut Stages) -> Result<Vec<(LayerIndex, [u8; 32])>, Cause> {
    let mut digests = Vec::new();
    for (_, stage) in stages.iter_mut() {
        stage.visit_params(&mut |layer, param| {
            if param.info().primary {
                digests.push((layer, digest(&values_of(param)?)));
            }
            Ok(())
        })?;
    }
    Ok(digests)
}

/// What a node's layers hold.
pub(super) fn holdings(stages: &mut Stages) -> Result<(Vec<LayerIndex>, ParamBytes), Cause> {
    let mut params = ParamBytes::default();
    let mut layers = Vec::new();
    for (_, stage) in stages.iter_mut() {
        layers.extend(stage.layers());
        stage.visit_params(&mut |_, param| {
            let bytes = param.bytes();
            params.value += bytes.value;
            params.gradient += bytes.gradient;
            params.state += bytes.state;
            Ok(())
        })?;
    }
    Ok((layers, params))
}

fn values_of(param: &mut dyn ParamAccess) -> Result<Vec<f32>, LayerError> {
    let mut values = vec![0.0; param.info().shape.elements()];
    param.read(Part::Value, &mut values)?;
    Ok(values)
}

/// SHA-256 of little-endian bytes.
fn digest(values: &[f32]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for value in values {
        hash.update(value.to_le_bytes());
    }
    hash.finalize().into()
}
