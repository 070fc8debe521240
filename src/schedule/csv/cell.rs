//! One cell: an action, a pair, or nothing.

use super::{CsvProblem, Dialect};
use crate::schedule::{Direction, Work};

/// What an action does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Compute(Work),
    Send(Direction),
    Receive(Direction),
    WaitSend(Direction),
    /// Parameters are gathered on the node.
    Unshard,
    /// Parameters are dropped again.
    Reshard,
    /// Gradients are finished: scaled, and summed over replicas.
    Reduce,
    WaitReduce,
}

/// What both dialects call the same.
const NAMES: [(&str, Kind); 12] = [
    ("F", Kind::Compute(Work::F)),
    ("W", Kind::Compute(Work::W)),
    ("SEND_F", Kind::Send(Direction::Forward)),
    ("SEND_B", Kind::Send(Direction::Backward)),
    ("RECV_F", Kind::Receive(Direction::Forward)),
    ("RECV_B", Kind::Receive(Direction::Backward)),
    ("WAIT_SEND_F", Kind::WaitSend(Direction::Forward)),
    ("WAIT_SEND_B", Kind::WaitSend(Direction::Backward)),
    ("UNSHARD", Kind::Unshard),
    ("RESHARD", Kind::Reshard),
    ("REDUCE_GRAD", Kind::Reduce),
    ("WAIT_REDUCE_GRAD", Kind::WaitReduce),
];

/// What they call differently: the backward for inputs, and the full one.
fn backward_names(dialect: Dialect) -> [(&'static str, Kind); 2] {
    let [inputs, full] = match dialect {
        Dialect::Year2024 => ["B", "BW"],
        Dialect::Year2025 | Dialect::Current => ["I", "B"],
    };
    [
        (inputs, Kind::Compute(Work::I)),
        (full, Kind::Compute(Work::B)),
    ]
}

impl Kind {
    fn names(dialect: Dialect) -> impl Iterator<Item = (&'static str, Self)> {
        NAMES.into_iter().chain(backward_names(dialect))
    }

    fn named(name: &str, dialect: Dialect) -> Option<Self> {
        let mut names = Self::names(dialect);
        names
            .find(|(known, _)| *known == name)
            .map(|(_, kind)| kind)
    }

    fn name(self, dialect: Dialect) -> &'static str {
        let found = Self::names(dialect).find(|(_, kind)| *kind == self);
        found.map_or("", |(name, _)| name)
    }

    /// Whether it is about a whole stage.
    fn of_stage(self) -> bool {
        use Kind::{Reduce, Reshard, Unshard, WaitReduce};
        matches!(self, Unshard | Reshard | Reduce | WaitReduce)
    }

    pub(super) fn is_backward(self) -> bool {
        matches!(self, Self::Compute(Work::I | Work::B))
    }

    /// Whether it adds to the gradients of the weights.
    pub(super) fn adds_gradients(self) -> bool {
        matches!(self, Self::Compute(Work::W | Work::B))
    }
}

/// An action as the file has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Action {
    pub(super) stage: u32,
    pub(super) kind: Kind,
    /// 0 for an action of a whole stage.
    pub(super) micro_batch: u32,
}

impl Action {
    pub(super) const fn new(stage: u32, kind: Kind, micro_batch: u32) -> Self {
        Self {
            stage,
            kind,
            micro_batch,
        }
    }

    /// As the file writes it.
    pub(super) fn text(self, dialect: Dialect) -> String {
        let Self {
            stage,
            kind,
            micro_batch,
        } = self;
        let name = kind.name(dialect);
        match kind.of_stage() {
            true => format!("{stage}{name}"),
            false => format!("{stage}{name}{micro_batch}"),
        }
    }
}

/// What a cell says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    Blank,
    One(Action),
    /// An F and the backward it overlaps.
    Pair(Action, Action),
}

impl Cell {
    pub(super) fn parse(text: &str, dialect: Dialect) -> Result<Self, CsvProblem> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(Self::Blank);
        }
        let Some(inside) = text.strip_prefix('(') else {
            return Ok(Self::One(action(text, dialect)?));
        };
        let inside = inside.strip_suffix(")OVERLAP_F_B");
        let halves = inside.and_then(|inside| inside.split_once(';'));
        let (first, second) = halves.ok_or(CsvProblem::Pair)?;
        // Parentheses, or a third half, inside: as a whole they are no pair.
        if second.contains([';', '(', ')']) || first.contains(['(', ')']) {
            return Err(CsvProblem::Pair);
        }
        let (first, second) = (
            action(first.trim(), dialect)?,
            action(second.trim(), dialect)?,
        );
        match first.kind == Kind::Compute(Work::F) && second.kind.is_backward() {
            true => Ok(Self::Pair(first, second)),
            false => Err(CsvProblem::Pair),
        }
    }
}

fn action(text: &str, dialect: Dialect) -> Result<Action, CsvProblem> {
    let (stage, rest) = split(text, |c| c.is_ascii_digit());
    let (name, rest) = split(rest, |c| c.is_ascii_uppercase() || c == '_');
    let (micro_batch, rest) = split(rest, |c| c.is_ascii_digit());
    if stage.is_empty() {
        return Err(CsvProblem::Unknown);
    }
    let Some(kind) = Kind::named(name, dialect) else {
        return Err(match name {
            "I" | "BW" => CsvProblem::OtherDialect,
            _ => CsvProblem::Unknown,
        });
    };
    let number = |digits: &str| digits.parse().map_err(|_| CsvProblem::TooLarge);
    let stage = number(stage)?;
    let good = || format!("{stage}{name}");
    let micro_batch = match (kind.of_stage(), micro_batch.is_empty()) {
        (true, true) => 0,
        (true, false) => return Err(CsvProblem::ExtraMicroBatch(good())),
        (false, true) => return Err(CsvProblem::NoMicroBatch(good())),
        (false, false) => number(micro_batch)?,
    };
    let action = Action::new(stage, kind, micro_batch);
    match rest.is_empty() {
        true => Ok(action),
        false => Err(CsvProblem::Trailing(action.text(dialect))),
    }
}

/// The longest front whose characters are of a sort, and the rest.
fn split(text: &str, sort: impl Fn(char) -> bool) -> (&str, &str) {
    let end = text.find(|c| !sort(c)).unwrap_or(text.len());
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_survives_a_round_trip_in_every_dialect() {
        for dialect in [Dialect::Current, Dialect::Year2025, Dialect::Year2024] {
            for (name, kind) in Kind::names(dialect) {
                let micro_batch = if kind.of_stage() { 0 } else { 34 };
                let action = Action::new(12, kind, micro_batch);
                let text = action.text(dialect);
                assert!(text.contains(name), "{text}");
                assert_eq!(Cell::parse(&text, dialect), Ok(Cell::One(action)));
            }
        }
    }

    #[test]
    fn the_same_letter_is_another_action_in_2024() {
        let work = |text, dialect| match Cell::parse(text, dialect) {
            Ok(Cell::One(Action {
                kind: Kind::Compute(work),
                ..
            })) => work,
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(work("0B0", Dialect::Current), Work::B);
        assert_eq!(work("0B0", Dialect::Year2024), Work::I);
        assert_eq!(work("0BW0", Dialect::Year2024), Work::B);
        for (text, dialect) in [("0BW0", Dialect::Current), ("0I0", Dialect::Year2024)] {
            assert_eq!(Cell::parse(text, dialect), Err(CsvProblem::OtherDialect));
        }
    }
}
