//! Optimizers: rules that turn gradients into new values, and learning rates.
//!
//! Hyper-parameters are `f64`: scalars such as bias corrections are computed in double precision
//! and rounded once.

mod adam;
mod group;
mod learning_rate;
mod sgd;

pub use adam::{Adam, AdamW};
pub use group::Group;
pub use learning_rate::LearningRate;
pub use sgd::Sgd;

use brigade_layer::{LayerError, ParamRole};

/// Elements of one unit of work.
const UNIT: usize = 4096;

/// What decays unless one says otherwise: matrices and tables, neither biases nor norms.
fn default_decay_roles() -> Vec<ParamRole> {
    vec![ParamRole::Weight, ParamRole::Embedding]
}

/// # Errors
/// When `value` is not a finite number within the range.
fn check(
    rule: &str,
    name: &str,
    value: f64,
    range: std::ops::Range<f64>,
) -> Result<(), LayerError> {
    if range.contains(&value) {
        return Ok(());
    }
    let limit = match range.end {
        end if end.is_infinite() => String::new(),
        end => format!(" and below {end}"),
    };
    let problem = format!(
        "{name} is {value}; it must be at least {}{limit}",
        range.start
    );
    Err(LayerError::spec(rule, problem))
}

const NOT_NEGATIVE: std::ops::Range<f64> = 0.0..f64::INFINITY;
