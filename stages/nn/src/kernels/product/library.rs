//! Products by the crate `gemm`.
#![allow(unsafe_code)]

use super::{Onto, Product};
use gemm::Parallelism;

pub(super) fn product(product: Product<'_>, threads: usize) {
    product.along_inner(|piece| one(piece, threads));
}

fn one(product: Product<'_>, threads: usize) {
    let [rows, columns, inner] = product.sizes();
    let Product {
        mut c,
        mut onto,
        a,
        b,
        bias,
        ..
    } = product;
    if let Some(bias) = bias {
        for mut row in c.rows_mut() {
            let row = row.as_slice_mut().expect("rows of c are contiguous");
            match onto {
                Onto::Nothing => row.copy_from_slice(bias),
                Onto::Present => row.iter_mut().zip(bias).for_each(|(c, bias)| *c += bias),
            }
        }
        onto = Onto::Present;
    }
    let parallelism = match threads {
        0 | 1 => Parallelism::None,
        threads => Parallelism::Rayon(threads),
    };
    let strides = |strides: &[isize]| (strides[1], strides[0]);
    let (c_columns, c_rows) = strides(c.strides());
    let (a_columns, a_rows) = strides(a.strides());
    let (b_columns, b_rows) = strides(b.strides());
    // SAFETY: the pointers and strides are those of views whose shapes were compared in `sizes`,
    // so every element that gemm touches belongs to its view; c is borrowed mutably, hence shares
    // no element with a or b.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            inner,
            c.as_mut_ptr(),
            c_columns,
            c_rows,
            onto == Onto::Present,
            a.as_ptr(),
            a_columns,
            a_rows,
            b.as_ptr(),
            b_columns,
            b_rows,
            1.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}
