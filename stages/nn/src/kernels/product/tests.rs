//! Every way of computing a product beside three loops in double precision.

use super::*;
use brigade_layer::{Ctx, LayerState, Pool};
use ndarray::Array2;

const SIZES: [[usize; 3]; 12] = [
    // More rows than are packed at once, several columns, hardly anything to sum.
    [13_000, 40, 1],
    [290, 40, 512],
    [280, 560, 512],
    [1, 1, 1],
    [3, 5, 7],
    [17, 1, 33],
    [1, 19, 64],
    [33, 47, 1025],
    [65, 130, 512],
    [16, 16, 32],
    [300, 33, 31],
    [129, 128, 160],
];

fn numbers(rows: usize, columns: usize, salt: u32) -> Array2<f32> {
    let mut state = salt;
    Array2::from_shape_simple_fn((rows, columns), || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    })
}

/// Of every element, its truth and the sum of its terms' absolute values.
fn truth(a: ArrayView2<'_, f32>, b: ArrayView2<'_, f32>) -> Array2<(f64, f64)> {
    Array2::from_shape_fn((a.nrows(), b.ncols()), |(row, column)| {
        let terms = a.row(row).into_iter().zip(b.column(column));
        terms.fold((0.0, 0.0), |(sum, size), (a, b)| {
            let term = f64::from(*a) * f64::from(*b);
            (sum + term, size + term.abs())
        })
    })
}

/// Scratch for every way, whether a product would be computed by it or not.
fn ample(sizes: [usize; 3]) -> usize {
    4 * space(sizes)
}

type Compute = fn(Product<'_>, &mut [f32]);

const TILES: [(Unit, Precision, &str, Compute, f64); 3] = [
    (
        Unit::Amx,
        Precision::F32,
        "tiles",
        |p, space| tiles::product(p, (Unit::Amx, Precision::F32), space),
        3e-7,
    ),
    (
        Unit::Amx,
        Precision::Bf16,
        "tiles of bf16",
        |p, space| tiles::product(p, (Unit::Amx, Precision::Bf16), space),
        1e-2,
    ),
    (
        Unit::Dot,
        Precision::Bf16,
        "dot products of bf16",
        |p, space| tiles::product(p, (Unit::Dot, Precision::Bf16), space),
        1e-2,
    ),
];

/// A product of tiles, if this processor can.
fn of_tiles(unit: Unit, precision: Precision) -> Option<Compute> {
    let available = Unit::available().contains(&unit);
    let of = TILES.iter().find(|way| (way.0, way.1) == (unit, precision));
    of.filter(|_| available).map(|way| way.3)
}

fn ways() -> Vec<(&'static str, Compute, f64)> {
    let mut ways: Vec<(&'static str, Compute, f64)> = vec![
        ("library", |product, _| library::product(product, 1), 1e-6),
        ("portable", portable::product, 1e-2),
    ];
    let tiles = TILES
        .iter()
        .filter(|way| Unit::available().contains(&way.0));
    ways.extend(tiles.map(|(.., name, compute, error)| (*name, *compute, *error)));
    ways
}

/// The four layouts of two factors.
fn layouts(a: &Array2<f32>, b: &Array2<f32>, each: &mut dyn FnMut([ArrayView2<'_, f32>; 2])) {
    let (at, bt) = (
        a.t().as_standard_layout().into_owned(),
        b.t().as_standard_layout().into_owned(),
    );
    for a in [a.view(), at.t()] {
        for b in [b.view(), bt.t()] {
            each([a, b]);
        }
    }
}

#[test]
fn every_way_and_layout_agrees_with_three_loops_at_odd_sizes() {
    for (name, compute, error) in ways() {
        for [m, n, k] in SIZES {
            let (a, b) = (numbers(m, k, 1), numbers(k, n, 2));
            let (bias, truth) = (numbers(1, n, 3), truth(a.view(), b.view()));
            let mut scratch = vec![f32::NAN; ample([m, n, k])];
            layouts(&a, &b, &mut |factors| {
                for (onto, biased) in [
                    (Onto::Nothing, false),
                    (Onto::Nothing, true),
                    (Onto::Present, false),
                    (Onto::Present, true),
                ] {
                    let mut c = Array2::from_elem((m, n), 0.25);
                    let bias = biased.then(|| bias.as_slice().unwrap());
                    let product = Product::new(c.view_mut(), factors).onto(onto);
                    compute(product.bias(bias), &mut scratch);
                    for ((row, column), c) in c.indexed_iter() {
                        let (sum, size) = truth[[row, column]];
                        let start = if onto == Onto::Present { 0.25 } else { 0.0 };
                        let start = start + bias.map_or(0.0, |bias| f64::from(bias[column]));
                        let off = (f64::from(*c) - (start + sum)).abs();
                        assert!(off <= error * size + 1e-6, "{name} {m} {n} {k}: {off:e}");
                    }
                }
            });
        }
    }
}

/// Three pieces of a number are the number: no product in single precision is nearer to the truth.
#[test]
fn three_pieces_are_no_worse_than_single_precision() {
    let Some(tiles) = of_tiles(Unit::Amx, Precision::F32) else {
        return;
    };
    let (a, b) = (numbers(64, 2048, 5), numbers(2048, 64, 6));
    let truth = truth(a.view(), b.view());
    let worst = |compute: Compute| {
        let mut c = Array2::zeros((64, 64));
        let mut scratch = vec![0.0; ample([64, 64, 2048])];
        compute(
            Product::new(c.view_mut(), [a.view(), b.view()]),
            &mut scratch,
        );
        let errors = c
            .iter()
            .zip(&truth)
            .map(|(c, (sum, size))| (f64::from(*c) - sum).abs() / size);
        errors.fold(0.0, f64::max)
    };
    let pieces = worst(tiles);
    let library = worst(|product, _| library::product(product, 1));
    assert!(pieces <= library, "{pieces:e} {library:e}");
}

#[test]
fn tiles_and_the_portable_way_give_the_same_bits_of_bf16() {
    let Some(tiles) = of_tiles(Unit::Amx, Precision::Bf16) else {
        return;
    };
    for [m, n, k] in SIZES {
        let (a, b) = (numbers(m, k, 7), numbers(k, n, 8));
        let mut scratch = vec![0.0; ample([m, n, k])];
        layouts(&a, &b, &mut |factors| {
            let mut both = [(); 2].map(|()| Array2::from_elem((m, n), 0.5));
            for (c, compute) in both.iter_mut().zip([portable::product as Compute, tiles]) {
                let product = Product::new(c.view_mut(), factors);
                compute(product.onto(Onto::Present), &mut scratch);
            }
            assert_eq!(both[0], both[1], "{m} {n} {k}");
        });
    }
}

#[test]
fn threads_do_not_show() {
    for precision in [Precision::F32, Precision::Bf16] {
        let (a, b) = (numbers(200, 300, 1), numbers(300, 170, 2));
        let of = |threads: usize| {
            let mut c = Array2::zeros((200, 170));
            let mut scratch = vec![0.0; threads * space([200, 170, 300])];
            let space = &mut scratch[..];
            let product = Product::new(c.view_mut(), [a.view(), b.view()]);
            product.run(Means {
                precision,
                threads,
                space,
            });
            c
        };
        assert_eq!(of(1), of(2));
        assert_eq!(of(1), of(5));
    }
}

#[test]
fn extreme_numbers_stay_themselves() {
    for (name, compute, _) in ways() {
        let one = |x: f32, y: f32| {
            let (a, b) = (Array2::from_elem((1, 1), x), Array2::from_elem((1, 1), y));
            let mut c = Array2::zeros((1, 1));
            let mut scratch = vec![0.0; ample([1, 1, 1])];
            compute(
                Product::new(c.view_mut(), [a.view(), b.view()]),
                &mut scratch,
            );
            c[[0, 0]]
        };
        assert_eq!(one(2.0f32.powi(120), 2.0f32.powi(-120)), 1.0, "{name}");
        assert!(one(-1.5e38, 2.0f32.powi(-20)) < -1e32, "{name}");
        assert!(one(f32::INFINITY, 1.0).is_nan() || one(f32::INFINITY, 1.0).is_infinite());
        assert!(one(f32::NAN, 1.0).is_nan(), "{name}");
        assert_eq!(one(0.0, -3.0).abs(), 0.0, "{name}");
        assert!(!one(3e38, 3e38).is_finite(), "{name}");
    }
}

#[test]
fn a_strided_destination_keeps_its_neighbours() {
    for (name, compute, _) in ways() {
        let (a, b) = (numbers(40, 33, 1), numbers(33, 20, 2));
        let mut wide = Array2::from_elem((40, 60), 9.0);
        let mut scratch = vec![0.0; ample([40, 20, 33])];
        let c = wide.slice_mut(s![.., 2..22]);
        compute(Product::new(c, [a.view(), b.view()]), &mut scratch);
        let (left, right) = (wide.slice(s![.., ..2]), wide.slice(s![.., 22..]));
        assert!(
            left.iter().chain(right).all(|number| *number == 9.0),
            "{name}"
        );
    }
}

#[test]
fn an_empty_inner_dimension_gives_zeros() {
    let mut c = Array2::from_elem((2, 2), f32::NAN);
    let (a, b) = (Array2::zeros((2, 0)), Array2::zeros((0, 2)));
    let (precision, threads, space) = (Precision::F32, 1, &mut [][..]);
    let product = Product::new(c.view_mut(), [a.view(), b.view()]);
    product.run(Means {
        precision,
        threads,
        space,
    });
    assert_eq!(c, Array2::<f32>::zeros((2, 2)));
}
/// Prepared once or packed with every product, on any number of threads: the same bits.
#[test]
fn a_prepared_factor_is_the_factor() {
    let (a, b) = (numbers(40, 1100, 1), numbers(1100, 610, 2));
    let (pool, mut state) = (Pool::default(), LayerState::default());
    let mut cx = Ctx::new(&pool, &mut state);
    layouts(&a, &b, &mut |[a, b]| {
        let mut of = |threads: usize, prepares: bool| {
            (cx.precision, cx.threads) = (Precision::Bf16, threads);
            let prepared = match prepares {
                true => Prepared::new(b, &mut cx).unwrap(),
                false => None,
            };
            assert_eq!(
                prepared.is_some(),
                prepares && Unit::of(Precision::Bf16).is_some()
            );
            let mut c = Array2::zeros((40, 610));
            let mut scratch = vec![0.0; threads * space([40, 610, 1100])];
            let product = Product::new(c.view_mut(), [a, b]).prepared(prepared.as_ref());
            product.run(Means {
                precision: Precision::Bf16,
                threads,
                space: &mut scratch,
            });
            c
        };
        let expected = of(1, false);
        for threads in [1, 2, 3] {
            assert!(expected == of(threads, true), "{threads} threads");
        }
    });
}

/// What is large goes past the caches where it can: whole cache lines of blocks that begin at one.
#[test]
fn large_destinations_hold_what_small_ones_do() {
    let (m, n, k) = (530, 520, 33);
    let (a, b) = (numbers(m, k, 1), numbers(k, n, 2));
    for (name, compute, _) in ways() {
        for shift in [0, 1] {
            let mut parts = Array2::zeros((m, n));
            // Begins at a cache line.
            let mut whole = Pool::default().f32([m, n + 8 + shift]).unwrap();
            let mut whole = whole.matrix_mut();
            let mut scratch = vec![0.0; ample([m, n, k])];
            let c = whole.slice_mut(s![.., shift..n + shift]);
            compute(Product::new(c, [a.view(), b.view()]), &mut scratch);
            for rows in [0..100, 100..m] {
                let c = parts.slice_mut(s![rows.clone(), ..]);
                let factors = [a.slice(s![rows, ..]), b.view()];
                compute(Product::new(c, factors), &mut scratch);
            }
            let whole = whole.slice(s![.., shift..n + shift]);
            if name != "library" {
                assert!(parts == whole, "{name} {shift}");
            }
        }
    }
}
