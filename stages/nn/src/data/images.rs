//! Arrays read as images.

use super::Array;
use super::error::list_of;
use super::numbers::NumberType;
use brigade_layer::{LayerError, Shape, Tensor};

/// Rows of an array as images, f32 [rows, height, width, channels].
///
/// | the array has | an image has |
/// |---|---|
/// | [N, height, width] | one channel |
/// | [N, height, width, channels] | these |
/// | numbers of u8 (in a file) | each by 255: from 0 to 1 |
/// | f32 or f64 | the numbers as they are |
///
/// # Example
/// ```no_run
/// use brigade_nn::{Arrays, Batches, Idx, ImageArray};
/// let images = ImageArray::new(Idx::open("train-images-idx3-ubyte")?)?;
/// let images = images.normalised(&[0.1307], &[0.3081])?;
/// let digits = Arrays::new(images, Idx::open("train-labels-idx1-ubyte")?)?;
/// let data = Batches::shuffled(digits, 64, 1)?;
/// # Ok::<(), brigade_layer::LayerError>(())
/// ```
#[derive(Clone, Debug)]
pub struct ImageArray {
    array: Box<Array>,
    shape: Shape,
    /// What stands for 1.
    unit: f32,
    normal: Option<Normal>,
}

/// Of each channel.
#[derive(Clone, Debug)]
struct Normal {
    mean: Vec<f32>,
    deviation: Vec<f32>,
}

impl ImageArray {
    /// Images of an array in memory or in a file.
    ///
    /// # Errors
    /// When it has other axes, or whole numbers other than u8: of them nobody knows what white is.
    pub fn new(array: impl Into<Array>) -> Result<Self, LayerError> {
        let array = array.into();
        let shape = array.shape();
        let shape = match *shape.axes() {
            [rows, height, width] => Shape::new(&[rows, height, width, 1])?,
            [_, _, _, _] => shape,
            _ => {
                let expected = "[N, height, width] or [N, height, width, channels]";
                return Err(LayerError::shape("images", expected, shape));
            }
        };
        let unit = match array.number_type() {
            NumberType::U8 => 255.0,
            other if other.is_integer() => {
                let problem = format!(
                    "they are numbers of {other}; use u8, of which 255 becomes 1, or f32 in your \
                     own scale"
                );
                return Err(LayerError::spec("images", problem));
            }
            _ => 1.0,
        };
        Ok(Self {
            array: Box::new(array),
            shape,
            unit,
            normal: None,
        })
    }

    /// The same, of each channel its mean subtracted and the rest divided by its standard
    /// deviation; both in the scale that the images have here, and of all images that are trained
    /// on.
    ///
    /// # Errors
    /// When there is not one of both for each channel, one is not finite, or a deviation is not
    /// above 0.
    pub fn normalised(mut self, mean: &[f32], deviation: &[f32]) -> Result<Self, LayerError> {
        let channels = self.shape.last();
        if [mean.len(), deviation.len()] != [channels; 2] {
            let problem = format!(
                "{} means and {} deviations, and they have {channels} channels: give one for each",
                mean.len(),
                deviation.len()
            );
            return Err(LayerError::spec("images", problem));
        }
        let finite = mean.iter().chain(deviation).all(|x| x.is_finite());
        if !finite || deviation.iter().any(|x| *x <= 0.0) {
            let problem = format!(
                "means {mean:?}, deviations {deviation:?}: use finite ones, and deviations above 0"
            );
            return Err(LayerError::spec("images", problem));
        }
        self.normal = Some(Normal {
            mean: mean.to_vec(),
            deviation: deviation.to_vec(),
        });
        Ok(self)
    }

    /// [N, height, width, channels].
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Some of them, in this order.
    ///
    /// # Shapes
    /// f32 [rows, height, width, channels].
    ///
    /// # Errors
    /// When there is no such row, or no memory for them.
    pub fn rows(&self, rows: &[usize]) -> Result<Tensor, LayerError> {
        let read = self.array.gather(rows)?;
        let shape = self.shape.with_rows(rows.len());
        let mut numbers = list_of(shape.elements())?;
        match read.i32() {
            Ok(whole) => numbers.extend(whole.iter().map(|x| *x as f32 / self.unit)),
            Err(_) if self.normal.is_none() => return read.reshape(shape),
            Err(_) => numbers.extend_from_slice(read.f32()?),
        }
        if let Some(normal) = &self.normal {
            let channels = normal.mean.iter().zip(&normal.deviation).cycle();
            for (x, (mean, deviation)) in numbers.iter_mut().zip(channels) {
                *x = (*x - mean) / deviation;
            }
        }
        Tensor::from_vec(shape, numbers)
    }
}
