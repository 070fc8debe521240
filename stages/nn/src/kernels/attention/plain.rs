//! A head by products in general.

use super::{Attention, BLOCK, Backward, Forward, Lengths, STRIP, scale_of, scores, stride};
use crate::kernels::product::{Means, Onto, Product, space as product_space};
use crate::kernels::softmax::{Rows, STATS, score_gradient_rows, softmax_rows};
use brigade_layer::Precision;
use ndarray::{ArrayView2, ArrayViewMut2, s};

/// Scratch of the products.
pub(super) fn space([queries, keys]: Lengths, columns: usize) -> usize {
    let block = BLOCK.min(queries);
    let products = [
        [block, keys, columns],
        [block, columns, keys],
        [keys, columns, block],
    ];
    products.into_iter().map(product_space).max().unwrap_or(0)
}

pub(super) fn forward(attention: &Attention<'_>, task: &mut Forward<'_>, scratch: &mut [f32]) {
    let (group, lengths) = (task.group, task.group.lengths());
    let [length, keys] = lengths;
    let (p, space) = scratch.split_at_mut(scores(lengths));
    let heads = task.out.outer_iter_mut();
    let each = heads.zip(task.stats.chunks_exact_mut(STATS * length));
    for (number, (mut out, stats)) in each.enumerate() {
        let [q, k, v] = group.head(number);
        for start in (0..length).step_by(BLOCK) {
            let end = (start + BLOCK).min(length);
            let rows = rows(attention, (start, end), keys, scale_of(q));
            let seen = rows.keys(end - 1);
            let p = &mut p[..(end - start) * rows.stride];
            let factors = [
                q.slice(s![start..end, ..]),
                k.slice(s![..seen, ..]).reversed_axes(),
            ];
            let product = Product::new(block(p, rows, seen), factors);
            multiply(attention, product, space);
            let stats = &mut stats[start * STATS..end * STATS];
            softmax_rows(p, stats, rows);
            attention.drop(p, task.first + number, rows);
            let mut out = out.slice_mut(s![start..end, ..]);
            let factors = [matrix(p, rows, seen), v.slice(s![..seen, ..])];
            multiply(attention, Product::new(out.view_mut(), factors), space);
            for (mut out, stats) in out.outer_iter_mut().zip(stats.chunks_exact(STATS)) {
                out *= stats[1];
            }
        }
    }
}

pub(super) fn backward(attention: &Attention<'_>, task: &mut Backward<'_>, scratch: &mut [f32]) {
    let ([length, _], scale) = (task.group.lengths(), scale_of(task.group.k));
    for number in 0..task.group.heads() {
        // The last block sees all keys: the first head's writes their gradients, and all others
        // add.
        for start in (0..length).step_by(BLOCK).rev() {
            backward_block(attention, task, (number, start), scratch);
        }
    }
    task.dq *= scale;
    task.dk *= scale;
}

fn backward_block(
    attention: &Attention<'_>,
    task: &mut Backward<'_>,
    (number, start): (usize, usize),
    scratch: &mut [f32],
) {
    let [q, k, v] = task.group.head(number);
    let lengths = task.group.lengths();
    let [length, keys] = lengths;
    let (p, scratch) = scratch.split_at_mut(scores(lengths));
    let (ds, space) = scratch.split_at_mut(scores(lengths));
    let end = (start + BLOCK).min(length);
    let rows = rows(attention, (start, end), keys, scale_of(q));
    let seen = rows.keys(end - 1);
    let p = &mut p[..(end - start) * rows.stride];
    let ds = &mut ds[..(end - start) * rows.stride];
    let queries = q.slice(s![start..end, ..]);
    let dout = task.dout.slice(s![number, start..end, ..]);
    let (keys, values) = (k.slice(s![..seen, ..]), v.slice(s![..seen, ..]));
    let factors = [queries, keys.reversed_axes()];
    let product = Product::new(block(p, rows, seen), factors);
    multiply(attention, product, space);
    let factors = [dout, values.reversed_axes()];
    let product = Product::new(block(ds, rows, seen), factors);
    multiply(attention, product, space);
    let head = task.first + number;
    attention.drop(ds, head, rows);
    let stats = &task.stats[(number * length + start) * STATS..][..(end - start) * STATS];
    score_gradient_rows(p, ds, stats, rows);
    attention.drop(p, head, rows);
    let (p, ds) = (matrix(p, rows, seen), matrix(ds, rows, seen));
    let dq = task.dq.slice_mut(s![number, start..end, ..]);
    multiply(attention, Product::new(dq, [ds, keys]), space);
    let step = match attention.precision {
        Precision::Bf16 => STRIP,
        _ => BLOCK,
    };
    for first in (0..end - start).step_by(step).rev() {
        let last = (first + step).min(end - start);
        let onto = match number == 0 && start + last == length {
            true => Onto::Nothing,
            false => Onto::Present,
        };
        for (into, by, of) in [(&mut task.dv, p, dout), (&mut task.dk, ds, queries)] {
            let by = by.slice_move(s![first..last, ..]).reversed_axes();
            let factors = [by, of.slice_move(s![first..last, ..])];
            let into = into.slice_mut(s![..seen, ..]);
            multiply(attention, Product::new(into, factors).onto(onto), space);
        }
    }
}

fn rows(attention: &Attention<'_>, (start, end): (usize, usize), keys: usize, scale: f32) -> Rows {
    let all = attention.all(keys);
    Rows {
        first: start,
        stride: stride(keys),
        width: all.unwrap_or(end).next_multiple_of(STRIP),
        all,
        scale,
    }
}

fn multiply(attention: &Attention<'_>, product: Product<'_>, space: &mut [f32]) {
    let (precision, threads) = (attention.precision, 1);
    product.run(Means {
        precision,
        threads,
        space,
    });
}

fn matrix(data: &[f32], rows: Rows, columns: usize) -> ArrayView2<'_, f32> {
    let shape = (data.len() / rows.stride, rows.stride);
    let whole = ArrayView2::from_shape(shape, data).expect("whole rows");
    whole.slice_move(s![.., ..columns])
}

fn block(data: &mut [f32], rows: Rows, columns: usize) -> ArrayViewMut2<'_, f32> {
    let shape = (data.len() / rows.stride, rows.stride);
    let whole = ArrayViewMut2::from_shape(shape, data).expect("whole rows");
    whole.slice_move(s![.., ..columns])
}
