//! Lists in JSON files whose values are checked while they are read, where the reader still knows
//! the line.
//!
//! What is wrong with a value is said from inside its visitor: the reader puts the place to an
//! error when it leaves a value, and has gone on to the next line when it leaves an object.

use serde::Deserializer;
use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Unexpected, Visitor};
use std::collections::HashSet;
use std::fmt;
use std::marker::PhantomData;

/// A value that is a number, or text with a unit.
pub(super) trait Quantity {
    /// What it is.
    type Value;
    /// What to write, for whoever wrote something else.
    const EXPECTED: &'static str;
    /// Of a number.
    fn of_number(number: f64) -> Result<Self::Value, String>;
    /// Of text, if it may be that.
    fn of_text(_: &str) -> Option<Result<Self::Value, String>> {
        None
    }
}

/// Reads a [`Quantity`].
pub(super) struct Read<Q>(PhantomData<Q>);

/// Reads a [`Quantity`].
pub(super) fn read<Q>() -> Read<Q> {
    Read(PhantomData)
}

impl<'de, Q: Quantity> DeserializeSeed<'de> for Read<Q> {
    type Value = Q::Value;
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Q::Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<Q: Quantity> Visitor<'_> for Read<Q> {
    type Value = Q::Value;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Q::EXPECTED)
    }
    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Q::Value, E> {
        Q::of_number(number).map_err(E::custom)
    }
    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Q::Value, E> {
        // Only beyond 2^53 is this rounded, and nothing counts that far.
        self.visit_f64(number as f64)
    }
    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Q::Value, E> {
        self.visit_f64(number as f64)
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<Q::Value, E> {
        match Q::of_text(text) {
            Some(value) => {
                value.map_err(|problem| E::custom(format!("{:?}: {problem}", shortened(text))))
            }
            None => Err(E::invalid_type(Unexpected::Str(&shortened(text)), &self)),
        }
    }
}

/// Text that fits an error message.
pub(super) fn shortened(text: &str) -> String {
    const MOST: usize = 60;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

/// What was seen of a list so far.
#[derive(Default)]
pub(super) struct Seen {
    count: usize,
    names: HashSet<String>,
    /// Bytes of all that it describes.
    pub(super) bytes: u64,
}

impl Seen {
    /// Whether there is one of this name so far.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.names.contains(name)
    }
}

impl<'de> DeserializeSeed<'de> for &mut Seen {
    type Value = String;
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<String, D::Error> {
        from.deserialize_str(self)
    }
}

/// Names are not empty, and no two are the same.
impl Visitor<'_> for &mut Seen {
    type Value = String;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name, as text")
    }
    fn visit_str<E: de::Error>(self, name: &str) -> Result<String, E> {
        if name.is_empty() {
            return Err(E::custom("an empty name"));
        }
        if !self.names.insert(name.to_owned()) {
            let name = shortened(name);
            return Err(E::custom(format!(
                "there is a {name:?} already; names must differ"
            )));
        }
        Ok(name.to_owned())
    }
}

/// What a list is made of.
pub(super) trait Element: Sized {
    /// One of them, and several.
    const WORDS: [&'static str; 2];
    /// How an object is said to be.
    const EXPECTED: &'static str;
    /// How few there may be.
    const LEAST: usize;
    /// How many.
    const MOST: usize;
    /// What an object around the list may have: the list first.
    const AROUND: &'static [&'static str];
    /// Reads the fields of one.
    fn fields<'de, A: MapAccess<'de>>(map: A, seen: &mut Seen) -> Result<Self, A::Error>;
}

struct One<'a, T>(&'a mut Seen, PhantomData<T>);

impl<'de, T: Element> DeserializeSeed<'de> for One<'_, T> {
    type Value = T;
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<T, D::Error> {
        self.0.count += 1;
        if self.0.count > T::MOST {
            let problem = format!(
                "more than {} {}, the most that there may be",
                T::MOST,
                T::WORDS[1]
            );
            return Err(de::Error::custom(problem));
        }
        from.deserialize_map(self)
    }
}

impl<'de, T: Element> Visitor<'de> for One<'_, T> {
    type Value = T;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::fields(map, self.0)
    }
}

/// Reads one element by itself.
pub(super) fn one<'de, T: Element, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    One(&mut Seen::default(), PhantomData).deserialize(from)
}

struct List<T>(PhantomData<T>);

impl<'de, T: Element> DeserializeSeed<'de> for List<T> {
    type Value = Vec<T>;
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Vec<T>, D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de, T: Element> Visitor<'de> for List<T> {
    type Value = Vec<T>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of {}", T::WORDS[1])
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
        let (mut seen, mut list) = (Seen::default(), Vec::new());
        while let Some(element) = seq.next_element_seed(One(&mut seen, PhantomData))? {
            list.push(element);
        }
        if list.len() < T::LEAST {
            let (found, [one, several]) = (list.len(), T::WORDS);
            let word = |count| if count == 1 { one } else { several };
            let (found, least) = (
                format!("{found} {}", word(found)),
                format!("{} {}", T::LEAST, word(T::LEAST)),
            );
            return Err(de::Error::custom(format!("{found}; give at least {least}")));
        }
        Ok(list)
    }
}

/// A list, and how many of its units of time make a second where something says so.
pub(super) struct Document<T> {
    pub(super) unit: Option<f64>,
    pub(super) list: Vec<T>,
}

/// Reads a list by itself, or an object that holds it.
pub(super) fn document<'de, T: Element, D: Deserializer<'de>>(
    from: D,
) -> Result<Document<T>, D::Error> {
    from.deserialize_any(Around(PhantomData))
}

struct Around<T>(PhantomData<T>);

impl<'de, T: Element> Visitor<'de> for Around<T> {
    type Value = Document<T>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a list of {}, or an object with {:?}",
            T::WORDS[1],
            T::AROUND[0]
        )
    }
    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Document<T>, A::Error> {
        let (unit, list) = (None, List(PhantomData).visit_seq(seq)?);
        Ok(Document { unit, list })
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Document<T>, A::Error> {
        let (mut unit, mut list) = (None, None);
        while let Some(key) = map.next_key::<String>()? {
            match T::AROUND.iter().position(|known| *known == key) {
                Some(0) => once(&mut map, &mut list, T::AROUND[0], List(PhantomData))?,
                Some(_) => once(&mut map, &mut unit, "unit", read::<TimeUnit>())?,
                None => return Err(unknown(&key, T::AROUND)),
            }
        }
        let list = list.ok_or_else(|| de::Error::missing_field(T::AROUND[0]))?;
        Ok(Document { unit, list })
    }
}

/// The name of a unit of time: how many make a second.
struct TimeUnit;

impl Quantity for TimeUnit {
    type Value = f64;
    const EXPECTED: &'static str = "a unit of time: s, ms, us or ns";
    fn of_number(number: f64) -> Result<f64, String> {
        Err(format!("a unit of {number}; give one of s, ms, us or ns"))
    }
    fn of_text(text: &str) -> Option<Result<f64, String>> {
        Some(super::units::per_second(text))
    }
}

/// Reads the value of a field that may be there once.
pub(super) fn once<'de, A: MapAccess<'de>, S: DeserializeSeed<'de>>(
    map: &mut A,
    slot: &mut Option<S::Value>,
    name: &'static str,
    seed: S,
) -> Result<(), A::Error> {
    if slot.is_some() {
        return Err(de::Error::duplicate_field(name));
    }
    *slot = Some(map.next_value_seed(seed)?);
    Ok(())
}

/// The value of a field that must be there; `of` says whose.
pub(super) fn needed<T, E: de::Error>(value: Option<T>, of: &str, field: &str) -> Result<T, E> {
    value.ok_or_else(|| E::custom(format!("{of} has no `{field}`")))
}

/// How an object with this name is called, if it has one.
pub(super) fn called(what: &str, name: Option<&str>) -> String {
    match name {
        Some(name) => format!("{what} {:?}", shortened(name)),
        None => format!("this {what}"),
    }
}

/// A field that nobody knows.
pub(super) fn unknown<E: de::Error>(key: &str, fields: &'static [&'static str]) -> E {
    E::unknown_field(&shortened(key), fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::DescribedLayer;

    #[test]
    fn one_more_than_the_most_is_refused_before_it_is_read() {
        let count = DescribedLayer::MOST;
        let mut seen = Seen {
            count,
            ..Seen::default()
        };
        let mut from = serde_json::Deserializer::from_str("{]");
        let one = One::<DescribedLayer>(&mut seen, PhantomData);
        let error = one.deserialize(&mut from).unwrap_err().to_string();
        assert!(error.contains("more than 1000000 layers"), "{error}");
    }

    #[test]
    fn messages_stay_short() {
        assert_eq!(shortened("short"), "short");
        assert_eq!(shortened(&"\u{fc}".repeat(1000)).chars().count(), 63);
    }
}
