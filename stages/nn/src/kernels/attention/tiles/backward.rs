//! The gradients of a group of heads.

use super::put::{Factors, put_transposed};
use super::{Packed, Room, along_keys, lines, multiply, rows, rows_of, strip};
use crate::kernels::attention::{
    Attention, BLOCK, Backward, Lengths, STRIP, scale_of, scores, stride,
};
use crate::kernels::product::tiles::pack::{Lines, Role};
use crate::kernels::product::tiles::unit::{Multiply, To};
use crate::kernels::softmax::STATS;

/// What is packed and summed on the way.
struct Means<const P: usize> {
    /// From one row of scores to the next.
    stride: usize,
    /// Tiles along a head's columns.
    along: usize,
    /// Scores, and gradients of probabilities, of a block.
    both: [*mut f32; 2],
    /// The group's keys and values, which strips of queries are multiplied by.
    seen: [Packed<P>; 2],
    /// A strip of queries, and of dout.
    strip_of: [Packed<P>; 2],
    /// Keys across.
    keys: Packed<P>,
    ds: Packed<P>,
    /// Of two strips, dout and queries across, and p and ds.
    across: [Packed<P>; 2],
    block: [Packed<P>; 2],
    /// Of the transposed gradients of values and keys.
    sums: [*mut f32; 2],
}

impl<const P: usize> Means<P> {
    fn new(lengths: Lengths, columns: usize, scratch: &mut [f32]) -> Self {
        let [_, length] = lengths;
        let (strips, along) = (length.div_ceil(STRIP), columns.div_ceil(STRIP));
        let mut room = Room::new(scratch);
        Self {
            stride: stride(length),
            along,
            both: [(); 2].map(|()| room.take(scores(lengths)).as_mut_ptr()),
            seen: [(); 2].map(|()| Packed::new(&mut room, length, along)),
            strip_of: [(); 2].map(|()| Packed::new(&mut room, STRIP, along)),
            keys: Packed::new(&mut room, columns, strips),
            ds: Packed::new(&mut room, STRIP, strips),
            across: [(); 2].map(|()| Packed::new(&mut room, columns, 2)),
            block: [(); 2].map(|()| Packed::new(&mut room, STRIP, 2)),
            sums: [(); 2].map(|()| room.take(strips * along * STRIP * STRIP).as_mut_ptr()),
        }
    }
}

/// # Safety
/// Tiles are available.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
pub(super) unsafe fn backward_in<const P: usize, U: Multiply>(
    attention: &Attention<'_>,
    task: &mut Backward<'_>,
    scratch: &mut [f32],
) {
    let group = task.group;
    let (lengths, columns) = (group.lengths(), group.k.ncols());
    let [length, seen] = lengths;
    let means = Means::<P>::new(lengths, columns, scratch);
    // SAFETY: all strips are within the head and the room that was taken for them; tiles are laid
    // out before they are used.
    unsafe {
        U::begin();
        means.seen[0].pack(Lines::rows(&group.k), columns, (Role::B, 0));
        means.seen[1].pack(Lines::rows(&group.v), columns, (Role::B, 0));
        means
            .keys
            .pack(Lines::columns(&group.k), seen, (Role::B, 0));
        for head in 0..group.heads() {
            for start in (0..length).step_by(BLOCK).rev() {
                queries::<P, U>(attention, task, (head, start), &means);
                // The first head's last block sees all keys; all others add to its sums.
                let onto = head > 0 || start + BLOCK < length;
                keys::<P, U>(attention, (lengths, columns), (start, onto), &means);
            }
        }
        U::end();
        put_transposed(&mut task.dv, means.sums[0], 1.0);
        put_transposed(&mut task.dk, means.sums[1], scale_of(group.k));
    }
}

/// p and ds of a block, and from them dq; later strips first.
///
/// # Safety
/// Tiles are available and laid out, and the group's keys and values are packed.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn queries<const P: usize, U: Multiply>(
    attention: &Attention<'_>,
    task: &mut Backward<'_>,
    (head, start): (usize, usize),
    means: &Means<P>,
) {
    let [q, ..] = task.group.head(head);
    let dout = task.dout.index_axis(ndarray::Axis(0), head);
    let mut dq = task.dq.index_axis_mut(ndarray::Axis(0), head);
    let ([length, keys], columns, scale) = (task.group.lengths(), q.ncols(), scale_of(q));
    let (stride, along) = (means.stride, means.along);
    // Later queries may see more keys: they come first.
    for (slot, number) in numbers(start, length).rev().enumerate() {
        let (first, count) = strip(number, length);
        let at = slot * STRIP * stride;
        let rows = rows_of(attention, (first, count), keys, scale);
        let strips = rows.width / STRIP;
        // SAFETY: as the caller says; all strips are within the head and their room.
        unsafe {
            let [p, dp] = means.both.map(|first| first.add(at));
            for (part, of) in [q, dout].iter().enumerate() {
                let lines = Lines::rows(of).block(first);
                means.strip_of[part].pack(lines, columns, (Role::A, 0));
                let columns = Lines {
                    count: columns,
                    line: lines.step,
                    step: lines.line,
                    ..lines
                };
                means.across[1 - part].pack(columns, count, (Role::A, slot));
            }
            for other in 0..strips {
                for (part, into) in [p, dp].into_iter().enumerate() {
                    let sums = To {
                        first: into.add(other * STRIP),
                        stride,
                        onto: false,
                    };
                    let seen = means.seen[part];
                    let tiles = [means.strip_of[part].first, seen.strip(other)];
                    let sizes = [count, strip(other, keys).1];
                    multiply::<P, U>(sums, tiles, [seen.group, along], sizes);
                }
            }
            let p = std::slice::from_raw_parts_mut(p, count * stride);
            let dp = std::slice::from_raw_parts_mut(dp, count * stride);
            attention.drop(dp, task.first + head, rows);
            let stats = &task.stats[(head * length + first) * STATS..][..count * STATS];
            rows::score_gradients(p, dp, stats, rows);
            attention.drop(p, task.first + head, rows);
            let seen = rows.keys(first + count - 1);
            let of = lines(dp.as_ptr(), stride, [count, seen], false);
            means.ds.pack(of, seen, (Role::A, 0));
            let factors = Factors {
                first: &raw const scale,
                step: 0,
            };
            let packed = [means.ds, means.keys];
            along_keys::<P, U>(&mut dq, (first, count), packed, strips, factors);
        }
    }
}

/// Adds what a block's p and ds give to the gradients of values and keys.
///
/// # Safety
/// As `queries`, which has done the same block.
#[target_feature(enable = "avx512f,avx512bw,avx512bf16")]
unsafe fn keys<const P: usize, U: Multiply>(
    attention: &Attention<'_>,
    ([length, keys], columns): (Lengths, usize),
    (start, onto): (usize, bool),
    means: &Means<P>,
) {
    let (stride, along, numbers) = (means.stride, means.along, numbers(start, length));
    let all = attention.all(keys);
    for other in 0..all.map_or(numbers.end, |keys| keys.div_ceil(STRIP)) {
        let (first, count) = strip(other, keys);
        // Strips of queries that see these keys.
        let slots = match all {
            None => numbers.end - other.max(numbers.start),
            Some(_) => numbers.len(),
        };
        for part in 0..2 {
            let block = means.block[part];
            // SAFETY: as the caller says; all strips are within the head and their room.
            unsafe {
                for slot in 0..slots {
                    let queries = strip(numbers.end - 1 - slot, length).1;
                    let from = means.both[part].add(slot * STRIP * stride + first);
                    let of = lines(from, stride, [queries, count], true);
                    block.pack(of, queries, (Role::B, slot));
                }
                for number in 0..along {
                    let at = (other * along + number) * STRIP * STRIP;
                    let sums = To {
                        first: means.sums[part].add(at),
                        stride: STRIP,
                        onto,
                    };
                    let tiles = [means.across[part].strip(number), block.first];
                    let sizes = [strip(number, columns).1, count];
                    multiply::<P, U>(sums, tiles, [block.group, slots], sizes);
                }
            }
        }
    }
}

/// The strips of the block that starts here.
fn numbers(start: usize, length: usize) -> std::ops::Range<usize> {
    start / STRIP..(start + BLOCK).min(length).div_ceil(STRIP)
}
