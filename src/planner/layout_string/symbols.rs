//! From characters to letters with their places, repetitions written out.

use super::Letter;
use crate::error::PlanError;

/// The most letters and bars of a layout, written out.
pub(super) const MOST: usize = 1_000_000;
/// So many characters of a layout are shown on either side of what is wrong.
const SHOWN: usize = 30;

#[derive(Clone, Copy)]
enum Symbol {
    Letter(Letter),
    Bar,
}

/// A layout as it was written.
pub(super) struct Layout<'a>(pub(super) &'a str);

impl Layout<'_> {
    /// Letters of every stage, with their places.
    pub(super) fn stages(&self) -> Result<Vec<Vec<(Letter, usize)>>, PlanError> {
        let mut stages = vec![Vec::new()];
        let empty = |number| format!("stage {number} has no layer");
        for (symbol, at) in self.symbols()? {
            let number = stages.len();
            match (symbol, stages.last_mut()) {
                (Symbol::Letter(letter), Some(stage)) => stage.push((letter, at)),
                (Symbol::Bar, Some(stage)) if stage.is_empty() => {
                    return Err(self.wrong(at, empty(number - 1)));
                }
                (Symbol::Bar, _) | (_, None) => stages.push(Vec::new()),
            }
        }
        match stages.last() {
            Some(stage) if stage.is_empty() => Err(self.wrong(self.end(), empty(stages.len() - 1))),
            _ => Ok(stages),
        }
    }

    /// Letters and bars with their places, repetitions written out.
    fn symbols(&self) -> Result<Vec<(Symbol, usize)>, PlanError> {
        let mut symbols = Vec::new();
        // Where open groups begin, and what a repetition would repeat.
        let (mut groups, mut last) = (Vec::new(), None);
        let mut rest = self.0.chars().zip(1..).peekable();
        while let Some((character, at)) = rest.next() {
            let symbol = match character {
                '|' => Symbol::Bar,
                'E' => Symbol::Letter(Letter::Before),
                't' => Symbol::Letter(Letter::Block),
                'L' => Symbol::Letter(Letter::After),
                'l' => Symbol::Letter(Letter::Layer),
                ',' | ' ' => continue,
                '(' => {
                    groups.push((symbols.len(), at));
                    last = None;
                    continue;
                }
                ')' => {
                    let Some((start, _)) = groups.pop() else {
                        return Err(self.wrong(at, "no group is open".into()));
                    };
                    if start == symbols.len() {
                        return Err(self.wrong(at, "an empty group".into()));
                    }
                    last = Some(start);
                    continue;
                }
                '*' => {
                    let Some(start) = last.take() else {
                        let problem = "repeats nothing; put it behind a letter or a group";
                        return Err(self.wrong(at, problem.into()));
                    };
                    while rest.next_if(|(space, _)| *space == ' ').is_some() {}
                    let mut number = String::new();
                    while let Some((digit, _)) = rest.next_if(|(c, _)| c.is_ascii_digit()) {
                        number.push(digit);
                    }
                    if number.is_empty() || number.bytes().all(|digit| digit == b'0') {
                        let problem = "how often? Put a number of 1 or more behind it";
                        return Err(self.wrong(at, problem.into()));
                    }
                    let times = number.parse().unwrap_or(usize::MAX);
                    let length = (symbols.len() - start).saturating_mul(times);
                    if start.saturating_add(length) > MOST {
                        return Err(self.too_long(at));
                    }
                    let end = symbols.len();
                    (1..times).for_each(|_| symbols.extend_from_within(start..end));
                    continue;
                }
                other => {
                    let problem = format!("{other:?} is none of E, t, L, l, |, *, ( and )");
                    return Err(self.wrong(at, problem));
                }
            };
            last = matches!(symbol, Symbol::Letter(_)).then_some(symbols.len());
            symbols.push((symbol, at));
            if symbols.len() > MOST {
                return Err(self.too_long(at));
            }
        }
        match groups.pop() {
            Some((_, at)) => Err(self.wrong(at, "this group is never closed".into())),
            None => Ok(symbols),
        }
    }

    /// The place of the last character.
    pub(super) fn end(&self) -> usize {
        self.0.chars().count().max(1)
    }

    fn too_long(&self, at: usize) -> PlanError {
        self.wrong(at, format!("more than {MOST} letters and bars"))
    }

    /// An error at this character.
    pub(super) fn wrong(&self, at: usize, problem: String) -> PlanError {
        let start = at.saturating_sub(SHOWN + 1);
        let mut rest = self.0.chars().skip(start);
        let shown: String = rest.by_ref().take(2 * SHOWN).collect();
        let dots = |there| if there { "..." } else { "" };
        let (begun, goes_on) = (dots(start > 0), dots(rest.next().is_some()));
        PlanError::Layout {
            layout: format!("{begun}{shown}{goes_on}"),
            at,
            problem,
        }
    }
}
