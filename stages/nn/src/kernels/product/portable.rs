//! Products of numbers rounded to bf16, in the order of sums that the tiles have: 32 steps along
//! the inner dimension are summed in two chains (even and odd) that start from 0, and their sum is
//! added to what came before.
//!
//! Gives the tiles' bits, except that these take numbers below 2^-126 for 0.

use super::{Onto, Product, finish, rows_at_once};
use crate::kernels::parallel::vectorised;
use half::bf16;
use ndarray::{ArrayView2, s};

/// Rows and columns of c that are computed together.
const ROWS: usize = 4;
const COLUMNS: usize = 32;
/// Steps of a chain, even and odd together.
const DEPTH: usize = 32;

pub(super) fn product(product: Product<'_>, space: &mut [f32]) {
    product.along_inner(|piece| one(piece, space));
}

fn one(product: Product<'_>, space: &mut [f32]) {
    let [m, n, k] = product.sizes();
    let Product {
        mut c,
        onto,
        a,
        b,
        bias,
        ..
    } = product;
    let inner = k.next_multiple_of(DEPTH);
    for first in (0..m).step_by(rows_at_once(k)) {
        let rows = (m - first).min(rows_at_once(k));
        let (packed_a, rest) = space.split_at_mut(rows.next_multiple_of(ROWS) * inner);
        let packed_b = &mut rest[..COLUMNS * inner];
        pack::<ROWS>(packed_a, a.slice(s![first..first + rows, ..]), inner);
        for column in (0..n).step_by(COLUMNS) {
            let columns = (n - column).min(COLUMNS);
            let lines = b.slice(s![.., column..column + columns]).reversed_axes();
            pack::<COLUMNS>(packed_b, lines, inner);
            for row in (0..rows).step_by(ROWS) {
                let mut sums = [[0.0; COLUMNS]; ROWS];
                block(
                    &mut sums,
                    &packed_a[row * inner..][..ROWS * inner],
                    packed_b,
                );
                for (row, sums) in (first + row..first + rows).zip(&sums) {
                    for (column, sum) in (column..n).zip(sums) {
                        let c = &mut c[[row, column]];
                        let before = (onto == Onto::Present).then_some(*c);
                        *c = finish(*sum, before, bias.map(|bias| bias[column]));
                    }
                }
            }
        }
    }
}

/// Groups of `N` lines, the numbers of one step along the inner dimension side by side.
fn pack<const N: usize>(into: &mut [f32], lines: ArrayView2<'_, f32>, inner: usize) {
    into.fill(0.0);
    for (number, line) in lines.outer_iter().enumerate() {
        let group = &mut into[number / N * N * inner..][..N * inner];
        for (step, x) in line.iter().enumerate() {
            group[step * N + number % N] = bf16::from_f32(*x).to_f32();
        }
    }
}

vectorised! {
    fn block(sums: &'a mut [[f32; COLUMNS]; ROWS], a: &'a [f32], b: &'a [f32]) {
        let steps = a.chunks_exact(ROWS * DEPTH).zip(b.chunks_exact(COLUMNS * DEPTH));
        for (a, b) in steps {
            let mut chains = [[[0.0f32; COLUMNS]; ROWS]; 2];
            for step in 0..DEPTH {
                let b: &[f32; COLUMNS] = b[step * COLUMNS..].first_chunk().expect("a step of b");
                for row in 0..ROWS {
                    let a = a[step * ROWS + row];
                    let chain = &mut chains[step % 2][row];
                    for column in 0..COLUMNS {
                        chain[column] = a.mul_add(b[column], chain[column]);
                    }
                }
            }
            let [even, odd] = &chains;
            for row in 0..ROWS {
                for column in 0..COLUMNS {
                    sums[row][column] += even[row][column] + odd[row][column];
                }
            }
        }
    }
}
