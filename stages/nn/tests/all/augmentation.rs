//! Promise: what is flipped and cropped follows from seed, step and row alone, whoever asks, in
//! whatever order and micro-batches; every place is as likely as another; masks move with their
//! images.

use brigade_layer::{Batch, Data, LayerError, StepId, Tensor, Tensors};
use brigade_nn::Augmented;
use std::collections::BTreeMap;
use std::ops::Range;

const ROWS: usize = 64;
const HEIGHT: usize = 5;
const WIDTH: usize = 6;

/// Where a pixel comes from: row, height, width, each from 1; two channels, the second negative.
fn name(row: usize, y: usize, x: usize) -> i32 {
    (10_000 * (row + 1) + 100 * (y + 1) + x + 1) as i32
}

/// Images whose pixels say where they come from, and masks that say the same.
fn data() -> Batch {
    let pixels = (0..ROWS * HEIGHT * WIDTH).map(|at| {
        let (row, at) = (at / (HEIGHT * WIDTH), at % (HEIGHT * WIDTH));
        name(row, at / WIDTH, at % WIDTH)
    });
    let masks: Vec<i32> = pixels.collect();
    let images = masks.iter().flat_map(|x| [*x as f32, -*x as f32]).collect();
    Batch::new(
        Tensor::from_vec::<f32>([ROWS, HEIGHT, WIDTH, 2], images).unwrap(),
        Tensor::from_vec([ROWS, HEIGHT, WIDTH], masks).unwrap(),
    )
    .unwrap()
}

fn augmented(seed: u64, crop: [usize; 2], padding: usize) -> Augmented<Batch> {
    let data = Augmented::new(data(), [HEIGHT, WIDTH], seed).flip();
    data.crop(crop, padding).unwrap().masks()
}

fn one(tensors: Result<Tensors, LayerError>) -> Tensor {
    let [tensor] = tensors.unwrap().take().unwrap();
    tensor
}

fn images(data: &impl Data, step: u64, rows: Range<usize>) -> Vec<f32> {
    let images = one(data.inputs(StepId::new(step), rows));
    images.f32().unwrap().to_vec()
}

fn masks(data: &impl Data, step: u64, rows: Range<usize>) -> Vec<i32> {
    let masks = one(data.targets(StepId::new(step), rows));
    masks.i32().unwrap().to_vec()
}

/// How a row of a step was moved, as its mask says: flipped, and where the crop begins in the
/// padded image. All of it is as that says.
fn moved(
    data: &impl Data,
    step: u64,
    row: usize,
    crop: [usize; 2],
    padding: usize,
) -> (bool, [usize; 2]) {
    let mask = masks(data, step, row..row + 1);
    let [height, width] = crop;
    assert_eq!(mask.len(), height * width);
    let found = [false, true].into_iter().find_map(|flip| {
        let starts = (0..=HEIGHT + 2 * padding - height)
            .flat_map(|y| (0..=WIDTH + 2 * padding - width).map(move |x| [y, x]));
        let mut starts = starts.filter(|[down, right]| {
            (0..height * width).all(|at| {
                let (y, x) = (at / width, at % width);
                let x = if flip { width - 1 - x } else { x };
                let (y, x) = (
                    (y + down).checked_sub(padding),
                    (x + right).checked_sub(padding),
                );
                let wanted = match (y, x) {
                    (Some(y), Some(x)) if y < HEIGHT && x < WIDTH => name(row, y, x),
                    _ => -100,
                };
                mask[at] == wanted
            })
        });
        starts.next().map(|start| (flip, start))
    });
    found.unwrap_or_else(|| panic!("row {row} of step {step} is no part of its image: {mask:?}"))
}

#[test]
fn the_same_for_every_split_of_rows_in_any_order() {
    let data = augmented(3, [HEIGHT, WIDTH], 2);
    let (all, all_masks) = (images(&data, 7, 0..ROWS), masks(&data, 7, 0..ROWS));
    for size in [1, 2, 3, 7, 64] {
        let other = augmented(3, [HEIGHT, WIDTH], 2);
        for start in (0..ROWS).step_by(size).rev() {
            let rows = start..(start + size).min(ROWS);
            let each = HEIGHT * WIDTH;
            let part = rows.start * each..rows.end * each;
            assert_eq!(masks(&other, 7, rows.clone()), all_masks[part.clone()]);
            let part = 2 * part.start..2 * part.end;
            assert_eq!(images(&other, 7, rows), all[part]);
        }
    }
    assert!(images(&data, 7, 5..5).is_empty());
    assert!(data.inputs(StepId::new(7), 0..ROWS + 1).is_err());
}

#[test]
fn another_step_or_seed_moves_otherwise() {
    let crop = [HEIGHT, WIDTH];
    let data = augmented(3, crop, 2);
    let of = |data: &Augmented<Batch>, step| {
        let moved = |row| moved(data, step, row, crop, 2);
        (0..ROWS).map(moved).collect::<Vec<_>>()
    };
    let first = of(&data, 0);
    assert_ne!(first, of(&data, 1));
    // Also where only the high word of the step's number differs.
    assert_ne!(first, of(&data, 1 << 32));
    assert_ne!(first, of(&augmented(4, crop, 2), 0));
    assert_eq!(first, of(&augmented(3, crop, 2), 0));
    // Rows differ as well.
    assert!(first.iter().any(|row| *row != first[0]));
}

#[test]
fn half_are_flipped_and_crops_begin_everywhere_alike() {
    let steps = 20;
    let all = ROWS * steps as usize;
    for (crop, padding) in [([HEIGHT, WIDTH], 2), ([3, 2], 0), ([6, 8], 2)] {
        let data = augmented(11, crop, padding);
        let (mut flips, mut starts) = (0, [BTreeMap::new(), BTreeMap::new()]);
        for step in 0..steps {
            for row in 0..ROWS {
                let (flip, start) = moved(&data, step, row, crop, padding);
                flips += usize::from(flip);
                for (starts, start) in starts.iter_mut().zip(start) {
                    *starts.entry(start).or_insert(0) += 1;
                }
            }
        }
        let half = all * 45 / 100..all * 55 / 100;
        assert!(half.contains(&flips), "{flips} of {all}");
        for (axis, starts) in starts.iter().enumerate() {
            let places = [HEIGHT, WIDTH][axis] + 2 * padding - crop[axis] + 1;
            assert!(starts.keys().copied().eq(0..places), "{starts:?}");
            let about = all * 3 / 4 / places..all * 5 / 4 / places;
            assert!(starts.values().all(|n| about.contains(n)), "{starts:?}");
        }
    }
}

#[test]
fn masks_follow_their_images() {
    let crops = [
        ([HEIGHT, WIDTH], 2),
        ([3, 4], 0),
        ([3, 4], 4),
        ([9, 12], 4),
        ([2, 9], 3),
        ([1, 1], 1),
    ];
    for (crop, padding) in crops {
        let data = augmented(5, crop, padding);
        let all = one(data.inputs(StepId::new(2), 0..ROWS));
        assert_eq!(all.shape().axes(), [ROWS, crop[0], crop[1], 2]);
        let masks = one(data.targets(StepId::new(2), 0..ROWS));
        assert_eq!(masks.shape().axes(), [ROWS, crop[0], crop[1]]);
        let (pixels, _) = all.f32().unwrap().as_chunks::<2>();
        for (pixel, class) in pixels.iter().zip(masks.i32().unwrap()) {
            match class {
                -100 => assert_eq!(*pixel, [0.0; 2]),
                class => assert_eq!(*pixel, [*class as f32, -*class as f32]),
            }
        }
        for row in 0..ROWS {
            moved(&data, 2, row, crop, padding);
        }
        let padded = masks.i32().unwrap().contains(&-100);
        assert_eq!(padded, padding > 0);
    }
}

#[test]
fn what_is_not_asked_for_stays() {
    let (plain, step) = (data(), StepId::new(4));
    assert_eq!(Augmented::new(data(), [HEIGHT, WIDTH], 1).rows(step), ROWS);
    let as_it_is = Augmented::new(data(), [HEIGHT, WIDTH], 1);
    assert_eq!(images(&as_it_is, 4, 0..ROWS), images(&plain, 4, 0..ROWS));
    // Without masks, targets may be anything.
    let classes = Tensor::from_vec([ROWS], vec![3; ROWS]).unwrap();
    let inputs = one(plain.inputs(step, 0..ROWS));
    let labelled = Batch::new(inputs.clone(), classes.clone()).unwrap();
    let flipped = Augmented::new(labelled, [HEIGHT, WIDTH], 1).flip();
    assert_eq!(masks(&flipped, 4, 1..3), [3, 3]);
    assert_eq!(masks(flipped.data(), 4, 1..3), [3, 3]);
    assert_ne!(images(&flipped, 4, 0..ROWS), images(&plain, 4, 0..ROWS));
    // Images as targets move as well, filled up with 0.
    let twice = Batch::new(inputs.clone(), inputs).unwrap();
    let twice = Augmented::new(twice, [HEIGHT, WIDTH], 1).flip();
    let twice = twice.crop([HEIGHT, WIDTH], 1).unwrap().masks();
    let targets = one(twice.targets(step, 0..ROWS));
    assert_eq!(images(&twice, 4, 0..ROWS), targets.f32().unwrap());
}

/// Data that are as they are asked to be.
struct Any(Tensors);

impl Data for Any {
    fn rows(&self, _: StepId) -> usize {
        2
    }
    fn inputs(&self, _: StepId, _: Range<usize>) -> Result<Tensors, LayerError> {
        Ok(self.0.clone())
    }
    fn targets(&self, _: StepId, _: Range<usize>) -> Result<Tensors, LayerError> {
        Ok(self.0.clone())
    }
}

#[test]
fn what_cannot_be_moved_is_refused() {
    let floats = |axes: &[usize]| {
        let shape = brigade_layer::Shape::new(axes).unwrap();
        Tensor::from_vec(shape, vec![0.5f32; shape.elements()]).unwrap()
    };
    let whole = |axes: &[usize]| {
        let shape = brigade_layer::Shape::new(axes).unwrap();
        Tensor::from_vec(shape, vec![1; shape.elements()]).unwrap()
    };
    let ask = |tensor: Tensors| {
        let data = Augmented::new(Any(tensor), [4, 4], 1).flip().masks();
        let of =
            |tensors: Result<Tensors, _>| tensors.map_err(|error: LayerError| error.to_string());
        let inputs = of(data.inputs(StepId::new(0), 0..2));
        let targets = of(data.targets(StepId::new(0), 0..2));
        assert_eq!(inputs.is_ok(), targets.is_ok());
        inputs
    };
    ask([floats(&[2, 4, 4, 3]), whole(&[2, 4, 4])].into()).unwrap();
    ask(floats(&[2, 4, 4, 0]).into()).unwrap();
    for tensor in [
        floats(&[2, 4, 4]),
        floats(&[2, 3, 4, 1]),
        floats(&[2, 4, 5, 1]),
        floats(&[3, 4, 4, 1]),
        floats(&[2]),
        whole(&[2, 4, 4, 1]),
        whole(&[2, 8, 8]),
        whole(&[2]),
    ] {
        let error = ask(tensor.into()).unwrap_err();
        assert!(
            error.contains("images [2, 4, 4, channels] of f32"),
            "{error}"
        );
    }
    assert!(ask([None].into()).is_err());
    let with = |crop, padding| {
        let error = Augmented::new(data(), [4, 4], 1).crop(crop, padding);
        error.map(drop).map_err(|error| error.to_string())
    };
    with([4, 4], 0).unwrap();
    with([6, 1], 1).unwrap();
    for (crop, padding) in [([5, 4], 0), ([4, 7], 1), ([0, 4], 0), ([4, 4], usize::MAX)] {
        let error = with(crop, padding).unwrap_err();
        assert!(error.contains("fit into the padded image"), "{error}");
    }
}
