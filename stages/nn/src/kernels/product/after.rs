//! What is done with a product while it is still in the nearest cache.

use super::Product;
use crate::kernels::elementwise::Function;
use ndarray::{ArrayView2, ArrayViewMut2, Axis};

/// What is done with every element of a product.
pub(crate) enum After<'a> {
    /// `into` = f(c).
    Value {
        f: Function,
        into: ArrayViewMut2<'a, f32>,
    },
    /// c = c f'(of).
    Slope {
        f: Function,
        of: ArrayView2<'a, f32>,
    },
}

impl<'a> After<'a> {
    pub(super) fn split_at(self, axis: Axis, at: usize) -> (Self, Self) {
        match self {
            Self::Value { f, into } => {
                let (into, rest) = into.split_at(axis, at);
                (Self::Value { f, into }, Self::Value { f, into: rest })
            }
            Self::Slope { f, of } => {
                let (of, rest) = of.split_at(axis, at);
                (Self::Slope { f, of }, Self::Slope { f, of: rest })
            }
        }
    }

    /// The same for a borrowed time.
    pub(crate) fn reborrow(&mut self) -> After<'_> {
        match self {
            Self::Value { f, into } => After::Value {
                f: *f,
                into: into.view_mut(),
            },
            Self::Slope { f, of } => After::Slope {
                f: *f,
                of: of.view(),
            },
        }
    }

    pub(super) fn dim(&self) -> (usize, usize) {
        match self {
            Self::Value { into, .. } => into.dim(),
            Self::Slope { of, .. } => of.dim(),
        }
    }

    /// Does it.
    pub(super) fn apply(self, c: ArrayViewMut2<'_, f32>) {
        match self {
            Self::Value { f, into } => (f.value)(into, c.view()),
            Self::Slope { f, of } => (f.slope)(c, of),
        }
    }

    /// Does it on several threads.
    pub(super) fn apply_on(self, c: ArrayViewMut2<'_, f32>, threads: usize) {
        let rows = c.nrows();
        if threads < 2 || rows < 2 {
            return self.apply(c);
        }
        let left = threads / 2;
        let at = rows * left / threads;
        let (c, below) = c.split_at(Axis(0), at);
        let (own, other) = self.split_at(Axis(0), at);
        rayon::join(
            || own.apply_on(c, left),
            || other.apply_on(below, threads - left),
        );
    }
}

impl Product<'_> {
    /// Computes the product in a way that knows nothing of what comes after it, then that.
    pub(super) fn then(mut self, threads: usize, compute: impl FnOnce(Product<'_>)) {
        let after = self.after.take();
        let Product {
            c,
            onto,
            a,
            b,
            bias,
            ..
        } = &mut self;
        compute(Product {
            c: c.view_mut(),
            onto: *onto,
            a: a.view(),
            b: b.view(),
            bias: *bias,
            after: None,
            prepared: None,
        });
        if let Some(after) = after {
            after.apply_on(self.c, threads);
        }
    }
}
