//! The transforms of F(2 x 2, 3 x 3), channel beside channel.
//!
//! ```text
//!        1  0 -1  0         1    0    0
//!  B^T = 0  1  1  0   G  = 1/2  1/2  1/2   A^T = 1  1  1  0
//!        0 -1  1  0        1/2 -1/2  1/2         0  1 -1 -1
//!        0  1  0 -1         0    0    1
//! ```

use crate::kernels::product::Onto;
use pulp::Simd;

/// Channels of images are multiples of it: of what any vector holds.
pub(super) const LANES: usize = 16;

/// Matrices that take the place of a tile.
pub(super) const POINTS: usize = 16;

/// The pixels of a tile, line by line, each of as many channels.
pub(super) type Pixels<'a, const N: usize> = [[&'a [f32]; N]; N];

/// A row of each of the matrices.
pub(super) type Rows<'a> = [&'a mut [f32]; POINTS];

/// Transforms of four or fewer vectors.
#[derive(Clone, Copy)]
struct Vectors<S>(S);

#[inline(always)]
fn vector<S: Simd>(x: &[f32], at: usize) -> S::f32s {
    S::as_simd_f32s(x).0[at]
}

#[inline(always)]
fn put<S: Simd>(x: S::f32s, to: &mut [f32], at: usize) {
    S::as_mut_simd_f32s(to).0[at] = x;
}

impl<S: Simd> Vectors<S> {
    /// (a + b) / 2
    #[inline(always)]
    fn mean(self, a: S::f32s, b: S::f32s) -> S::f32s {
        let half = self.0.splat_f32s(0.5);
        self.0.mul_f32s(half, self.0.add_f32s(a, b))
    }

    /// (a - b) / 2
    #[inline(always)]
    fn half_difference(self, a: S::f32s, b: S::f32s) -> S::f32s {
        let half = self.0.splat_f32s(0.5);
        self.0.mul_f32s(half, self.0.sub_f32s(a, b))
    }

    /// B^T x
    #[inline(always)]
    fn seen(self, [a, b, c, d]: [S::f32s; 4]) -> [S::f32s; 4] {
        let simd = self.0;
        [
            simd.sub_f32s(a, c),
            simd.add_f32s(b, c),
            simd.sub_f32s(c, b),
            simd.sub_f32s(b, d),
        ]
    }

    /// A^T x
    #[inline(always)]
    fn outputs(self, [a, b, c, d]: [S::f32s; 4]) -> [S::f32s; 2] {
        let simd = self.0;
        [
            simd.add_f32s(simd.add_f32s(a, b), c),
            simd.sub_f32s(simd.sub_f32s(b, c), d),
        ]
    }

    /// A x
    #[inline(always)]
    fn gradients(self, [a, b]: [S::f32s; 2]) -> [S::f32s; 4] {
        let simd = self.0;
        let negative = simd.sub_f32s(simd.splat_f32s(0.0), b);
        [a, simd.add_f32s(a, b), simd.sub_f32s(a, b), negative]
    }

    /// G x
    #[inline(always)]
    fn weights(self, [a, b, c]: [S::f32s; 3]) -> [S::f32s; 4] {
        let ends = self.0.add_f32s(a, c);
        [a, self.mean(ends, b), self.half_difference(ends, b), c]
    }

    /// G^T x
    #[inline(always)]
    fn weight_gradients(self, [a, b, c, d]: [S::f32s; 4]) -> [S::f32s; 3] {
        let (simd, middle) = (self.0, self.mean(b, c));
        let half = self.half_difference(b, c);
        [simd.add_f32s(a, middle), half, simd.add_f32s(middle, d)]
    }

    /// The transform of columns, then that of lines.
    #[inline(always)]
    fn both<const N: usize, const M: usize>(
        self,
        x: [[S::f32s; N]; N],
        one: impl Fn([S::f32s; N]) -> [S::f32s; M],
    ) -> [[S::f32s; M]; M] {
        let zero = self.0.splat_f32s(0.0);
        let (mut half, mut whole) = ([[zero; N]; M], [[zero; M]; M]);
        for column in 0..N {
            let mut line = [zero; N];
            for row in 0..N {
                line[row] = x[row][column];
            }
            let line = one(line);
            for row in 0..M {
                half[row][column] = line[row];
            }
        }
        for row in 0..M {
            whole[row] = one(half[row]);
        }
        whole
    }

    #[inline(always)]
    fn into_rows<const N: usize>(
        self,
        rows: Rows<'_>,
        tile: Pixels<'_, N>,
        one: impl Fn([S::f32s; N]) -> [S::f32s; 4],
    ) {
        for at in 0..rows[0].len() / S::F32_LANES {
            let mut x = [[self.0.splat_f32s(0.0); N]; N];
            for row in 0..N {
                for column in 0..N {
                    x[row][column] = vector::<S>(tile[row][column], at);
                }
            }
            let points = self.both(x, &one);
            for row in 0..4 {
                for column in 0..4 {
                    put::<S>(points[row][column], rows[4 * row + column], at);
                }
            }
        }
    }

    #[inline(always)]
    fn points(self, rows: &[&[f32]; POINTS], at: usize) -> [[S::f32s; 4]; 4] {
        let mut points = [[self.0.splat_f32s(0.0); 4]; 4];
        for row in 0..4 {
            for column in 0..4 {
                points[row][column] = vector::<S>(rows[4 * row + column], at);
            }
        }
        points
    }
}

/// Functions of vectors, the widest that this processor has.
macro_rules! vectors {
    ($(
        $(#[$doc:meta])*
        fn $name:ident($vectors:ident; $($arg:ident: $type:ty),* $(,)?) $body:block
    )+) => {$(
        $(#[$doc])*
        pub(super) fn $name<'a>($($arg: $type),*) {
            struct Call<'a> {
                $($arg: $type),*
            }
            impl<'a> pulp::WithSimd for Call<'a> {
                type Output = ();
                #[inline(always)]
                fn with_simd<S: Simd>(self, simd: S) {
                    let (Self { $($arg),* }, $vectors) = (self, Vectors(simd));
                    $body
                }
            }
            pulp::Arch::new().dispatch(Call { $($arg),* });
        }
    )+};
}

vectors! {
    /// B^T x B: what the window sees.
    fn seen(vectors; rows: Rows<'a>, tile: Pixels<'a, 4>) {
        vectors.into_rows(rows, tile, |x| vectors.seen(x));
    }

    /// A dy A^T: the gradients of what is summed to y.
    fn gradients(vectors; rows: Rows<'a>, tile: Pixels<'a, 2>) {
        vectors.into_rows(rows, tile, |x| vectors.gradients(x));
    }

    /// G g G^T of a filter of nine taps.
    fn weights(vectors; rows: Rows<'a>, taps: Pixels<'a, 3>) {
        vectors.into_rows(rows, taps, |x| vectors.weights(x));
    }

    /// A^T m A + bias, in the pixels of y that there are.
    fn outputs(
        vectors;
        pixels: [Option<&'a mut [f32]>; 4],
        rows: [&'a [f32]; POINTS],
        bias: Option<&'a [f32]>,
    ) {
        let mut pixels = pixels;
        for at in 0..rows[0].len() / S::F32_LANES {
            let points = vectors.points(&rows, at);
            let tile = vectors.both(points, |x| vectors.outputs(x));
            let bias = match bias {
                Some(bias) => vector::<S>(bias, at),
                None => vectors.0.splat_f32s(0.0),
            };
            for number in 0..4 {
                if let Some(pixel) = &mut pixels[number] {
                    let y = vectors.0.add_f32s(tile[number / 2][number % 2], bias);
                    put::<S>(y, pixel, at);
                }
            }
        }
    }

    /// G^T du G of a filter of nine taps, put or added.
    fn weight_gradients(vectors; into: &'a mut [f32], onto: Onto, rows: [&'a [f32]; POINTS]) {
        let channels = rows[0].len();
        for at in 0..channels / S::F32_LANES {
            let points = vectors.points(&rows, at);
            let taps = vectors.both(points, |x| vectors.weight_gradients(x));
            for tap in 0..9 {
                let into = &mut into[tap * channels..][..channels];
                let before = match onto {
                    Onto::Nothing => vectors.0.splat_f32s(0.0),
                    Onto::Present => vector::<S>(into, at),
                };
                put::<S>(vectors.0.add_f32s(before, taps[tap / 3][tap % 3]), into, at);
            }
        }
    }
}
