//! Which layers make which stage, as one line of text: `Et*3|(tt|)*29L`.
//!
//! | text | meaning |
//! |---|---|
//! | <code>&#124;</code> | the next stage begins |
//! | `E` | all that comes before the blocks: the embedding |
//! | `t` | one block, whole: attention and MLP, two layers, in a GPT |
//! | `L` | all that comes after the blocks: the last norm, the head and the loss |
//! | `l` | any one layer |
//! | `x*3` | a letter three times |
//! | `(..)*3` | a group three times; groups may be in groups |
//! | commas, spaces | nothing |
//!
//! # Source
//! Megatron-Core's `--pipeline-model-parallel-layout`. There stages may be empty and `m` is
//! multi-token prediction; here every stage has a layer, `l` is new, and groups nest.

use crate::error::PlanError;
use symbols::Layout;

mod symbols;

/// What a stage is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Letter {
    /// `E`: all that comes before the blocks.
    Before,
    /// `t`: one block.
    Block,
    /// `L`: all that comes after the blocks.
    After,
    /// `l`: any one layer.
    Layer,
}

/// Letters of every stage.
///
/// # Example
/// ```
/// use brigade::planner::layout_string::{Letter::*, parse};
/// let stages = parse("Et*2 | (t|)*2 L")?;
/// assert_eq!(stages, [vec![Before, Block, Block], vec![Block], vec![Block], vec![After]]);
/// # Ok::<(), brigade::PlanError>(())
/// ```
///
/// # Errors
/// Says at which character what is wrong.
pub fn parse(text: &str) -> Result<Vec<Vec<Letter>>, PlanError> {
    let stages = Layout(text).stages()?;
    let letters = |stage: Vec<(Letter, usize)>| stage.into_iter().map(|(letter, _)| letter);
    Ok(stages
        .into_iter()
        .map(|stage| letters(stage).collect())
        .collect())
}

/// The first layers of all stages but the first, as [`Cuts::Before`](crate::Cuts) takes them, of a
/// network with `before` layers before its blocks, `blocks` of `per_block` layers, and `after`
/// layers after them. The layout must name all of them in order.
///
/// # Example
/// ```
/// use brigade::planner::layout_string::cuts;
/// // A GPT of 4 blocks: embedding, 4 times attention and MLP, last norm, head and loss.
/// assert_eq!(cuts("Et|tt|tL", 1, 4, 2, 3)?, [3, 7]);
/// # Ok::<(), brigade::PlanError>(())
/// ```
///
/// # Errors
/// Says at which character what is missing or too much.
pub fn cuts(
    text: &str,
    before: usize,
    blocks: usize,
    per_block: usize,
    after: usize,
) -> Result<Vec<usize>, PlanError> {
    let layout = Layout(text);
    let network = Shape {
        before,
        blocks,
        per_block,
        after,
    };
    let (mut next, mut cuts) = (0, Vec::new());
    for (number, stage) in layout.stages()?.into_iter().enumerate() {
        if number > 0 {
            cuts.push(next);
        }
        for (letter, at) in stage {
            next += network
                .take(letter, next)
                .map_err(|problem| layout.wrong(at, problem))?;
        }
    }
    match network.after_layer(next) {
        None => Ok(cuts),
        Some(missing) => Err(layout.wrong(layout.end(), format!("{missing} missing at the end"))),
    }
}

/// How many layers a network has where.
struct Shape {
    before: usize,
    blocks: usize,
    per_block: usize,
    after: usize,
}

impl Shape {
    fn blocks_end(&self) -> usize {
        self.before
            .saturating_add(self.blocks.saturating_mul(self.per_block))
    }

    /// How many layers a letter is where `next` comes next.
    fn take(&self, letter: Letter, next: usize) -> Result<usize, String> {
        let rest = || match self.after_layer(next) {
            Some(rest) => format!("next there are {rest}"),
            None => "all layers are in stages already".to_owned(),
        };
        let in_blocks = (self.before..self.blocks_end()).contains(&next);
        let at_block = in_blocks && (next - self.before).is_multiple_of(self.per_block);
        match letter {
            Letter::Before if next == 0 && self.before > 0 => Ok(self.before),
            Letter::Before if self.before == 0 => {
                Err("E, and the network has nothing before its blocks".to_owned())
            }
            Letter::Before => Err(format!("E, which comes first and once; {}", rest())),
            Letter::Block if at_block => Ok(self.per_block),
            Letter::Block if self.blocks == 0 => {
                Err("t, and the network has no blocks; name single layers by l".to_owned())
            }
            Letter::Block if in_blocks => Err(format!("t in the middle of a block; {}", rest())),
            Letter::Block => Err(format!("one t too many; {}", rest())),
            Letter::After if self.after > 0 && next == self.blocks_end() => Ok(self.after),
            Letter::After if self.after == 0 => {
                Err("L, and the network has nothing after its blocks".to_owned())
            }
            Letter::After => Err(format!("L, which comes last and once; {}", rest())),
            Letter::Layer if self.after_layer(next).is_some() => Ok(1),
            Letter::Layer => Err(format!("one l too many; {}", rest())),
        }
    }

    /// What remains from this layer on, if anything does.
    fn after_layer(&self, next: usize) -> Option<String> {
        let end = self.blocks_end();
        let some = |count, one: &str, more: &str| match count {
            0 => None,
            1 => Some(format!("1 {one}")),
            _ => Some(format!("{count} {more}")),
        };
        let first = match self.before.saturating_sub(next) {
            0 => None,
            all if all == self.before => Some("E".to_owned()),
            part => some(part, "layer before the blocks", "layers before the blocks"),
        };
        let in_blocks = end.saturating_sub(next.max(self.before));
        let per_block = self.per_block.max(1);
        let part = some(
            in_blocks % per_block,
            "layer of a block",
            "layers of a block",
        );
        let blocks = some(in_blocks / per_block, "block (t)", "blocks (t)");
        let last = match end.saturating_add(self.after).saturating_sub(next.max(end)) {
            0 => None,
            all if all == self.after => Some("L".to_owned()),
            part => some(part, "layer after the blocks", "layers after the blocks"),
        };
        let all: Vec<_> = [first, part, blocks, last].into_iter().flatten().collect();
        (!all.is_empty()).then(|| all.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::Letter::{After, Before, Block, Layer};
    use super::symbols::MOST;
    use super::*;

    fn error(text: &str, [before, blocks, per_block, after]: [usize; 4]) -> (usize, String) {
        match cuts(text, before, blocks, per_block, after) {
            Err(PlanError::Layout { at, problem, .. }) => (at, problem),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn megatrons_example_means_the_same() {
        let stages = parse("Et*3|(tt|)*29L").unwrap();
        assert_eq!(stages.len(), 31);
        assert_eq!(stages[0], [Before, Block, Block, Block]);
        assert!(stages[1..30].iter().all(|stage| *stage == [Block, Block]));
        assert_eq!(stages[30], [After]);
        let wanted: Vec<_> = (0..30).map(|stage| 7 + 4 * stage).collect();
        assert_eq!(cuts("Et*3|(tt|)*29,L", 1, 61, 2, 3).unwrap(), wanted);
    }

    #[test]
    fn groups_nest_and_what_separates_words_means_nothing() {
        assert_eq!(parse("l").unwrap(), [[Layer]]);
        assert_eq!(parse(" E , t * 2 ").unwrap(), [[Before, Block, Block]]);
        assert_eq!(
            parse("((tl)*2|)*2t").unwrap(),
            parse("tltl|tltl|t").unwrap()
        );
        assert_eq!(parse("(t)*1").unwrap(), [[Block]]);
        assert_eq!(parse("(t|t)*3").unwrap(), parse("t|tt|tt|t").unwrap());
    }

    #[test]
    fn cuts_are_where_stages_begin() {
        for (text, shape, wanted) in [
            ("Et|tt|tL", [1, 4, 2, 3], vec![3, 7]),
            ("EttttL", [1, 4, 2, 3], vec![]),
            // A block may be cut apart by naming its layers.
            ("Etl|lt*2|L", [1, 4, 2, 3], vec![4, 9]),
            ("l*5|l*7", [1, 4, 2, 3], vec![5]),
            ("l|l|(l|)*2l", [0, 0, 0, 5], vec![1, 2, 3, 4]),
            ("t*3|t*2", [0, 5, 1, 0], vec![3]),
            ("E|L", [2, 0, 2, 2], vec![2]),
        ] {
            let [before, blocks, per_block, after] = shape;
            let found = cuts(text, before, blocks, per_block, after);
            assert_eq!(found.unwrap(), wanted, "{text}");
        }
    }

    #[test]
    fn what_does_not_fit_the_network_is_said_with_its_place() {
        let gpt = [1, 4, 2, 3];
        for (text, shape, at, words) in [
            ("Ett|tt", gpt, 6, "L missing at the end"),
            (
                "Ett|tL",
                gpt,
                6,
                "comes last and once; next there are 1 block (t), L",
            ),
            ("Ett|ttt|L", gpt, 7, "one t too many; next there are L"),
            ("Et*90|L", gpt, 2, "one t too many"),
            ("Ett|ttLL", gpt, 8, "all layers are in stages already"),
            (
                "tt|ttL",
                gpt,
                1,
                "one t too many; next there are E, 4 blocks (t), L",
            ),
            ("EEtt|ttL", gpt, 2, "comes first and once"),
            (
                "Etl|ttt",
                gpt,
                5,
                "in the middle of a block; next there are 1 layer of a block, 2",
            ),
            ("Etttt|lL", gpt, 8, "2 layers after the blocks"),
            ("Et*4|l*4", gpt, 6, "one l too many"),
            ("E", gpt, 1, "4 blocks (t), L missing"),
            ("El", [1, 0, 0, 2], 2, "1 layer after the blocks missing"),
            ("Ell", [0, 0, 0, 2], 1, "nothing before its blocks"),
            ("tl", [0, 0, 0, 2], 1, "no blocks"),
            ("tL", [0, 1, 2, 0], 2, "nothing after its blocks"),
            (
                "ll",
                [3, 0, 0, 2],
                2,
                "1 layer before the blocks, L missing",
            ),
        ] {
            let (found, problem) = error(text, shape);
            assert_eq!(found, at, "{text}: {problem}");
            assert!(problem.contains(words), "{text}: {problem}");
        }
    }

    #[test]
    fn what_is_no_layout_is_said_with_its_place() {
        for (text, at, words) in [
            ("", 1, "stage 0 has no layer"),
            ("|t", 1, "stage 0 has no layer"),
            ("t||t", 3, "stage 1 has no layer"),
            ("t|", 2, "stage 1 has no layer"),
            ("(tt|)*29", 8, "stage 29 has no layer"),
            ("t x", 3, "'x' is none of"),
            ("Em", 2, "'m' is none of"),
            ("T", 1, "'T' is none of"),
            ("t\u{fc}|", 2, "is none of"),
            ("(t", 1, "never closed"),
            ("t)", 2, "no group is open"),
            ("()*1000000000000", 2, "empty group"),
            ("*3", 1, "repeats nothing"),
            ("|*3", 2, "repeats nothing"),
            ("t*3*2", 4, "repeats nothing"),
            ("t*", 2, "how often"),
            ("t*x", 2, "how often"),
            ("t*0", 2, "how often"),
            ("t*-1", 2, "how often"),
            ("t3", 2, "'3' is none of"),
            ("t*1000001", 2, "more than 1000000"),
            ("t*99999999999999999999999999", 2, "more than 1000000"),
            ("(((t*1000)*1000)*1000)*1000", 17, "more than 1000000"),
            ("(t|)*600000", 5, "more than 1000000"),
        ] {
            let (found, problem) = error(text, [1, 4, 2, 3]);
            assert_eq!(found, at, "{text}: {problem}");
            assert!(problem.contains(words), "{text}: {problem}");
        }
        let long = "t".repeat(MOST + 1);
        let error = parse(&long).unwrap_err().to_string();
        assert!(
            error.contains("more than 1000000") && error.len() < 200,
            "{error}"
        );
        assert_eq!(parse("l*1000000").unwrap()[0].len(), MOST);
        let error = parse("Ett|tx").unwrap_err().to_string();
        assert_eq!(
            error,
            "layout \"Ett|tx\", character 6: 'x' is none of E, t, L, l, |, *, ( and )"
        );
    }
}
