//! What goes with a model wherever it goes: how its text becomes tokens, and how it is used.

use super::failure::Failure;
use super::model::HUGGING_FACE;
use super::run_folder::{NETWORK, TOKENIZER};
use crate::files::{read_found, write_whole};
use serde_json::{Map, Value};
use std::io;
use std::path::Path;

const MOST_CONFIG_BYTES: u64 = 1 << 20;
const MOST_BYTES: u64 = 256 << 20;
/// How text is generated, and which tokens begin and end it.
const GENERATION: &str = "generation_config.json";
/// The tokens that a `config.json` names, kept in a run folder.
const TOKEN_IDS: &str = "token_ids.json";
/// Their names there.
const TOKENS: [&str; 3] = ["bos_token_id", "eos_token_id", "pad_token_id"];
/// The names of all such files.
pub(super) const CARRIED: [&str; 10] = [
    TOKENIZER,
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    GENERATION,
    TOKEN_IDS,
];

/// What goes with a model, read.
#[derive(Debug, Default)]
pub(super) struct Carried(Vec<(&'static str, Vec<u8>)>);

impl Carried {
    /// Of a folder, as far as it is there.
    pub(super) fn of(folder: &Path) -> Result<Self, Failure> {
        let mut all = Vec::new();
        for name in CARRIED.into_iter().filter(|name| *name != TOKEN_IDS) {
            if let Some(content) = read(&folder.join(name), MOST_BYTES)? {
                all.push((name, content));
            }
        }
        let ids = token_ids(folder)?;
        if !ids.is_empty() {
            all.push((TOKEN_IDS, format!("{:#}\n", Value::from(ids)).into_bytes()));
        }
        Ok(Self(all))
    }

    /// Writes it into another folder: the names of the files.
    pub(super) fn write(&self, to: &Path) -> Result<Vec<&'static str>, Failure> {
        let write = |(name, content): &(&'static str, Vec<u8>)| {
            write_whole(&to.join(name), content)?;
            Ok(*name)
        };
        self.0.iter().map(write).collect()
    }

    /// Its names.
    pub(super) fn names(&self) -> Vec<&'static str> {
        self.0.iter().map(|(name, _)| *name).collect()
    }

    /// For another library: a `config.json` with the tokens that were named there, or where text is
    /// generated, and what goes beside it.
    pub(super) fn beside(mut self, config: &str) -> Result<(String, Self), Failure> {
        let fail = |error: serde_json::Error| Failure::Other(error.to_string());
        let mut config: Map<String, Value> = serde_json::from_str(config).map_err(fail)?;
        // The latter count more.
        for from in [GENERATION, TOKEN_IDS] {
            let content = self.0.iter().find(|(name, _)| *name == from);
            config.extend(content.map_or_else(Map::new, |(_, content)| tokens(content)));
        }
        self.0.retain(|(name, _)| *name != TOKEN_IDS);
        let config = serde_json::to_string_pretty(&config).map_err(fail)?;
        Ok((config + "\n", self))
    }
}

/// The tokens that the `config.json` of a model names, or named before it became a run.
pub(super) fn token_ids(folder: &Path) -> Result<Map<String, Value>, Failure> {
    let kept = match folder.join(NETWORK).exists() {
        true => TOKEN_IDS,
        false => HUGGING_FACE,
    };
    let content = read(&folder.join(kept), MOST_CONFIG_BYTES)?;
    Ok(content.map_or_else(Map::new, |content| tokens(&content)))
}

/// Those of a JSON file.
fn tokens(content: &[u8]) -> Map<String, Value> {
    let all = serde_json::from_slice::<Map<String, Value>>(content).unwrap_or_default();
    let all = all.into_iter();
    all.filter(|(name, value)| TOKENS.contains(&name.as_str()) && !value.is_null())
        .collect()
}

fn read(file: &Path, most: u64) -> Result<Option<Vec<u8>>, Failure> {
    match read_found(file, most) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Failure::file("read", file, &error)),
    }
}
