//! Sums on their way to the destination.
//!
//! The rows of a block lie far apart there. Written all at once they wait for one another, in a few
//! sets of the cache, and tiles wait for them; so a block goes out row by row while the next one is
//! summed.
#![allow(unsafe_code)]

use super::ahead::fetch;
use super::pack::mask;
use super::unit::Sums;
use super::{BLOCK, SIDE};
use crate::kernels::elementwise::Function;
use crate::kernels::product::After;
use ndarray::{ArrayView2, ArrayViewMut2, Ix2, ShapeBuilder, StrideShape};
use std::arch::x86_64::*;
use std::mem::MaybeUninit;

/// A block of the destination.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) c: *mut f32,
    pub(super) stride: isize,
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// The columns that exist, of either half.
    masks: [__mmask16; 2],
}

impl Place {
    pub(super) fn new(c: *mut f32, stride: isize, [rows, columns]: [usize; 2]) -> Self {
        let masks = [mask(columns), mask(columns.saturating_sub(SIDE))];
        Self {
            c,
            stride,
            rows,
            columns,
            masks,
        }
    }

    /// Rows of it.
    #[inline(always)]
    fn from(self, row: usize, rows: usize) -> Self {
        let c = self.c.wrapping_offset(row as isize * self.stride);
        Self { c, rows, ..self }
    }
}

/// What becomes of a sum.
#[derive(Clone, Copy)]
pub(super) struct Finish {
    /// Whether it is added to what is there.
    pub(super) add: bool,
    /// Whether it goes past the caches.
    pub(super) past: bool,
    /// Of the block's first column.
    pub(super) bias: Option<*const f32>,
    pub(super) then: Option<Then>,
}

impl Finish {
    const NOTHING: Self = Self {
        add: false,
        past: false,
        bias: None,
        then: None,
    };

    #[inline(always)]
    fn at(self, row: usize) -> Self {
        let then = self.then.map(|then| then.at(row, 0));
        Self { then, ..self }
    }
}

/// What is done with a block of sums, together with one of another matrix.
#[derive(Clone, Copy)]
pub(super) enum Then {
    /// f(c) goes to the other.
    Value {
        f: Function,
        into: *mut f32,
        stride: isize,
    },
    /// c is multiplied by f'(other).
    Slope {
        f: Function,
        of: *const f32,
        stride: isize,
    },
}

impl Then {
    pub(super) fn of(after: &mut After<'_>) -> Self {
        match after {
            After::Value { f, into } => Self::Value {
                f: *f,
                stride: into.strides()[0],
                into: into.as_mut_ptr(),
            },
            After::Slope { f, of } => Self::Slope {
                f: *f,
                stride: of.strides()[0],
                of: of.as_ptr(),
            },
        }
    }

    #[inline(always)]
    pub(super) fn at(mut self, row: usize, column: usize) -> Self {
        match &mut self {
            Self::Value { into, stride, .. } => {
                *into = into
                    .wrapping_offset(row as isize * *stride)
                    .wrapping_add(column);
            }
            Self::Slope { of, stride, .. } => {
                *of = of
                    .wrapping_offset(row as isize * *stride)
                    .wrapping_add(column);
            }
        }
        self
    }
}

/// Two blocks of sums: one is being computed while the other goes out.
pub(super) struct Out {
    sums: MaybeUninit<[Sums; 2]>,
    /// Room for a function's values.
    values: MaybeUninit<Sums>,
    /// Which of them goes out.
    leaving: usize,
    /// Rows that have left.
    row: usize,
    each: usize,
    place: Place,
    finish: Finish,
    put: Put,
    /// Of the block that is being computed.
    coming: Place,
    becoming: Finish,
}

impl Out {
    pub(super) fn new() -> Self {
        let nowhere = Place::new(std::ptr::null_mut(), 0, [0; 2]);
        Self {
            sums: MaybeUninit::uninit(),
            values: MaybeUninit::uninit(),
            leaving: 0,
            row: 0,
            each: 0,
            place: nowhere,
            finish: Finish::NOTHING,
            put: put_then,
            coming: nowhere,
            becoming: Finish::NOTHING,
        }
    }

    #[inline(always)]
    fn block(&mut self, number: usize) -> *mut f32 {
        let sums = self.sums.as_mut_ptr();
        // SAFETY: one of the two, and nothing of it is read.
        unsafe { (&raw mut (*sums)[number].0).cast() }
    }

    /// Where the next block is to be summed. The place that it will go to is fetched meanwhile.
    #[inline(always)]
    pub(super) fn begin(&mut self, place: Place, finish: Finish) -> *mut f32 {
        (self.coming, self.becoming) = (place, finish);
        self.block(1 - self.leaving)
    }

    /// It has been summed, and leaves within so many pushes.
    ///
    /// # Safety
    /// As `rest`. The place, the bias and the other matrix have such a block.
    #[inline(always)]
    pub(super) unsafe fn leave(&mut self, pushes: usize) {
        // SAFETY: as the caller says.
        unsafe { self.rest() }
        self.leaving = 1 - self.leaving;
        self.row = 0;
        (self.place, self.finish) = (self.coming, self.becoming);
        self.each = self.place.rows.div_ceil(pushes);
        self.put = put(self.place, self.finish);
    }

    /// What has not left yet.
    ///
    /// # Safety
    /// The processor has AVX-512.
    #[inline(always)]
    pub(super) unsafe fn rest(&mut self) {
        // SAFETY: as the caller says.
        unsafe { self.rows(self.place.rows - self.row) }
    }

    /// Some rows leave, and as many of what comes are fetched.
    ///
    /// # Safety
    /// As `rest`.
    #[inline(always)]
    pub(super) unsafe fn push(&mut self) {
        let count = self.each.min(self.place.rows - self.row);
        if self.becoming.add || !self.becoming.past {
            fetch_rows(self.coming.c, self.coming.stride, self.row, count);
        }
        if let Some(Then::Slope { of, stride, .. }) = self.becoming.then {
            fetch_rows(of, stride, self.row, count);
        }
        // SAFETY: as the caller says.
        unsafe { self.rows(count) }
    }

    /// # Safety
    /// As `rest`; so many rows are left.
    #[inline(always)]
    unsafe fn rows(&mut self, count: usize) {
        if count == 0 {
            return;
        }
        let sums = self.block(self.leaving).wrapping_add(self.row * BLOCK);
        let values = self.values.as_mut_ptr().cast();
        // SAFETY: rows of the sums and of the place that `leave` was told of.
        unsafe {
            (self.put)(
                [sums, values],
                self.place.from(self.row, count),
                self.finish.at(self.row),
            )
        }
        self.row += count;
    }
}

/// Fetches rows of a block.
#[inline(always)]
fn fetch_rows(first: *const f32, stride: isize, row: usize, count: usize) {
    for row in row..row + count {
        let row = first.wrapping_offset(row as isize * stride);
        fetch(row);
        fetch(row.wrapping_add(SIDE));
    }
}

/// Puts sums, given room for as many values.
type Put = unsafe fn([*mut f32; 2], Place, Finish);

/// The way for what becomes of sums.
fn put(place: Place, finish: Finish) -> Put {
    let lines = place.c.align_offset(64) == 0 && place.stride % SIDE as isize == 0;
    let past = finish.past && lines && place.columns == BLOCK;
    match (
        finish.then.is_some(),
        finish.add,
        finish.bias.is_some(),
        past,
    ) {
        (true, ..) => put_then,
        (_, false, false, false) => put_rows::<false, false, false>,
        (_, false, false, true) => put_rows::<false, false, true>,
        (_, false, true, false) => put_rows::<false, true, false>,
        (_, false, true, true) => put_rows::<false, true, true>,
        (_, true, false, false) => put_rows::<true, false, false>,
        (_, true, false, true) => put_rows::<true, false, true>,
        (_, true, true, false) => put_rows::<true, true, false>,
        (_, true, true, true) => put_rows::<true, true, true>,
    }
}

/// # Safety
/// The sums, the place and what the finish speaks of have such rows, and the processor AVX-512.
#[target_feature(enable = "avx512f")]
unsafe fn put_rows<const ADD: bool, const BIAS: bool, const PAST: bool>(
    [sums, _]: [*mut f32; 2],
    place: Place,
    finish: Finish,
) {
    for half in [0, SIDE] {
        let mask = place.masks[half / SIDE];
        // SAFETY: masked to columns that exist; what goes past the caches are whole lines of them.
        unsafe {
            let bias = match finish.bias {
                Some(bias) if BIAS => _mm512_maskz_loadu_ps(mask, bias.wrapping_add(half)),
                _ => _mm512_setzero_ps(),
            };
            for row in 0..place.rows {
                let c = place
                    .c
                    .wrapping_offset(row as isize * place.stride)
                    .wrapping_add(half);
                let mut sum = _mm512_load_ps(sums.add(row * BLOCK + half));
                if ADD {
                    sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(mask, c));
                }
                if BIAS {
                    sum = _mm512_add_ps(sum, bias);
                }
                match PAST {
                    true => _mm512_stream_ps(c, sum),
                    false => _mm512_mask_storeu_ps(c, mask, sum),
                }
            }
        }
    }
}

/// # Safety
/// As `put_rows`.
#[target_feature(enable = "avx512f")]
unsafe fn put_then([sums, values]: [*mut f32; 2], place: Place, finish: Finish) {
    let Some(then) = finish.then else {
        return;
    };
    for half in [0, SIDE] {
        let mask = place.masks[half / SIDE];
        // SAFETY: masked to columns that exist.
        unsafe {
            for row in 0..place.rows {
                let c = place
                    .c
                    .wrapping_offset(row as isize * place.stride)
                    .wrapping_add(half);
                let from = sums.add(row * BLOCK + half);
                let mut sum = _mm512_load_ps(from);
                if finish.add {
                    sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(mask, c));
                }
                if let Some(bias) = finish.bias {
                    let bias = _mm512_maskz_loadu_ps(mask, bias.wrapping_add(half));
                    sum = _mm512_add_ps(sum, bias);
                }
                _mm512_store_ps(from, sum);
            }
        }
    }
    let sizes = [place.rows, place.columns];
    let plain = Finish {
        past: finish.past,
        ..Finish::NOTHING
    };
    // SAFETY: the caller's rows; nothing is added to them again.
    unsafe {
        match then {
            Then::Value { f, into, stride } => {
                let own = ArrayView2::from_shape_ptr(rows_of(sizes, BLOCK), sums);
                (f.value)(
                    ArrayViewMut2::from_shape_ptr(rows_of(sizes, BLOCK), values),
                    own,
                );
                let into = Place {
                    c: into,
                    stride,
                    ..place
                };
                put(into, plain)([values; 2], into, plain);
            }
            Then::Slope { f, of, stride } => {
                let of = ArrayView2::from_shape_ptr(rows_of(sizes, stride as usize), of);
                (f.slope)(
                    ArrayViewMut2::from_shape_ptr(rows_of(sizes, BLOCK), sums),
                    of,
                );
            }
        }
        put(place, plain)([sums, values], place, plain);
    }
}

/// So many rows and columns, from one row to the next `stride` numbers.
fn rows_of([rows, columns]: [usize; 2], stride: usize) -> StrideShape<Ix2> {
    (rows, columns).strides((stride, 1))
}
