//! Rotation of pairs of a head's columns by their position.

use crate::kernels::math::sin_cos;
use crate::kernels::parallel::{Out, spread, vectorised};
use std::ops::Range;

/// Positions of a sequence and how they turn.
#[derive(Clone, Copy)]
pub(crate) struct Turns<'a> {
    /// Radians of one position, for each pair.
    pub(crate) frequencies: &'a [f32],
    /// What rotated numbers are multiplied with.
    pub(crate) length: f32,
    /// The position of a sequence's first row.
    pub(crate) first: usize,
}

/// Cosines, then sines, of the pairs at each position.
///
/// # Shapes
/// table [T, C].
pub(crate) fn table(table: &mut [f32], turns: Turns<'_>, threads: usize) {
    let (columns, elements) = (2 * turns.frequencies.len(), table.len());
    let positions = turns.first..turns.first + elements / columns.max(1);
    let work = (Out(table, columns), positions);
    // A pair takes some thirty operations.
    spread(threads, 16 * elements, work, |(table, positions)| {
        fill(table.0, positions.start, turns);
    });
}

vectorised! {
    fn fill(table: &'a mut [f32], first: usize, turns: Turns<'a>) {
        let pairs = turns.frequencies.len();
        for (row, position) in table.chunks_exact_mut(2 * pairs).zip(first..) {
            let (cosines, sines) = row.split_at_mut(pairs);
            let position = position as f32;
            let each = cosines.iter_mut().zip(sines).zip(turns.frequencies);
            for ((cosine, sine), frequency) in each {
                let (sin, cos) = sin_cos(position * frequency);
                *cosine = cos * turns.length;
                *sine = sin * turns.length;
            }
        }
    }
}

/// Which way pairs turn.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    Forward,
    /// What a gradient is turned by.
    Back,
}

/// Turns all heads of every row, in place.
///
/// # Shapes
/// x [B, T, H, C], table [T, C].
pub(crate) fn rotate(
    x: &mut [f32],
    table: &[f32],
    (heads, columns): (usize, usize),
    direction: Direction,
    threads: usize,
) {
    let (row, elements) = (heads * columns, x.len());
    let rows = 0..elements / row.max(1);
    spread(
        threads,
        elements,
        (Out(x, row), rows),
        |(x, rows): (Out<'_>, Range<usize>)| {
            let sizes = [heads, columns, rows.start];
            match direction {
                Direction::Forward => turn::<Ahead>(x.0, table, sizes),
                Direction::Back => turn::<Behind>(x.0, table, sizes),
            }
        },
    );
}

trait Sign: Sync {
    const SIGN: f32;
}

struct Ahead;

impl Sign for Ahead {
    const SIGN: f32 = 1.0;
}

struct Behind;

impl Sign for Behind {
    const SIGN: f32 = -1.0;
}

vectorised! {
    fn turn[D: Sign](x: &'a mut [f32], table: &'a [f32], sizes: [usize; 3]) {
        let [heads, columns, first] = sizes;
        let (pairs, length) = (columns / 2, table.len() / columns);
        for (row, number) in x.chunks_exact_mut(heads * columns).zip(first..) {
            let turns = &table[number % length * columns..][..columns];
            let (cosines, sines) = turns.split_at(pairs);
            for head in row.chunks_exact_mut(columns) {
                let (a, b) = head.split_at_mut(pairs);
                for i in 0..pairs {
                    let (x, y) = (a[i], b[i]);
                    let (cos, sin) = (cosines[i], D::SIGN * sines[i]);
                    a[i] = x * cos - y * sin;
                    b[i] = y * cos + x * sin;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turning_there_and_back_changes_nothing_and_threads_do_not_show() {
        let (batch, length, heads, columns) = (3, 70, 5, 34);
        let frequencies: Vec<f32> = (0..columns / 2).map(|i| 0.9f32.powi(i)).collect();
        let frequencies: Vec<f32> = frequencies.into_iter().collect();
        let turns = Turns {
            frequencies: &frequencies,
            length: 1.0,
            first: 11,
        };
        let columns = columns as usize;
        let x: Vec<f32> = (0..batch * length * heads * columns)
            .map(|i| libm::sinf(i as f32 * 0.37))
            .collect();
        let of = |threads| {
            let (mut angles, mut y) = (vec![f32::NAN; length * columns], x.clone());
            table(&mut angles, turns, threads);
            rotate(
                &mut y,
                &angles,
                (heads, columns),
                Direction::Forward,
                threads,
            );
            (angles, y)
        };
        let (angles, y) = of(1);
        assert_eq!((&angles, &y), (&of(4).0, &of(4).1));
        let at = |[b, t, h, i]: [usize; 4]| ((b * length + t) * heads + h) * columns + i;
        for (b, t, h, i) in [(0, 0, 0, 0), (2, 69, 4, 16), (1, 33, 2, 7)] {
            let angle = f64::from((11 + t) as f32 * frequencies[i]);
            let [x, pair] = [i, i + columns / 2].map(|i| f64::from(x[at([b, t, h, i])]));
            let truth = x * libm::cos(angle) - pair * libm::sin(angle);
            assert!((f64::from(y[at([b, t, h, i])]) - truth).abs() < 1e-6);
        }
        let mut back = y;
        rotate(&mut back, &angles, (heads, columns), Direction::Back, 1);
        assert!(back.iter().zip(&x).all(|(a, b)| (a - b).abs() < 1e-6));
    }
}
