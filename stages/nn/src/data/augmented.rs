//! Images moved at random while training.

use super::error::list_of;
use brigade_layer::{DType, Data, Element, LayerError, Random, Shape, StepId, Tensor, Tensors};
use std::ops::Range;

/// A pixel that does not count.
const IGNORED: i32 = -100;

/// Data whose images are flipped and cropped at random: to train on. Evaluate on the data
/// themselves.
///
/// What happens to a row follows from (seed, step, row in the mini-batch), so that every node sees
/// the same, in whatever micro-batches it asks. All inputs of a row are moved alike; with
/// [`Self::masks`] its targets are as well.
///
/// | | filled up with |
/// |---|---|
/// | images f32 [rows, height, width, channels] | 0, which is the mean where they are normalised |
/// | masks i32 [rows, height, width] | -100, which does not count |
///
/// # Example
/// As He et al. 2016 (arXiv 1512.03385) train on CIFAR-10:
/// ```no_run
/// use brigade_nn::{Arrays, Augmented, Batches, ImageArray, Npy};
/// let images = ImageArray::new(Npy::open("images.npy")?)?
///     .normalised(&[0.491, 0.482, 0.447], &[0.247, 0.243, 0.262])?;
/// let arrays = Arrays::new(images, Npy::open("labels.npy")?)?;
/// let data = Batches::shuffled(arrays, 128, 1)?;
/// let data = Augmented::new(data, [32, 32], 1).flip().crop([32, 32], 4)?;
/// # Ok::<(), brigade_layer::LayerError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Augmented<D> {
    data: D,
    random: Random,
    /// Height and width of the images.
    sides: [usize; 2],
    flip: bool,
    /// Height and width of what is cut out.
    crop: [usize; 2],
    padding: usize,
    /// How many places it may begin at, along both.
    places: [usize; 2],
    masks: bool,
}

/// What happens to one row.
#[derive(Clone, Copy, Debug)]
struct Move {
    flip: bool,
    /// Where the crop begins in the padded image, height and width.
    start: [usize; 2],
}

impl<D: Data> Augmented<D> {
    /// Data whose inputs are images of this height and width, as they are for the time being.
    pub fn new(data: D, sides: [usize; 2], seed: u64) -> Self {
        Self {
            data,
            random: Random::named(seed, "augmentation"),
            sides,
            flip: false,
            crop: sides,
            padding: 0,
            places: [1; 2],
            masks: false,
        }
    }

    /// Swaps left and right of half of the rows.
    #[must_use]
    pub fn flip(mut self) -> Self {
        self.flip = true;
        self
    }

    /// Adds so many pixels on each side and cuts a part of this height and width out of anywhere.
    ///
    /// # Errors
    /// When the part is empty, or larger than the padded image.
    pub fn crop(mut self, sides: [usize; 2], padding: usize) -> Result<Self, LayerError> {
        for axis in 0..2 {
            let padded = padding.checked_mul(2);
            let padded = padded.and_then(|both| both.checked_add(self.sides[axis]));
            let room = padded.and_then(|padded| padded.checked_sub(sides[axis]));
            let places = room.and_then(|room| room.checked_add(1));
            let Some(places) = places.filter(|_| sides[axis] > 0) else {
                let problem = format!(
                    "a crop of {sides:?} from images of {:?} with a padding of {padding}: it is to \
                     fit into the padded image, and to have sides of at least 1",
                    self.sides
                );
                return Err(LayerError::spec("augmented images", problem));
            };
            self.places[axis] = places;
        }
        (self.crop, self.padding) = (sides, padding);
        Ok(self)
    }

    /// Moves the targets as the inputs: masks of the same height and width, or images.
    #[must_use]
    pub fn masks(mut self) -> Self {
        self.masks = true;
        self
    }

    /// The data themselves.
    pub fn data(&self) -> &D {
        &self.data
    }

    fn draw(&self, step: StepId, row: usize) -> Move {
        // The step is the sample, so that any row of any step is one draw.
        let [flip, down, right, _] = self.random.words(step.get(), 0, row as u32);
        let below = |places: usize, word: u32| ((u128::from(word) * places as u128) >> 32) as usize;
        Move {
            flip: self.flip && flip >> 31 == 1,
            start: [below(self.places[0], down), below(self.places[1], right)],
        }
    }

    fn moved(
        &self,
        step: StepId,
        rows: Range<usize>,
        tensors: &Tensors,
    ) -> Result<Tensors, LayerError> {
        let mut all = Tensors::none();
        for (index, tensor) in tensors.iter().enumerate() {
            let tensor = tensor.ok_or(LayerError::Missing { index })?;
            all.push(Some(match tensor.dtype() {
                DType::I32 => self.moved_one(step, rows.clone(), tensor, 3, IGNORED)?,
                _ => self.moved_one(step, rows.clone(), tensor, 4, 0.0f32)?,
            }))?;
        }
        Ok(all)
    }

    /// Images or masks, which have so many axes and are filled up with this.
    fn moved_one<T: Element>(
        &self,
        step: StepId,
        rows: Range<usize>,
        tensor: &Tensor,
        rank: usize,
        fill: T,
    ) -> Result<Tensor, LayerError> {
        let (shape, [height, width]) = (tensor.shape(), self.sides);
        let fits = shape.rank() == rank && shape.axes()[1..3] == self.sides;
        if !fits || shape.rows() != rows.len() {
            let expected = format!(
                "images [{rows}, {height}, {width}, channels] of f32, or masks [{rows}, {height}, \
                 {width}] of i32",
                rows = rows.len()
            );
            return Err(LayerError::shape("augmented images", expected, shape));
        }
        let channels = shape.axes().get(3).copied().unwrap_or(1);
        let mut axes = shape.axes().to_vec();
        axes[1..3].copy_from_slice(&self.crop);
        let shape = Shape::new(&axes)?;
        let mut moved = list_of(shape.elements())?;
        moved.resize(shape.elements(), fill);
        let images = tensor.slice::<T>()?;
        let from = height * width * channels;
        let to = shape.row_elements();
        for (at, row) in rows.enumerate() {
            let (image, to) = (&images[at * from..][..from], &mut moved[at * to..][..to]);
            self.move_one(self.draw(step, row), channels, image, to);
        }
        Tensor::from_vec(shape, moved)
    }

    /// One image, into one that is filled up already.
    fn move_one<T: Copy>(&self, how: Move, channels: usize, image: &[T], to: &mut [T]) {
        let [rows, columns] = [0, 1].map(|axis| self.seen(axis, how.start[axis]));
        if columns.is_empty() {
            return;
        }
        let left = columns.start + how.start[1] - self.padding;
        for row in rows {
            let line = (row + how.start[0] - self.padding) * self.sides[1];
            let pixels = &image[(line + left) * channels..][..columns.len() * channels];
            let to = &mut to[row * self.crop[1] * channels..][..self.crop[1] * channels];
            to[columns.start * channels..columns.end * channels].copy_from_slice(pixels);
            if how.flip {
                to.reverse();
                to.chunks_exact_mut(channels.max(1))
                    .for_each(<[T]>::reverse);
            }
        }
    }

    /// Which rows or columns of a crop that begins here are of the image, not of its padding.
    fn seen(&self, axis: usize, start: usize) -> Range<usize> {
        let crop = self.crop[axis];
        let first = self.padding.saturating_sub(start);
        let end = (self.sides[axis] + self.padding).saturating_sub(start);
        first.min(crop)..end.min(crop)
    }
}

impl<D: Data> Data for Augmented<D> {
    fn rows(&self, step: StepId) -> usize {
        self.data.rows(step)
    }
    fn inputs(&self, step: StepId, rows: Range<usize>) -> Result<Tensors, LayerError> {
        let inputs = self.data.inputs(step, rows.clone())?;
        self.moved(step, rows, &inputs)
    }
    fn targets(&self, step: StepId, rows: Range<usize>) -> Result<Tensors, LayerError> {
        let targets = self.data.targets(step, rows.clone())?;
        match self.masks {
            true => self.moved(step, rows, &targets),
            false => Ok(targets),
        }
    }
}
