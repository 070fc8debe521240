//! Images cut into tiles of 2 x 2 pixels, and the 16 matrices that take their place.

use super::transform::{POINTS, Pixels, Rows};
use crate::images::Images;
use crate::kernels::parallel::Split;
use std::ops::Range;

/// The tiles of images. They go line by line: a line of tiles is two lines of pixels, or one where
/// an image ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tiles {
    pub(super) images: Images,
    /// Tiles down and along an image.
    sides: [usize; 2],
}

impl Tiles {
    pub(super) fn of(images: Images) -> Self {
        let sides = images.sides.map(|side| side.div_ceil(2));
        Self { images, sides }
    }

    /// Of all images.
    pub(super) fn lines(&self) -> usize {
        self.images.rows * self.sides[0]
    }

    /// Of a line.
    pub(super) fn along(&self) -> usize {
        self.sides[1]
    }

    pub(super) fn count(&self) -> usize {
        self.lines() * self.along()
    }

    /// The first line of pixels of all images that belongs to this line of tiles.
    fn first_line(&self, line: usize) -> usize {
        let [down, _] = self.sides;
        line / down * self.images.sides[0] + 2 * (line % down)
    }

    /// Elements of all pixels before this line of tiles.
    pub(super) fn elements_before(&self, line: usize) -> usize {
        self.first_line(line) * self.images.sides[1] * self.images.channels
    }

    /// Lines and columns of an image that are covered by `N` x `N` pixels, the first of which is
    /// `border` pixels before the tile: where each pixel begins, if it is within the image.
    fn places<const N: usize>(&self, tile: usize, border: usize) -> [[Option<usize>; N]; N] {
        let (line, column) = (tile / self.along(), tile % self.along());
        let [height, width] = self.images.sides;
        let image = line / self.sides[0];
        let first = 2 * (line % self.sides[0]);
        let mut places = [[None; N]; N];
        for (row, places) in places.iter_mut().enumerate() {
            let line = (first + row).wrapping_sub(border);
            for (at, place) in places.iter_mut().enumerate() {
                let column = (2 * column + at).wrapping_sub(border);
                if line < height && column < width {
                    let pixel = (image * height + line) * width + column;
                    *place = Some(pixel * self.images.channels);
                }
            }
        }
        places
    }

    /// `N` x `N` pixels; `zeros` where there are none.
    pub(super) fn pixels<'a, const N: usize>(
        &self,
        x: &'a [f32],
        zeros: &'a [f32],
        tile: usize,
    ) -> Pixels<'a, N> {
        // 4 x 4 pixels are a tile with one more on each side.
        let places = self.places::<N>(tile, (N - 2) / 2);
        let pixel = |place: Option<usize>| match place {
            Some(at) => &x[at..at + self.images.channels],
            None => zeros,
        };
        places.map(|line| line.map(pixel))
    }

    /// The pixels of a tile, in what begins with this line of tiles.
    pub(super) fn pixels_mut<'a>(
        &self,
        y: &'a mut [f32],
        tile: usize,
        first_line: usize,
    ) -> [Option<&'a mut [f32]>; 4] {
        let before = self.elements_before(first_line);
        let [[a, b], [c, d]] = self.places::<2>(tile, 0);
        let (mut rest, mut taken) = (y, before);
        [a, b, c, d].map(|place| {
            let at = place?;
            let (_, from) = std::mem::take(&mut rest).split_at_mut(at - taken);
            let (pixel, after) = from.split_at_mut(self.images.channels);
            (rest, taken) = (after, at + self.images.channels);
            Some(pixel)
        })
    }
}

/// Blocks of lines of tiles, with the pixels that they have.
pub(super) struct Blocks<'a> {
    pub(super) tiles: Tiles,
    /// Lines of a block.
    pub(super) lines: usize,
    pub(super) numbers: Range<usize>,
    pub(super) pixels: &'a mut [f32],
}

impl Split for Blocks<'_> {
    fn units(&self) -> usize {
        self.numbers.len()
    }

    fn split(self, units: usize) -> (Self, Self) {
        let middle = self.numbers.start + units;
        let before = |block: usize| {
            let line = (block * self.lines).min(self.tiles.lines());
            self.tiles.elements_before(line)
        };
        let at = before(middle) - before(self.numbers.start);
        let (pixels, others) = self.pixels.split_at_mut(at);
        let part = |numbers, pixels| Blocks {
            numbers,
            pixels,
            ..self
        };
        (
            part(self.numbers.start..middle, pixels),
            part(middle..self.numbers.end, others),
        )
    }
}

/// Rows of the 16 matrices.
pub(super) struct Matrices<'a> {
    parts: Rows<'a>,
    width: usize,
}

/// Elements from one matrix of this size to the next: a cache line more than it has, so that they
/// do not all lie in the same lines of the caches.
pub(super) fn pitch(rows: usize, width: usize) -> usize {
    rows * width + 16
}

impl<'a> Matrices<'a> {
    /// All rows.
    pub(super) fn of(numbers: &'a mut [f32], rows: usize, width: usize) -> Self {
        let mut parts = numbers.chunks_exact_mut(pitch(rows, width));
        let part = |_| {
            let part = parts.next().expect("sixteen matrices");
            &mut part[..rows * width]
        };
        Self {
            parts: [(); POINTS].map(part),
            width,
        }
    }

    /// One row of each.
    pub(super) fn row(&mut self, row: usize) -> Rows<'_> {
        let (start, width) = (row * self.width, self.width);
        let mut parts = self.parts.iter_mut();
        [(); POINTS].map(|()| {
            let part = parts.next().expect("sixteen matrices");
            &mut part[start..start + width]
        })
    }
}

impl Split for Matrices<'_> {
    fn units(&self) -> usize {
        self.parts[0].len() / self.width
    }

    fn split(self, units: usize) -> (Self, Self) {
        let (at, width) = (units * self.width, self.width);
        let mut others = Vec::with_capacity(POINTS);
        let parts = self.parts.map(|part| {
            let (part, other) = part.split_at_mut(at);
            others.push(other);
            part
        });
        let mut others = others.into_iter();
        let other = |_| others.next().expect("sixteen matrices");
        let rest = [(); POINTS].map(other);
        (Self { parts, width }, Self { parts: rest, width })
    }
}
