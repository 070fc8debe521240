//! One half of a product's columns as the gate of the other: h = f(g) u.

use crate::kernels::elementwise::Curve;
use crate::kernels::parallel::{In, Out, spread, vectorised};

/// Elements of one unit of work.
const UNIT: usize = 4096;

/// A gate by this curve.
#[derive(Clone, Copy)]
pub(crate) struct Gate {
    value: fn(&mut [f32], &[f32], &[f32]),
    gradients: fn(&mut [f32], &mut [f32], &mut [f32]),
}

impl Gate {
    pub(crate) fn of<C: Curve>() -> Self {
        Self {
            value: |h, g, u| value::<C>(h, g, u),
            gradients: |dh, g, u| gradients::<C>(dh, g, u),
        }
    }

    /// h = f(g) u.
    pub(crate) fn values(self, h: &mut [f32], [g, u]: [&[f32]; 2], threads: usize) {
        let (elements, work) = (h.len(), (Out(h, UNIT), In(g, UNIT), In(u, UNIT)));
        spread(threads, elements, work, |(h, g, u)| {
            (self.value)(h.0, g.0, u.0)
        });
    }

    /// In place: dh becomes du, g becomes dg, and u becomes h.
    pub(crate) fn gradients(self, dh: &mut [f32], [g, u]: [&mut [f32]; 2], threads: usize) {
        let (elements, work) = (dh.len(), (Out(dh, UNIT), Out(g, UNIT), Out(u, UNIT)));
        spread(threads, elements, work, |(dh, g, u)| {
            (self.gradients)(dh.0, g.0, u.0)
        });
    }
}

vectorised! {
    fn value[C: Curve](h: &'a mut [f32], g: &'a [f32], u: &'a [f32]) {
        for ((h, g), u) in h.iter_mut().zip(g).zip(u) {
            *h = C::value(*g) * u;
        }
    }

    fn gradients[C: Curve](dh: &'a mut [f32], g: &'a mut [f32], u: &'a mut [f32]) {
        for ((dh, g), u) in dh.iter_mut().zip(g).zip(u) {
            let (value, slope) = (C::value(*g), C::slope(*g));
            *g = *dh * *u * slope;
            *dh *= value;
            *u *= value;
        }
    }
}
