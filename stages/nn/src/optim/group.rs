//! Parameters that are trained otherwise than the rest.

use super::{NOT_NEGATIVE, check};
use brigade_layer::{KeyPattern, LayerError, ParamRole, ParamSpec, Update};
use serde::{Deserialize, Serialize};

/// Parameters that are trained otherwise than the rest, by their keys. Of several groups the first
/// that matches a parameter counts.
///
/// # Example
/// ```
/// use brigade_nn::{AdamW, Group};
/// let optimizer = AdamW {
///     groups: vec![
///         Group::of("*.bias").weight_decay(0.0),
///         Group::of("h.0.*").lr(0.1),
///     ],
///     ..AdamW::new(3e-4)
/// };
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// The parameters' keys.
    pub keys: KeyPattern,
    /// What the learning rate is multiplied with: 1 by default.
    #[serde(default = "unchanged")]
    pub lr: f64,
    /// Their weight decay, whatever they are for. As without the group by default.
    #[serde(default)]
    pub weight_decay: Option<f64>,
}

fn unchanged() -> f64 {
    1.0
}

impl Group {
    /// The parameters whose keys match, trained as the rest until said otherwise.
    pub fn of(keys: impl Into<KeyPattern>) -> Self {
        Self {
            keys: keys.into(),
            lr: unchanged(),
            weight_decay: None,
        }
    }

    /// Multiplies the learning rate.
    #[must_use]
    pub fn lr(mut self, factor: f64) -> Self {
        self.lr = factor;
        self
    }

    /// Gives them a weight decay of their own.
    #[must_use]
    pub fn weight_decay(mut self, weight_decay: f64) -> Self {
        self.weight_decay = Some(weight_decay);
        self
    }
}

/// The learning rate and the weight decay of a parameter.
pub(super) fn rates(
    groups: &[Group],
    update: &Update<'_>,
    lr: f64,
    (weight_decay, decay_roles): (f64, &[ParamRole]),
) -> (f64, f64) {
    let decays = decay_roles.contains(&update.role);
    let usual = if decays { weight_decay } else { 0.0 };
    match groups.iter().find(|group| group.keys.matches(update.key)) {
        None => (lr, usual),
        Some(group) => (group.lr * lr, group.weight_decay.unwrap_or(usual)),
    }
}

pub(super) fn validate(rule: &str, groups: &[Group]) -> Result<(), LayerError> {
    for Group {
        keys,
        lr,
        weight_decay,
    } in groups
    {
        check(rule, &format!("lr of group {keys}"), *lr, NOT_NEGATIVE)?;
        let decay = weight_decay.unwrap_or(0.0);
        let name = format!("weight_decay of group {keys}");
        check(rule, &name, decay, NOT_NEGATIVE)?;
    }
    Ok(())
}

/// Whether every group matches a parameter that trains, and is the first to match one.
pub(super) fn suit(
    rule: &str,
    groups: &[Group],
    params: &[(String, ParamSpec)],
) -> Result<(), LayerError> {
    for (number, Group { keys, .. }) in groups.iter().enumerate() {
        let matched: Vec<_> = (params.iter())
            .filter(|(key, _)| keys.matches(key))
            .collect();
        let refuse = |problem: String| Err(LayerError::spec(rule, problem));
        let earlier = |key: &str| groups[..number].iter().any(|it| it.keys.matches(key));
        if matched.is_empty() {
            let there_are = params.iter().map(|(key, _)| key.as_str());
            return Err(LayerError::no_such_key("parameter", keys, there_are));
        }
        if !matched.iter().any(|(_, param)| param.trains) {
            return refuse(format!(
                "group {keys} has only parameters that are not trained"
            ));
        }
        if matched.iter().all(|(key, _)| earlier(key)) {
            return refuse(format!(
                "group {keys} gets nothing: earlier groups match all of its parameters, and the \
                 first that matches counts; put it before them"
            ));
        }
    }
    Ok(())
}
