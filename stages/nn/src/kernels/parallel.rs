//! Work that splits into pieces owning their outputs, on one thread or several.
//!
//! Where it is cut never shows in the numbers: a piece computes every unit (row, block of rows) as
//! if it were alone.

use std::ops::Range;

/// Work made of units that may be done by different threads.
pub(crate) trait Split: Sized + Send {
    /// How many units.
    fn units(&self) -> usize;
    /// The first `units` units, and the rest.
    fn split(self, units: usize) -> (Self, Self);
}

/// Elements read in units of `.1` elements; the last unit may be shorter.
#[derive(Clone, Copy)]
pub(crate) struct In<'a, T = f32>(pub(crate) &'a [T], pub(crate) usize);

/// Elements written in units of `.1` elements; the last unit may be shorter.
pub(crate) struct Out<'a, T = f32>(pub(crate) &'a mut [T], pub(crate) usize);

impl<T: Sync> Split for In<'_, T> {
    fn units(&self) -> usize {
        self.0.len().div_ceil(self.1.max(1))
    }
    fn split(self, units: usize) -> (Self, Self) {
        let (head, tail) = self.0.split_at((units * self.1).min(self.0.len()));
        (Self(head, self.1), Self(tail, self.1))
    }
}

impl<T: Send> Split for Out<'_, T> {
    fn units(&self) -> usize {
        self.0.len().div_ceil(self.1.max(1))
    }
    fn split(self, units: usize) -> (Self, Self) {
        let (head, tail) = self.0.split_at_mut((units * self.1).min(self.0.len()));
        (Self(head, self.1), Self(tail, self.1))
    }
}

/// The numbers of the units themselves.
impl Split for Range<usize> {
    fn units(&self) -> usize {
        self.len()
    }
    fn split(self, units: usize) -> (Self, Self) {
        let middle = self.start + units;
        (self.start..middle, middle..self.end)
    }
}

/// What may be missing goes with what is there.
impl<S: Split> Split for Option<S> {
    fn units(&self) -> usize {
        self.as_ref().map_or(0, Split::units)
    }
    fn split(self, units: usize) -> (Self, Self) {
        self.map(|work| work.split(units)).unzip()
    }
}

macro_rules! split_tuple {
    ($first:ident $($name:ident)+) => {
        impl<$first: Split, $($name: Split),+> Split for ($first, $($name,)+) {
            fn units(&self) -> usize {
                self.0.units()
            }
            #[allow(non_snake_case)]
            fn split(self, units: usize) -> (Self, Self) {
                let ($first, $($name,)+) = self;
                let $first = $first.split(units);
                $(let $name = $name.split(units);)+
                (($first.0, $($name.0,)+), ($first.1, $($name.1,)+))
            }
        }
    };
}
split_tuple!(A B);
split_tuple!(A B C);
split_tuple!(A B C D);
split_tuple!(A B C D E);

/// Elements below which another thread costs more than it brings.
const GRAIN_ELEMENTS: usize = 16 * 1024;

/// Does `work`, which handles about `elements` elements, on up to `threads` threads of the node's
/// own.
pub(crate) fn spread<W: Split>(threads: usize, elements: usize, work: W, body: impl Fn(W) + Sync) {
    let pieces = threads.min(elements / GRAIN_ELEMENTS).min(work.units());
    spread_pieces(pieces, work, &body);
}

fn spread_pieces<W: Split>(pieces: usize, work: W, body: &(impl Fn(W) + Sync)) {
    if pieces < 2 {
        return body(work);
    }
    let left = pieces / 2;
    let units = work.units() * left / pieces;
    let (head, tail) = work.split(units);
    rayon::join(
        || spread_pieces(left, head, body),
        || spread_pieces(pieces - left, tail, body),
    );
}

/// Functions compiled for the widest vectors that this processor has; which those are is looked up
/// with every call.
///
/// References in their signatures have the lifetime `'a`. What they call must be
/// `#[inline(always)]`, or small: what is not inlined is compiled for the oldest processor. A
/// closure given to pulp would not be inlined for sure, hence the struct.
macro_rules! vectorised {
    ($(
        $(#[$doc:meta])*
        $vis:vis fn $name:ident $([$generic:ident: $bound:path])? ($($arg:ident: $type:ty),* $(,)?)
        $body:block
    )+) => {$(
        $(#[$doc])*
        $vis fn $name<'a $(, $generic: $bound)?>($($arg: $type),*) {
            struct Call<'a $(, $generic)?> {
                $($arg: $type,)*
                phantom: std::marker::PhantomData<(&'a (), $($generic)?)>,
            }
            impl<'a $(, $generic: $bound)?> pulp::WithSimd for Call<'a $(, $generic)?> {
                type Output = ();
                #[inline(always)]
                fn with_simd<S: pulp::Simd>(self, _: S) {
                    let Self { $($arg,)* phantom: _ } = self;
                    $body
                }
            }
            let phantom = std::marker::PhantomData;
            pulp::Arch::new().dispatch(Call $(::<$generic>)? { $($arg,)* phantom });
        }
    )+};
}
pub(crate) use vectorised;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_every_unit_once_with_a_ragged_end() {
        for threads in 1..6 {
            let (from, mut to) = ((0..50_003).collect::<Vec<i32>>(), vec![0; 50_003]);
            let work = (Out(&mut to, 64), In(&from, 64), 0..50_003usize.div_ceil(64));
            spread(threads, 1 << 20, work, |(to, from, units)| {
                assert_eq!(to.units(), units.len());
                assert_eq!(from.0[0] as usize, units.start * 64);
                for (to, from) in to.0.iter_mut().zip(from.0) {
                    *to += from + 1;
                }
            });
            assert!(to.iter().zip(&from).all(|(to, from)| *to == from + 1));
        }
    }
}
