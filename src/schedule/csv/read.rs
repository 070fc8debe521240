//! From text to a definition: rows, then stages, then the laws.

use super::cell::{Action, Cell, Kind};
use super::verify::{Stages, verify};
use super::{CsvError, CsvProblem, Dialect, Format};
use crate::ids::{MicroBatchCount, MicroBatchId, NodeId, StageId};
use crate::placement::Placement;
use crate::schedule::{Compute, Definition, Work};
use std::collections::BTreeMap;

/// A file needs some ten times its size in memory: as text, as cells, as a definition. 64 nodes of
/// 4 stages with 1024 micro-batches and all their messages take some 30 MB.
pub(super) const MOST_BYTES: u64 = 64 << 20;
/// Every row is a node.
pub(super) const MOST_ROWS: usize = 65_536;

/// An action with the column it is in. Both halves of a pair are in the same.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) column: u32,
    pub(super) action: Action,
    /// Whether a pair begins here.
    pub(super) pair: bool,
}

/// One row as read.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    pub(super) entries: Vec<Entry>,
    /// The column after the last cell.
    pub(super) end: usize,
}

/// Where something is wrong, and what: row and column from 1.
pub(super) type Wrong = (usize, usize, CsvProblem);

type Parsed = (Format, Placement, MicroBatchCount, Definition);

pub(super) fn read(text: &str, dialect: Dialect) -> Result<Parsed, Box<CsvError>> {
    // Spreadsheets write a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    understood(text, dialect).map_err(|(row, column, problem)| {
        let cell = cell_at(text, row, column).unwrap_or_default();
        CsvError::new(row, column, cell, problem)
    })
}

fn understood(text: &str, dialect: Dialect) -> Result<Parsed, Wrong> {
    if text.len() as u64 > MOST_BYTES {
        return Err((1, 1, CsvProblem::TooLong(MOST_BYTES)));
    }
    let (rows, format) = rows(text, dialect)?;
    let node_of = place(&rows)?;
    let micro_batches = count(&rows, node_of.len(), dialect)?;
    let stages = Stages {
        node_of: &node_of,
        micro_batches,
    };
    verify(&rows, stages, format, dialect)?;
    let node_of = node_of.into_iter().map(|node| NodeId::new(node as u32));
    let placement = Placement::of(node_of.collect()).ok_or((1, 1, CsvProblem::IdleRow))?;
    let count = MicroBatchCount::new(micro_batches);
    Ok((format, placement, count, definition(&rows)))
}

/// The cells of a line. No cell that can be read has a comma or a quote in it, so quotes are only
/// ever around a whole one.
fn cells(line: &str) -> impl Iterator<Item = &str> {
    line.split(',').map(|cell| {
        let inside = cell
            .strip_prefix('"')
            .and_then(|cell| cell.strip_suffix('"'));
        inside.unwrap_or(cell).trim()
    })
}

/// The text of a cell, for an error.
fn cell_at(text: &str, row: usize, column: usize) -> Option<&str> {
    cells(text.lines().nth(row - 1)?).nth(column - 1)
}

/// Every line is a row: also a blank one is a node, and one that does nothing.
fn rows(text: &str, dialect: Dialect) -> Result<(Vec<Row>, Format), Wrong> {
    let (mut rows, mut blank, mut format) = (Vec::new(), None, Format::ComputeOnly);
    for (line, number) in text.lines().zip(1..) {
        if number > MOST_ROWS {
            return Err((number, 1, CsvProblem::TooManyRows));
        }
        if let Some(at) = line.find('\r') {
            let column = cells(&line[..at]).count();
            return Err((number, column, CsvProblem::CarriageReturn));
        }
        let mut row = Row::default();
        for (cell, column) in cells(line).zip(1..) {
            row.end = column as usize + 1;
            let parsed = Cell::parse(cell, dialect);
            let parsed = parsed.map_err(|problem| (number, column as usize, problem))?;
            let (first, second) = match parsed {
                Cell::Blank => {
                    blank.get_or_insert((number, column as usize));
                    continue;
                }
                Cell::One(action) => (action, None),
                Cell::Pair(first, second) => (first, Some(second)),
            };
            if !matches!(first.kind, Kind::Compute(_)) {
                format = Format::ComputeComms;
            }
            let mut push = |action, pair| {
                row.entries.push(Entry {
                    column,
                    action,
                    pair,
                });
            };
            push(first, second.is_some());
            if let Some(second) = second {
                push(second, false);
            }
        }
        let computes = |entry: &Entry| matches!(entry.action.kind, Kind::Compute(_));
        if !row.entries.iter().any(computes) {
            return Err((number, 1, CsvProblem::IdleRow));
        }
        row.entries.shrink_to_fit();
        rows.push(row);
    }
    match (rows.is_empty(), blank) {
        (true, _) => Err((1, 1, CsvProblem::NoRows)),
        (_, Some((row, column))) if format == Format::ComputeComms => {
            Err((row, column, CsvProblem::Blank))
        }
        _ => Ok((rows, format)),
    }
}

/// The row of every stage. Nothing is allocated for a stage that is not there.
fn place(rows: &[Row]) -> Result<Vec<usize>, Wrong> {
    let mut places = BTreeMap::<u32, (usize, u32)>::new();
    for (node, row) in rows.iter().enumerate() {
        for Entry { column, action, .. } in &row.entries {
            let (first, _) = *places.entry(action.stage).or_insert((node, *column));
            if first != node {
                let (stage, row) = (action.stage, first + 1);
                let problem = CsvProblem::OtherRow { stage, row };
                return Err((node + 1, *column as usize, problem));
            }
        }
    }
    let mut node_of = Vec::with_capacity(places.len());
    for ((stage, (node, column)), expected) in places.into_iter().zip(0..) {
        if stage != expected {
            return Err((node + 1, column as usize, CsvProblem::NoStage(expected)));
        }
        node_of.push(node);
    }
    Ok(node_of)
}

/// How many micro-batches: all stages do F once for each, without a gap. That bounds what is
/// allocated for a stage and a micro-batch by the size of the file.
fn count(rows: &[Row], stages: usize, dialect: Dialect) -> Result<u32, Wrong> {
    let mut forwards = vec![Vec::new(); stages];
    let mut ends = vec![(0, 0); stages];
    for (row, number) in rows.iter().zip(1u32..) {
        for Entry { column, action, .. } in &row.entries {
            ends[action.stage as usize] = (number as usize, row.end);
            if action.kind == Kind::Compute(Work::F) {
                forwards[action.stage as usize].push((action.micro_batch, number, *column));
            }
        }
    }
    let most = forwards.iter().map(Vec::len).max().unwrap_or_default() as u32;
    for ((stage, forwards), (row, end)) in (0..).zip(&mut forwards).zip(ends) {
        let missing = |m| Action::new(stage, Kind::Compute(Work::F), m).text(dialect);
        forwards.sort_unstable();
        for ((micro_batch, row, column), expected) in forwards.iter().copied().zip(0..) {
            let problem = match micro_batch {
                m if m < expected => CsvProblem::Twice,
                m if m > expected => CsvProblem::NoSuchMicroBatch(missing(expected)),
                _ => continue,
            };
            return Err((row as usize, column as usize, problem));
        }
        if forwards.len() < most as usize {
            let problem = CsvProblem::Missing(missing(forwards.len() as u32));
            return Err((row, end, problem));
        }
    }
    // Files without a forward are refused below: a backward needs one.
    Ok(most)
}

fn definition(rows: &[Row]) -> Definition {
    let compute = |entry: &Entry| match entry.action {
        Action {
            stage,
            kind: Kind::Compute(work),
            micro_batch,
        } => Some((
            Compute::new(StageId::new(stage), work, MicroBatchId::new(micro_batch)),
            entry.pair,
        )),
        _ => None,
    };
    let (mut nodes, mut pairs) = (Vec::new(), Vec::new());
    for row in rows {
        let (mut list, mut begins) = (Vec::new(), Vec::new());
        for (compute, pair) in row.entries.iter().filter_map(compute) {
            if pair {
                begins.push(list.len() as u32);
            }
            list.push(compute);
        }
        nodes.push(list);
        pairs.push(begins);
    }
    if pairs.iter().all(Vec::is_empty) {
        pairs.clear();
    }
    Definition { nodes, pairs }
}
