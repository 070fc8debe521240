//! What of a network is trained, and what of it otherwise than the rest.

use super::RunOptions;
use crate::cli::failure::Failure;
use brigade_layer::{KeyPattern, Network};
use brigade_nn::{Decoder, Group};
use clap::Args;
use std::fmt;
use std::str::FromStr;

/// No layer.
const NONE: &str = "none";

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Fine-tuning")]
pub(in crate::cli) struct TuningOptions {
    /// Layers that are not trained, as embed,h.0.*: neither gradients nor optimizer state, and
    /// nothing backward below the lowest one that is; or none.
    #[arg(long, default_value = NONE, value_name = "LAYERS")]
    freeze: KeysArg,
    /// Parameters trained otherwise, as '*.bias:weight-decay=0' or 'h.0.*:lr=0.1,weight-decay=0',
    /// where lr is a factor; repeat it for more, of which the first that matches counts.
    #[arg(long, value_name = "PARAMETERS:SETTINGS")]
    group: Vec<GroupArg>,
}

impl TuningOptions {
    pub(super) fn groups(&self) -> Vec<Group> {
        self.group.iter().map(|group| group.group.clone()).collect()
    }

    /// What differs from training all alike, by option.
    pub(in crate::cli) fn in_words(&self) -> Vec<(&'static str, String)> {
        let mut words = Vec::new();
        if !self.freeze.0.is_empty() {
            words.push(("freeze", self.freeze.to_string()));
        }
        words.extend(self.group.iter().map(|group| ("group", group.text.clone())));
        words
    }
}

impl RunOptions {
    /// The network, frozen as the options say, and whether there is what they name.
    pub(in crate::cli) fn tuned(&self, decoder: &Decoder) -> Result<Network, Failure> {
        let of = |option, error| Failure::Usage(format!("--{option}: {error}"));
        let mut network = decoder.network()?;
        let KeysArg(freeze) = &self.tuning.freeze;
        if !freeze.is_empty() {
            let frozen = network.freeze_matching(freeze);
            network = frozen.map_err(|error| of("freeze", error))?;
        }
        let suits = self.optimizer()?.suits(&network.params());
        suits.map_err(|error| of("group", error))?;
        Ok(network)
    }
}

/// How many parameters there are, and how many of them train, if not all.
pub(in crate::cli) fn counted(network: &Network) -> String {
    let (mut all, mut trained) = (0, 0);
    for (_, param) in network.params() {
        let count = param.shape.elements();
        all += count;
        trained += if param.trains { count } else { 0 };
    }
    match trained == all {
        true => format!("{all} parameters"),
        false => format!("{all} parameters, of which {trained} train,"),
    }
}

/// Patterns of keys.
#[derive(Clone, Debug)]
struct KeysArg(Vec<KeyPattern>);

impl fmt::Display for KeysArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let patterns: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&patterns.join(","))
    }
}

impl FromStr for KeysArg {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == NONE {
            return Ok(Self(Vec::new()));
        }
        let patterns = text.split(',').map(str::trim);
        match patterns.clone().any(str::is_empty) {
            true => Err("give layers such as embed,h.0.*, or none".into()),
            false => Ok(Self(patterns.map(KeyPattern::from).collect())),
        }
    }
}

/// A group, as it was given.
#[derive(Clone, Debug)]
struct GroupArg {
    text: String,
    group: Group,
}

impl FromStr for GroupArg {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let problem = "give parameters and settings, such as 'h.0.*:lr=0.1,weight-decay=0'";
        let (keys, settings) = text.rsplit_once(':').ok_or(problem)?;
        let (mut group, mut seen) = (Group::of(keys.trim()), Vec::new());
        for setting in settings.split(',') {
            let (name, value) = setting.split_once('=').ok_or(problem)?;
            if seen.contains(&name.trim()) {
                return Err(format!("{} is there twice", name.trim()));
            }
            seen.push(name.trim());
            let value = super::number::<f64>(value.trim())?;
            group = match name.trim() {
                "lr" => group.lr(value),
                "weight-decay" => group.weight_decay(value),
                other => return Err(format!("no setting {other}; there are lr, weight-decay")),
            };
        }
        let text = text.to_owned();
        Ok(Self { text, group })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_read() {
        let group = |text: &str| text.parse::<GroupArg>().map(|arg| arg.group);
        let wanted = Group::of("h.0.*").lr(0.1).weight_decay(0.0);
        assert_eq!(group("h.0.*:lr=0.1,weight-decay=0"), Ok(wanted));
        assert_eq!(group(" *.bias : lr = 2 "), Ok(Group::of("*.bias").lr(2.0)));
        for (wrong, said) in [
            ("h.0.*", "such as"),
            ("h.0.*:", "such as"),
            ("h.0.*:lr", "such as"),
            ("h.0.*:lr=1,lr=2", "lr is there twice"),
            ("h.0.*:lr=x", "give a number"),
            ("h.0.*:rate=1", "no setting rate"),
        ] {
            let error = group(wrong).unwrap_err();
            assert!(error.contains(said), "{wrong}: {error}");
        }
    }

    #[test]
    fn frozen_layers_are_read() {
        let keys = |text: &str| text.parse::<KeysArg>().map(|arg| arg.to_string());
        assert_eq!(keys("none"), Ok(String::new()));
        assert_eq!(keys("embed, h.0.*"), Ok("embed,h.0.*".into()));
        assert!(keys("embed,").is_err() && keys("").is_err());
    }
}
