//! Pictures of circles, squares and triangles in noise, and which pixel belongs to what.

use brigade::layer::{Data, LayerError, Random, StepId, Tensor, Tensors};
use std::ops::Range;

/// Pixels of a side.
pub(crate) const SIDE: usize = 32;
/// Background, circle, square, triangle.
pub(crate) const CLASSES: usize = 4;
/// Shapes in a picture.
const SHAPES: u64 = 3;

/// Pictures that follow from a seed, the step and their number alone: every node draws what it
/// needs.
#[derive(Clone, Debug)]
pub(crate) struct Shapes {
    /// Other seeds, other pictures.
    pub(crate) seed: u64,
    /// Pictures of a step.
    pub(crate) rows: usize,
}

impl Data for Shapes {
    fn rows(&self, _: StepId) -> usize {
        self.rows
    }

    /// f32 [rows, SIDE, SIDE, 1].
    fn inputs(&self, step: StepId, rows: Range<usize>) -> Result<Tensors, LayerError> {
        let (count, mut all) = (rows.len(), Vec::with_capacity(rows.len() * SIDE * SIDE));
        for row in rows {
            all.extend(self.picture(step, row).0);
        }
        Ok(Tensor::from_vec([count, SIDE, SIDE, 1], all)?.into())
    }

    /// i32 [rows, SIDE, SIDE].
    fn targets(&self, step: StepId, rows: Range<usize>) -> Result<Tensors, LayerError> {
        let (count, mut all) = (rows.len(), Vec::with_capacity(rows.len() * SIDE * SIDE));
        for row in rows {
            all.extend(self.picture(step, row).1);
        }
        Ok(Tensor::from_vec([count, SIDE, SIDE], all)?.into())
    }
}

impl Shapes {
    /// Brightness and class of every pixel.
    fn picture(&self, step: StepId, row: usize) -> (Vec<f32>, Vec<i32>) {
        let random = Random::named(self.seed, &format!("picture {step} {row}"));
        let noise = |at: usize| random.below(at as u64, 0, 1000) as f32 / 2000.0 - 0.25;
        let mut pixels: Vec<f32> = (0..SIDE * SIDE).map(noise).collect();
        let mut classes = vec![0; SIDE * SIDE];
        for shape in 0..SHAPES {
            let draw = |what: u32, from: u64, to: u64| {
                (from + random.below(shape, 1 + what, to - from)) as i32
            };
            let class = draw(0, 1, CLASSES as u64);
            let radius = draw(1, 4, 8);
            let [x, y] = [2, 3].map(|axis| draw(axis, 6, SIDE as u64 - 6));
            let light = 0.5 + draw(4, 0, 100) as f32 / 200.0;
            for (at, pixel) in pixels.iter_mut().enumerate() {
                let (down, right) = ((at / SIDE) as i32 - y, (at % SIDE) as i32 - x);
                if covers(class, radius, [down, right]) {
                    *pixel += light;
                    classes[at] = class;
                }
            }
        }
        (pixels, classes)
    }
}

fn covers(class: i32, radius: i32, [down, right]: [i32; 2]) -> bool {
    match class {
        1 => down * down + right * right <= radius * radius,
        2 => down.abs() < radius && right.abs() < radius,
        _ => down.abs() < radius && 2 * right.abs() <= down + radius,
    }
}
