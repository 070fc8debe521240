//! Settings of a `config.json`, read by name and type. `null` is as good as nothing.

use super::HuggingFaceError;
use super::error::brief;
use serde_json::{Map, Value};

/// More than any size has.
const MOST: f64 = (1u64 << 48) as f64;

/// The settings of an object.
pub(super) struct Settings<'a> {
    all: &'a Map<String, Value>,
    /// What the names of an inner object begin with in errors.
    within: &'static str,
}

type Result<T> = std::result::Result<T, HuggingFaceError>;

impl<'a> Settings<'a> {
    pub(super) fn new(all: &'a Map<String, Value>) -> Self {
        Self { all, within: "" }
    }

    /// A setting that is there.
    pub(super) fn get(&self, name: &str) -> Option<&'a Value> {
        self.all.get(name).filter(|value| !value.is_null())
    }

    /// The settings within one, if it is there and not empty.
    pub(super) fn inner(&self, name: &'static str) -> Result<Option<Self>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(inner)) if inner.is_empty() => Ok(None),
            Some(Value::Object(inner)) => Ok(Some(Self {
                all: inner,
                within: name,
            })),
            Some(_) => Err(self.refused(name, "an object")),
        }
    }

    /// The error that a setting has this value.
    pub(super) fn refused(&self, name: &str, supported: impl Into<String>) -> HuggingFaceError {
        let dot = if self.within.is_empty() { "" } else { "." };
        let value = self.get(name);
        let value = value.map_or("missing".to_owned(), Value::to_string);
        HuggingFaceError::Setting {
            setting: format!("{}{dot}{name}", self.within),
            value: brief(&value),
            supported: supported.into(),
        }
    }

    /// A whole number of at least 1, if it is there.
    pub(super) fn size_if(&self, name: &str) -> Result<Option<usize>> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let number = value.as_f64().filter(|number| number.fract() == 0.0);
        let number = number.filter(|number| (1.0..MOST).contains(number));
        match number {
            Some(number) => Ok(Some(number as usize)),
            None => Err(self.refused(name, "a whole number of at least 1")),
        }
    }

    pub(super) fn size(&self, name: &str, otherwise: usize) -> Result<usize> {
        Ok(self.size_if(name)?.unwrap_or(otherwise))
    }

    /// As [`Settings::size`], of a setting that goes by two names.
    pub(super) fn size_by(&self, names: [&str; 2], otherwise: usize) -> Result<usize> {
        let [one, other] = names;
        match (self.size_if(one)?, self.size_if(other)?) {
            (Some(size), Some(same)) if size != same => {
                Err(self.refused(other, format!("the same as {one}, which is {size}")))
            }
            (one, other) => Ok(one.or(other).unwrap_or(otherwise)),
        }
    }

    /// A number above 0, if it is there.
    pub(super) fn number_if(&self, name: &str) -> Result<Option<f64>> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let number = value.as_f64().filter(|number| number.is_finite());
        match number.filter(|number| *number > 0.0) {
            Some(number) => Ok(Some(number)),
            None => Err(self.refused(name, "a number above 0")),
        }
    }

    pub(super) fn number(&self, name: &str, otherwise: f64) -> Result<f64> {
        Ok(self.number_if(name)?.unwrap_or(otherwise))
    }

    /// One that is computed with in 32 bits.
    pub(super) fn single(&self, name: &str, otherwise: f64) -> Result<f32> {
        let number = self.number(name, otherwise)? as f32;
        match number.is_finite() {
            true => Ok(number),
            false => Err(self.refused(name, "a number that 32 bits can hold")),
        }
    }

    /// A number that must be there.
    pub(super) fn needed(&self, name: &str) -> Result<f64> {
        let number = self.number_if(name)?;
        number.ok_or_else(|| self.refused(name, "a number above 0"))
    }

    pub(super) fn flag(&self, name: &str, otherwise: bool) -> Result<bool> {
        match self.get(name) {
            None => Ok(otherwise),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(self.refused(name, "true and false")),
        }
    }

    pub(super) fn text(&self, name: &str, otherwise: &'a str) -> Result<&'a str> {
        match self.get(name) {
            None => Ok(otherwise),
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(self.refused(name, "a text")),
        }
    }

    /// A setting that may only be this, or left out.
    pub(super) fn is(&self, name: &str, wanted: bool) -> Result<()> {
        match self.flag(name, wanted)? == wanted {
            true => Ok(()),
            false => Err(self.refused(name, wanted.to_string())),
        }
    }

    /// A setting that may only be left out.
    pub(super) fn none(&self, name: &str, supported: &str) -> Result<()> {
        match self.get(name) {
            None => Ok(()),
            Some(_) => Err(self.refused(name, supported)),
        }
    }

    /// A list or object that may only be empty.
    pub(super) fn empty(&self, name: &str) -> Result<()> {
        match self.get(name) {
            Some(Value::Object(inner)) if inner.is_empty() => Ok(()),
            Some(Value::Array(inner)) if inner.is_empty() => Ok(()),
            None => Ok(()),
            Some(_) => Err(self.refused(name, "nothing")),
        }
    }

    /// Whether one of the settings is an object itself: another one for each kind of layer.
    pub(super) fn is_nested(&self) -> bool {
        self.all.values().any(Value::is_object)
    }
}
