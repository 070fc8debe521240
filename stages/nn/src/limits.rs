//! What this machine can do at most, measured with the kernels themselves.

use crate::kernels::product::{Means, Product, space};
use brigade_layer::Precision;
use ndarray::Array2;
use serde::{Deserialize, Serialize};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// The most that one thread of this machine does.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Limits {
    /// Floating-point operations of products a second: of 512 x 512 by 512 x 512, all in the
    /// caches.
    pub product_flops: f64,
    /// Bytes read and written a second by a copy that fits into no cache.
    pub memory_bytes: f64,
}

const SIDE: usize = 512;
const COPIED: usize = 16 << 20;
const TIME: Duration = Duration::from_millis(40);

impl Limits {
    /// Measures for about a tenth of a second.
    pub fn measure(precision: Precision) -> Self {
        let sizes = [SIDE; 3];
        let (a, b) = (
            Array2::from_elem((SIDE, SIDE), 0.7),
            Array2::from_elem((SIDE, SIDE), -1.3),
        );
        let (mut c, mut scratch) = (Array2::zeros((SIDE, SIDE)), vec![0.0; space(sizes)]);
        let product = best(|| {
            let (threads, space) = (1, &mut scratch[..]);
            let product = Product::new(c.view_mut(), [a.view(), b.view()]);
            product.run(Means {
                precision,
                threads,
                space,
            });
        });
        let (from, mut to) = (vec![1.0f32; COPIED], vec![0.0f32; COPIED]);
        let copy = best(|| black_box(&mut to).copy_from_slice(black_box(&from)));
        Self {
            product_flops: 2.0 * (SIDE * SIDE * SIDE) as f64 / product,
            memory_bytes: 8.0 * COPIED as f64 / copy,
        }
    }
}

/// The least seconds of several calls.
fn best(mut work: impl FnMut()) -> f64 {
    let (begun, mut least) = (Instant::now(), f64::INFINITY);
    while begun.elapsed() < TIME || least.is_infinite() {
        let started = Instant::now();
        work();
        least = least.min(started.elapsed().as_secs_f64());
    }
    least
}
