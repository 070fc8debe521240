//! Causal attention of every (sample, head), block after block of query rows.
//!
//! ```text
//!            keys ─►
//!  queries  ┌──┐             A block of 64 queries sees the keys up to its last query, so
//!     │     │▚ └──┐          only the lower half is computed. Its scores live in scratch.
//!     ▼     │  ▚  └──┐       What outlives the forward pass is two numbers per query:
//!           └──────▚─┘       backward computes the probabilities again.
//! ```

use crate::kernels::parallel::{Out, spread};
use crate::kernels::product::{Means, Onto, Product, space};
use crate::kernels::random::Mask;
use crate::kernels::softmax::{STATS, probability_rows, score_gradient_rows, softmax_rows};
use brigade_layer::Precision;
use ndarray::{ArrayView2, ArrayView4, ArrayViewMut2, ArrayViewMut4, ArrayViewMut5, Axis, s};

/// Queries of one block.
const BLOCK: usize = 64;

/// What all heads have in common.
#[derive(Clone, Copy)]
pub(crate) struct Attention {
    pub(crate) heads: usize,
    pub(crate) mask: Option<Mask>,
    /// The mini-batch's number of the first sample.
    pub(crate) first_sample: usize,
    pub(crate) precision: Precision,
    pub(crate) threads: usize,
}

/// Scratch of one thread: matrices of a block's scores, and what products take.
pub(crate) fn scratch(length: usize, columns: usize, matrices: usize) -> usize {
    let block = BLOCK.min(length);
    matrices * block * length + product_space(length, columns)
}

fn product_space(length: usize, columns: usize) -> usize {
    space([BLOCK.max(length), length.max(columns), length.max(columns)])
}

/// Queries, keys and values of one head, each [T, C] for C = D / H.
type Head<'a> = [ArrayView2<'a, f32>; 3];

struct Forward<'a> {
    number: usize,
    out: ArrayViewMut2<'a, f32>,
    stats: &'a mut [f32],
}

struct Backward<'a> {
    number: usize,
    dout: ArrayView2<'a, f32>,
    gradients: [ArrayViewMut2<'a, f32>; 3],
    stats: &'a [f32],
}

impl Attention {
    /// # Shapes
    /// out [B, T, H, C], stats [B, H, T, 2], qkv [B, T, 3 H, C], `scratch` of one matrix for each
    /// thread.
    pub(crate) fn forward(
        &self,
        out: ArrayViewMut4<'_, f32>,
        stats: &mut [f32],
        qkv: ArrayView4<'_, f32>,
        scratch: &mut [f32],
    ) {
        let length = qkv.len_of(Axis(1));
        let mut stats = stats.chunks_exact_mut(STATS * length);
        let mut out = out.permuted_axes([0, 2, 1, 3]);
        let heads = out
            .outer_iter_mut()
            .flat_map(|sample| sample.into_outer_iter_mut());
        let mut tasks: Vec<_> = heads
            .zip(&mut stats)
            .enumerate()
            .map(|(number, (out, stats))| Forward { number, out, stats })
            .collect();
        self.each(&mut tasks, scratch, |task, scratch| {
            self.head_forward(task, self.head(qkv, task.number), scratch);
        });
    }

    /// # Shapes
    /// dqkv [B, T, 3, H, C], dout [B, T, H, C], stats and qkv as in `forward`, scratch of two
    /// matrices.
    pub(crate) fn backward(
        &self,
        dqkv: ArrayViewMut5<'_, f32>,
        dout: ArrayView4<'_, f32>,
        (stats, qkv): (&[f32], ArrayView4<'_, f32>),
        scratch: &mut [f32],
    ) {
        let length = qkv.len_of(Axis(1));
        let dout = dout.permuted_axes([0, 2, 1, 3]);
        let mut dqkv = dqkv.permuted_axes([0, 3, 2, 1, 4]);
        let heads = dqkv
            .outer_iter_mut()
            .flat_map(|sample| sample.into_outer_iter_mut());
        let mut tasks: Vec<_> = heads
            .zip(stats.chunks_exact(STATS * length))
            .enumerate()
            .map(|(number, (head, stats))| {
                let (sample, head_number) = (number / self.heads, number % self.heads);
                let mut parts = head.into_outer_iter_mut();
                let gradients = std::array::from_fn(|_| parts.next().expect("q, k and v"));
                let dout = dout.slice_move(s![sample, head_number, .., ..]);
                Backward {
                    number,
                    dout,
                    gradients,
                    stats,
                }
            })
            .collect();
        self.each(&mut tasks, scratch, |task, scratch| {
            self.head_backward(task, self.head(qkv, task.number), scratch);
        });
    }

    /// Does every task, with one row of scratch per group of them.
    fn each<T: Send>(
        &self,
        tasks: &mut [T],
        scratch: &mut [f32],
        body: impl Fn(&mut T, &mut [f32]) + Sync,
    ) {
        let groups = self.threads.clamp(1, tasks.len().max(1));
        let (group, row) = (
            tasks.len().div_ceil(groups),
            scratch.len() / self.threads.max(1),
        );
        let work = (Out(tasks, group), Out(scratch, row));
        let elements = row * groups;
        spread(groups, elements, work, |(tasks, scratch)| {
            let groups = tasks.0.chunks_mut(group.max(1));
            for (tasks, scratch) in groups.zip(scratch.0.chunks_mut(row.max(1))) {
                for task in tasks {
                    body(task, scratch);
                }
            }
        });
    }

    fn head<'a>(&self, qkv: ArrayView4<'a, f32>, number: usize) -> Head<'a> {
        let (sample, head) = (number / self.heads, number % self.heads);
        [0, 1, 2].map(|part| {
            let column = part * self.heads + head;
            qkv.slice_move(s![sample, .., column, ..])
        })
    }

    fn head_forward(&self, task: &mut Forward<'_>, [q, k, v]: Head<'_>, scratch: &mut [f32]) {
        let (length, scale) = (q.nrows(), scale_of(q));
        let at = scratch.len() - product_space(length, q.ncols());
        let (scratch, space) = scratch.split_at_mut(at);
        for start in (0..length).step_by(BLOCK) {
            let end = (start + BLOCK).min(length);
            let p = &mut scratch[..(end - start) * end];
            let factors = [
                q.slice(s![start..end, ..]),
                k.slice(s![..end, ..]).reversed_axes(),
            ];
            self.multiply(Product::new(block(p, end), factors).scale(scale), space);
            let stats = &mut task.stats[start * STATS..end * STATS];
            softmax_rows(p, stats, start, end);
            self.drop(p, task.number, start, end);
            let p = matrix(p, end);
            let mut out = task.out.slice_mut(s![start..end, ..]);
            let factors = [p, v.slice(s![..end, ..])];
            self.multiply(Product::new(out.view_mut(), factors), space);
            for (mut out, stats) in out.outer_iter_mut().zip(stats.chunks_exact(STATS)) {
                out *= stats[1];
            }
        }
    }

    fn head_backward(&self, task: &mut Backward<'_>, [q, k, v]: Head<'_>, scratch: &mut [f32]) {
        let (length, scale) = (q.nrows(), scale_of(q));
        let [dq, dk, dv] = &mut task.gradients;
        let at = scratch.len() - product_space(length, q.ncols());
        let (scratch, space) = scratch.split_at_mut(at);
        // The last block sees all keys: it writes their gradients, and those before it add.
        for start in (0..length).step_by(BLOCK).rev() {
            let end = (start + BLOCK).min(length);
            let onto = if end == length {
                Onto::Nothing
            } else {
                Onto::Present
            };
            let (p, ds) = scratch.split_at_mut(scratch.len() / 2);
            let (p, ds) = (
                &mut p[..(end - start) * end],
                &mut ds[..(end - start) * end],
            );
            let queries = q.slice(s![start..end, ..]);
            let dout = task.dout.slice(s![start..end, ..]);
            let (keys, values) = (k.slice(s![..end, ..]), v.slice(s![..end, ..]));
            let factors = [queries, keys.reversed_axes()];
            self.multiply(Product::new(block(p, end), factors).scale(scale), space);
            let stats = &task.stats[start * STATS..end * STATS];
            probability_rows(p, stats, start, end);
            let factors = [dout, values.reversed_axes()];
            self.multiply(Product::new(block(ds, end), factors), space);
            self.drop(ds, task.number, start, end);
            score_gradient_rows(ds, p, start, end);
            self.drop(p, task.number, start, end);
            let (p, ds) = (matrix(p, end), matrix(ds, end));
            let seen = s![..end, ..];
            let add = |c, factors, scale| Product::new(c, factors).onto(onto).scale(scale);
            self.multiply(add(dv.slice_mut(seen), [p.t(), dout], 1.0), space);
            self.multiply(add(dk.slice_mut(seen), [ds.t(), queries], scale), space);
            let dq = dq.slice_mut(s![start..end, ..]);
            self.multiply(Product::new(dq, [ds, keys]).scale(scale), space);
        }
    }

    fn multiply(&self, product: Product<'_>, space: &mut [f32]) {
        let (precision, threads) = (self.precision, 1);
        product.run(Means {
            precision,
            threads,
            space,
        });
    }

    /// Drops probabilities (or their gradients) of a block, by sample, head, query and key.
    fn drop(&self, block: &mut [f32], number: usize, start: usize, end: usize) {
        let Some(mask) = self.mask else { return };
        let sample = (self.first_sample + number / self.heads) as u64;
        let head = (number % self.heads) as u32;
        for (row, query) in block.chunks_exact_mut(end).zip(start..) {
            // Query t has t + 1 keys: rows follow one another without gaps, whatever the length of
            // the sequence.
            mask.apply(
                &mut row[..=query],
                sample,
                head,
                Mask::blocks(1) * blocks_before(query),
            );
        }
    }
}

/// Groups of 64 keys of all queries before this one.
fn blocks_before(query: usize) -> usize {
    let (whole, rest) = (query / 64, query % 64);
    32 * whole * (whole + 1) + rest * (whole + 1)
}

fn scale_of(q: ArrayView2<'_, f32>) -> f32 {
    1.0 / (q.ncols() as f32).sqrt()
}

fn matrix(data: &[f32], columns: usize) -> ArrayView2<'_, f32> {
    ArrayView2::from_shape((data.len() / columns, columns), data).expect("whole rows")
}

fn block(data: &mut [f32], columns: usize) -> ArrayViewMut2<'_, f32> {
    ArrayViewMut2::from_shape((data.len() / columns, columns), data).expect("whole rows")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::{Array1, Array2, Array4, Array5};

    fn wave(len: usize, k: f32) -> Vec<f32> {
        (0..len).map(|i| libm::sinf(i as f32 * k + 0.3)).collect()
    }

    /// One head, row by row. Gives (out, dq, dk, dv).
    fn naive(
        q: &Array2<f32>,
        k: &Array2<f32>,
        v: &Array2<f32>,
        dout: &Array2<f32>,
    ) -> [Array2<f32>; 4] {
        let (t, c) = q.dim();
        let scale = 1.0 / (c as f32).sqrt();
        let mut all: [Array2<f32>; 4] = std::array::from_fn(|_| Array2::zeros((t, c)));
        for i in 0..t {
            let keys = k.slice(s![..=i, ..]);
            let mut p: Array1<f32> = keys.dot(&q.row(i)) * scale;
            p.mapv_inplace(libm::expf);
            p /= p.sum();
            all[0].row_mut(i).assign(&p.dot(&v.slice(s![..=i, ..])));
            let dp = v.slice(s![..=i, ..]).dot(&dout.row(i));
            let ds = &p * &(&dp - (&p * &dp).sum());
            all[1].row_mut(i).assign(&(ds.dot(&keys) * scale));
            for j in 0..=i {
                all[2].row_mut(j).scaled_add(ds[j] * scale, &q.row(i));
                all[3].row_mut(j).scaled_add(p[j], &dout.row(i));
            }
        }
        all
    }

    #[test]
    fn blocks_agree_with_a_row_by_row_reference_at_odd_sizes() {
        for (b, t, h, c) in [(1, 1, 1, 1), (2, 7, 3, 5), (1, 64, 2, 8), (2, 131, 2, 6)] {
            let qkv =
                Array4::from_shape_vec((b, t, 3 * h, c), wave(b * t * 3 * h * c, 0.37)).unwrap();
            let dout = Array4::from_shape_vec((b, t, h, c), wave(b * t * h * c, 0.91)).unwrap();
            let attention = Attention {
                heads: h,
                mask: None,
                first_sample: 0,
                precision: Precision::F32,
                threads: 1,
            };
            let (mut out, mut stats) = (Array4::zeros((b, t, h, c)), vec![0.0; b * h * t * STATS]);
            let mut scratch = vec![0.0; scratch(t, c, 2)];
            attention.forward(out.view_mut(), &mut stats, qkv.view(), &mut scratch);
            let mut dqkv = Array5::from_elem((b, t, 3, h, c), f32::NAN);
            attention.backward(
                dqkv.view_mut(),
                dout.view(),
                (&stats, qkv.view()),
                &mut scratch,
            );
            for (sample, head) in (0..b).flat_map(|b| (0..h).map(move |h| (b, h))) {
                let part = |part: usize| qkv.slice(s![sample, .., part * h + head, ..]).to_owned();
                let dout = dout.slice(s![sample, .., head, ..]).to_owned();
                let [o, dq, dk, dv] = naive(&part(0), &part(1), &part(2), &dout);
                let close = |a: ArrayView2<'_, f32>, b: &Array2<f32>| {
                    (&a - b).iter().all(|e| e.abs() < 2e-4)
                };
                assert!(
                    close(out.slice(s![sample, .., head, ..]), &o),
                    "{b} {t} {h} {c}"
                );
                for (number, gradient) in [dq, dk, dv].iter().enumerate() {
                    assert!(close(
                        dqkv.slice(s![sample, .., number, head, ..]),
                        gradient
                    ));
                }
            }
        }
    }

    #[test]
    fn the_masks_of_queries_follow_one_another() {
        let mut before = 0;
        for query in 0..300 {
            assert_eq!(blocks_before(query), before);
            before += (query + 1usize).div_ceil(64);
        }
    }
}
