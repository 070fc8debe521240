//! The matrix product: one door to whatever computes it best.
//!
//! ```text
//!  precision   processor            computed by
//!  f32         AMX, large enough    tiles: three bf16 pieces of every number, six products
//!              any other            library: the crate gemm
//!  bf16        AMX, AVX512-BF16     tiles: every number rounded to bf16
//!              any other            portable: the sums of AMX in their order
//! ```
//!
//! Which one follows from shapes and processor alone, and none lets the number of threads show.

use brigade_layer::Precision;
use ndarray::{ArrayView2, ArrayViewMut2, Axis, s};
use std::sync::OnceLock;

mod after;
mod library;
mod portable;
mod prepared;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub(super) mod tiles;
#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
#[path = "no_tiles.rs"]
pub(super) mod tiles;

pub(crate) use after::After;
use prepared::Packed;
pub(crate) use prepared::Prepared;

/// The inner dimension is summed in pieces of this many, whatever the processor's caches.
pub(super) const INNER: usize = 512;
/// Multiplications below which another thread costs more than it brings.
const GRAIN: usize = 1 << 19;
/// Multiplications from which on three pieces pay for being cut.
const WORTH_CUTTING: usize = 1 << 21;

/// What a product does with what its destination holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Onto {
    /// Overwrites it, whatever it is.
    Nothing,
    /// Adds to it.
    Present,
}

/// c = a b + bias, or c += a b + bias. Transposed operands are views with their strides
/// exchanged; the rows of c are contiguous.
///
/// # Shapes
/// c [M, N], a [M, K], b [K, N], bias \[N\].
pub(crate) struct Product<'a> {
    pub(crate) c: ArrayViewMut2<'a, f32>,
    pub(crate) onto: Onto,
    pub(crate) a: ArrayView2<'a, f32>,
    pub(crate) b: ArrayView2<'a, f32>,
    pub(crate) bias: Option<&'a [f32]>,
    /// Of c's shape.
    pub(crate) after: Option<After<'a>>,
    /// b once more, packed.
    prepared: Option<Packed<'a>>,
}

/// What a product is computed with.
pub(crate) struct Means<'a> {
    pub(crate) precision: Precision,
    pub(crate) threads: usize,
    /// As many elements for each thread as [`space`] says.
    pub(crate) space: &'a mut [f32],
}

/// What multiplies tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kernels) enum Unit {
    /// Registers that hold tiles.
    Amx,
    /// AVX512-BF16.
    Dot,
}

impl Unit {
    /// Those that this processor has and the system lets us use, the fastest first.
    pub(in crate::kernels) fn available() -> &'static [Self] {
        static AVAILABLE: OnceLock<Vec<Unit>> = OnceLock::new();
        AVAILABLE.get_or_init(|| {
            let all = [Self::Amx, Self::Dot].into_iter();
            all.filter(|unit| tiles::has(*unit)).collect()
        })
    }

    /// The one for products in this precision: three pieces only pay with AMX.
    pub(in crate::kernels) fn of(precision: Precision) -> Option<Self> {
        let fits = |unit: &&Self| precision == Precision::Bf16 || **unit == Self::Amx;
        Self::available().iter().find(fits).copied()
    }
}

/// How a product is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Library,
    Portable,
    Tiles(Unit),
}

/// Whether a product of these sizes is cut into pieces.
fn worth_cutting([m, n, k]: [usize; 3]) -> bool {
    m.saturating_mul(n).saturating_mul(k) >= WORTH_CUTTING
}

fn way(precision: Precision, sizes: [usize; 3]) -> Way {
    let unit = Unit::of(precision);
    match (precision, unit) {
        (Precision::Bf16, Some(unit)) => Way::Tiles(unit),
        (Precision::Bf16, None) => Way::Portable,
        (_, Some(unit)) if worth_cutting(sizes) => Way::Tiles(unit),
        _ => Way::Library,
    }
}

/// Numbers of a that are packed at once, and of b that are kept packed, in three pieces; three
/// times as many in one. The former stay in the second cache.
const PACKED: [usize; 2] = [128 * 1024, 208 * 1024];

/// Rows of a that are packed at once.
const fn rows_at_once(inner: usize) -> usize {
    PACKED[0] / inner.next_multiple_of(32) / 32 * 32
}

/// Columns of b that are kept packed.
const fn columns_kept(inner: usize) -> usize {
    PACKED[1] / inner.next_multiple_of(32) / 32 * 32
}

/// Elements of scratch for products of up to these sizes, on each thread. The same for every
/// precision and processor, so that plans are; a power of two (and 64 bytes, to begin at a cache
/// line), so that products of most shapes take the very buffer that the one before has left in the
/// caches.
pub(crate) fn space([m, n, k]: [usize; 3]) -> usize {
    let inner = k.clamp(1, INNER);
    let (most, kept) = (rows_at_once(inner), columns_kept(inner));
    let (rows, columns) = (m.next_multiple_of(32), n.next_multiple_of(32));
    let packed = if worth_cutting([m, n, k]) {
        // Two bytes for each of three pieces.
        (rows.min(most) + columns.min(kept)) * 3 / 2
    } else {
        // Four bytes are enough for one piece, and for whole numbers. Columns are kept for several
        // blocks of rows.
        let columns = if rows > most { columns } else { 32 };
        rows.min(most * 3 / 2) + columns.min(kept * 3 / 2)
    };
    (packed * inner.next_multiple_of(32)).next_power_of_two() + 16
}

impl<'a> Product<'a> {
    /// c = a b.
    pub(crate) fn new(c: ArrayViewMut2<'a, f32>, [a, b]: [ArrayView2<'a, f32>; 2]) -> Self {
        let (onto, bias) = (Onto::Nothing, None);
        Self {
            c,
            onto,
            a,
            b,
            bias,
            after: None,
            prepared: None,
        }
    }

    /// With b as it was prepared.
    pub(crate) fn prepared(mut self, b: Option<&'a Prepared>) -> Self {
        self.prepared = b.map(|b| b.packed(self.b.dim()));
        self
    }

    pub(crate) fn onto(mut self, onto: Onto) -> Self {
        self.onto = onto;
        self
    }

    pub(crate) fn bias(mut self, bias: Option<&'a [f32]>) -> Self {
        self.bias = bias;
        self
    }

    pub(crate) fn after(mut self, after: Option<After<'a>>) -> Self {
        self.after = after;
        self
    }

    /// [M, N, K]
    pub(crate) fn sizes(&self) -> [usize; 3] {
        let ((m, n), k) = (self.c.dim(), self.a.len_of(Axis(1)));
        assert_eq!(
            (self.a.dim(), self.b.dim()),
            ((m, k), (k, n)),
            "a product's shapes"
        );
        assert!(
            self.bias.is_none_or(|bias| bias.len() == n),
            "a product's bias"
        );
        let fits = |after: &After<'_>| after.dim() == (m, n);
        assert!(
            self.after.as_ref().is_none_or(fits),
            "what comes after a product"
        );
        [m, n, k]
    }

    /// Computes it.
    pub(crate) fn run(self, means: Means<'_>) {
        let Means {
            precision,
            threads,
            space,
        } = means;
        let sizes @ [_, _, k] = self.sizes();
        if k == 0 {
            return self.then(threads, |product| product.fill());
        }
        match way(precision, sizes) {
            Way::Library => self.then(threads, |product| library::product(product, threads)),
            Way::Portable => {
                self.spread(
                    threads,
                    space,
                    &|product: Product<'_>, space: &mut [f32]| {
                        product.then(1, |product| portable::product(product, space));
                    },
                );
            }
            Way::Tiles(unit) => self.spread(
                threads,
                space,
                &|product: Product<'_>, space: &mut [f32]| {
                    tiles::product(product, (unit, precision), space);
                },
            ),
        }
    }

    /// What a product along nothing gives.
    fn fill(self) {
        let Self {
            mut c, onto, bias, ..
        } = self;
        for mut row in c.rows_mut() {
            for (column, c) in row.iter_mut().enumerate() {
                let before = (onto == Onto::Present).then_some(*c);
                *c = finish(0.0, before, bias.map(|bias| bias[column]));
            }
        }
    }

    /// Cuts c, along the longer axis, into as many pieces as there are threads. Where it is cut
    /// does not show: every element is summed by itself.
    fn spread(
        self,
        threads: usize,
        space: &mut [f32],
        body: &(impl Fn(Product<'_>, &mut [f32]) + Sync),
    ) {
        let [m, n, k] = self.sizes();
        let pieces = threads.min(m * n * k / GRAIN);
        if pieces < 2 {
            return body(self, space);
        }
        let left = pieces / 2;
        let axis = if m > n { Axis(0) } else { Axis(1) };
        let cut = m.max(n) * left / pieces;
        let (first, second) = self.split_at(axis, cut.next_multiple_of(32).min(m.max(n)));
        let space_at = space.len() / threads * left;
        let (space, other) = space.split_at_mut(space_at);
        rayon::join(
            || first.spread(left, space, body),
            || second.spread(threads - left, other, body),
        );
    }

    /// The first rows or columns of c, and the others.
    fn split_at(self, axis: Axis, at: usize) -> (Self, Self) {
        let Self {
            c,
            onto,
            a,
            b,
            bias,
            after,
            prepared,
        } = self;
        let (c, other_c) = c.split_at(axis, at);
        let other_prepared = match axis {
            Axis(0) => prepared,
            _ => prepared.map(|b| b.after_columns(at)),
        };
        let ((a, other_a), (b, other_b), (bias, other_bias)) = match axis {
            Axis(0) => (a.split_at(Axis(0), at), (b, b), (bias, bias)),
            _ => {
                let (bias, other) = bias.map(|bias| bias.split_at(at)).unzip();
                ((a, a), b.split_at(Axis(1), at), (bias, other))
            }
        };
        let (after, other_after) = after.map(|after| after.split_at(axis, at)).unzip();
        (
            Self {
                c,
                onto,
                a,
                b,
                bias,
                after,
                prepared,
            },
            Self {
                c: other_c,
                onto,
                a: other_a,
                b: other_b,
                bias: other_bias,
                after: other_after,
                prepared: other_prepared,
            },
        )
    }

    /// The product in pieces of the inner dimension: what the later ones do is add.
    fn along_inner(self, mut body: impl FnMut(Product<'_>)) {
        let Self {
            mut c,
            onto,
            a,
            b,
            bias,
            mut after,
            prepared,
        } = self;
        let inner = a.len_of(Axis(1));
        for start in (0..inner).step_by(INNER) {
            let end = (start + INNER).min(inner);
            body(Product {
                c: c.view_mut(),
                onto: if start > 0 { Onto::Present } else { onto },
                a: a.slice(s![.., start..end]),
                b: b.slice(s![start..end, ..]),
                bias: bias.filter(|_| start == 0),
                after: after.as_mut().filter(|_| end == inner).map(After::reborrow),
                prepared: prepared.map(|b| b.after_steps(start)),
            });
        }
    }
}

/// What becomes of an element's sum.
#[inline(always)]
fn finish(sum: f32, before: Option<f32>, bias: Option<f32>) -> f32 {
    let sum = before.map_or(sum, |before| sum + before);
    bias.map_or(sum, |bias| sum + bias)
}

#[cfg(test)]
mod tests;
