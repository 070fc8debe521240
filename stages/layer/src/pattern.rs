//! Patterns of keys: of layers and of parameters.

use crate::LayerError;
use serde::{Deserialize, Serialize};
use std::fmt;
use wildmatch::WildMatch;

/// A pattern of keys: `*` stands for any characters, dots included, and `?` for one. A whole key
/// must match.
///
/// ```
/// use brigade_layer::KeyPattern;
/// assert!(KeyPattern::from("h.0.*").matches("h.0.attn.c_attn.weight"));
/// assert!(KeyPattern::from("*.bias").matches("ln_f.bias"));
/// assert!(!KeyPattern::from("h.0").matches("h.0.attn"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyPattern(String);

impl KeyPattern {
    /// Whether a key matches.
    pub fn matches(&self, key: &str) -> bool {
        WildMatch::new(&self.0).matches(key)
    }
}

impl From<&str> for KeyPattern {
    fn from(pattern: &str) -> Self {
        Self(pattern.to_owned())
    }
}

impl fmt::Display for KeyPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// So many characters of keys are listed in an error.
const MOST_LISTED: usize = 240;

impl LayerError {
    /// A pattern matches none of these keys, of layers or of parameters.
    pub fn no_such_key<'a>(
        of: &'static str,
        pattern: &KeyPattern,
        keys: impl Iterator<Item = &'a str>,
    ) -> Self {
        Self::NoSuchKey {
            of,
            pattern: pattern.to_string(),
            there_are: listed(keys),
        }
    }
}

/// The first of these keys.
pub(crate) fn listed<'a>(keys: impl Iterator<Item = &'a str>) -> String {
    let mut list = String::new();
    for key in keys {
        if list.len() + key.len() > MOST_LISTED {
            list += ", ..";
            break;
        }
        let comma = if list.is_empty() { "" } else { ", " };
        list += &format!("{comma}{key}");
    }
    list
}
