//! Several tensors at once: the inputs, outputs or gradients of a layer.

use crate::{LayerError, Tensor};

/// The most inputs or outputs a layer can have.
pub const MAX_TENSORS: usize = 4;

/// The inputs, outputs or gradients of a layer, kept inline. A missing one is a gradient that does
/// not exist.
#[derive(Clone, Debug, Default)]
pub struct Tensors {
    list: [Option<Tensor>; MAX_TENSORS],
    len: u8,
}

impl Tensors {
    /// No tensor at all.
    pub fn none() -> Self {
        Self::default()
    }

    /// How many places, filled or not.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there is no place.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a place.
    ///
    /// # Errors
    /// When there are [`MAX_TENSORS`] already.
    pub fn push(&mut self, tensor: Option<Tensor>) -> Result<(), LayerError> {
        let place = self.list.get_mut(self.len as usize);
        let found = MAX_TENSORS + 1;
        *place.ok_or(LayerError::Arity {
            expected: MAX_TENSORS,
            found,
        })? = tensor;
        self.len += 1;
        Ok(())
    }

    /// The tensor at a place.
    pub fn get(&self, index: usize) -> Option<&Tensor> {
        self.list.get(index)?.as_ref()
    }

    /// Takes the tensor out of a place.
    pub fn remove(&mut self, index: usize) -> Option<Tensor> {
        self.list.get_mut(index)?.take()
    }

    /// Every place in turn.
    pub fn iter(&self) -> impl Iterator<Item = Option<&Tensor>> {
        self.list[..self.len()].iter().map(Option::as_ref)
    }

    /// All tensors at once: `let [x, targets] = inputs.take()?;`
    ///
    /// # Errors
    /// When there are more or fewer, or one is missing.
    pub fn take<const N: usize>(mut self) -> Result<[Tensor; N], LayerError> {
        if self.len() != N {
            return Err(LayerError::Arity {
                expected: N,
                found: self.len(),
            });
        }
        if let Some(index) = (0..N).find(|&index| self.list[index].is_none()) {
            return Err(LayerError::Missing { index });
        }
        Ok(std::array::from_fn(|index| {
            self.list[index].take().expect("looked at just above")
        }))
    }
}

impl From<Tensor> for Tensors {
    fn from(tensor: Tensor) -> Self {
        [Some(tensor)].into()
    }
}

impl<const N: usize> From<[Tensor; N]> for Tensors {
    fn from(tensors: [Tensor; N]) -> Self {
        tensors.map(Some).into()
    }
}

impl<const N: usize> From<[Option<Tensor>; N]> for Tensors {
    fn from(tensors: [Option<Tensor>; N]) -> Self {
        const { assert!(N <= MAX_TENSORS, "a layer has at most 4 inputs or outputs") };
        let mut list = <[Option<Tensor>; MAX_TENSORS]>::default();
        for (place, tensor) in list.iter_mut().zip(tensors) {
            *place = tensor;
        }
        Self { list, len: N as u8 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taking_tensors_checks_their_number() {
        let one = Tensor::from_vec([1], vec![1i32]).unwrap();
        let both: Tensors = [Some(one.clone()), None].into();
        assert_eq!(
            both.clone().take::<1>().unwrap_err(),
            LayerError::Arity {
                expected: 1,
                found: 2
            }
        );
        assert_eq!(
            both.take::<2>().unwrap_err(),
            LayerError::Missing { index: 1 }
        );
        assert!(Tensors::from([one]).take::<1>().is_ok());
    }
}
