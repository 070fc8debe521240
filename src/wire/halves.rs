//! Numbers that travel in half of their bits.

use brigade_layer::{LayerError, Pool, Shape, Tensor};
use half::bf16;

/// Rounds to bf16 (8 significant bits, ties to even), in place where nobody else holds the tensor.
pub(crate) fn round(tensor: Tensor, pool: &Pool) -> Result<Tensor, LayerError> {
    let mut tensor = pool.writable::<f32>(tensor)?;
    let nearest = |x: f32| bf16::from_f32(x).to_f32();
    tensor.data().iter_mut().for_each(|x| *x = nearest(*x));
    Ok(tensor.freeze())
}

/// Two rounded numbers in 32 bits: the upper halves of both.
pub(crate) fn pack(tensor: &Tensor, pool: &Pool) -> Result<Tensor, LayerError> {
    let numbers = tensor.f32()?;
    let mut packed = pool.take::<i32>([numbers.len().div_ceil(2)])?;
    for (packed, pair) in packed.data().iter_mut().zip(numbers.chunks(2)) {
        let upper = |at: usize| pair.get(at).map_or(0, |x| x.to_bits() >> 16);
        *packed = (upper(0) | upper(1) << 16).cast_signed();
    }
    Ok(packed.freeze())
}

/// What was packed, in its shape.
pub(crate) fn unpack(packed: &Tensor, shape: Shape, pool: &Pool) -> Result<Tensor, LayerError> {
    let mut numbers = pool.f32(shape)?;
    let pairs = packed.i32()?;
    if pairs.len() != shape.elements().div_ceil(2) {
        let expected = format!("{} pairs of numbers", shape.elements().div_ceil(2));
        return Err(LayerError::shape("a message", expected, packed.shape()));
    }
    for (pair, packed) in numbers.data().chunks_mut(2).zip(pairs) {
        let bits = packed.cast_unsigned();
        pair[0] = f32::from_bits(bits << 16);
        if let Some(second) = pair.get_mut(1) {
            *second = f32::from_bits(bits & 0xffff_0000);
        }
    }
    Ok(numbers.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_rounded_travels_in_half_of_its_bytes_unchanged() {
        let pool = Pool::default();
        let numbers = vec![1.0, -0.1, 3.0e38, f32::INFINITY, 1e-40, f32::NAN, -7.25];
        let tensor = Tensor::from_vec([7], numbers.clone()).unwrap();
        let rounded = round(tensor, &pool).unwrap();
        for (rounded, x) in rounded.f32().unwrap().iter().zip(&numbers) {
            let near = (rounded - x).abs() <= x.abs() / 256.0 + 1e-40 || rounded == x;
            assert!(near || rounded.is_nan() && x.is_nan(), "{x} {rounded}");
        }
        let packed = pack(&rounded, &pool).unwrap();
        assert_eq!(packed.bytes(), 16);
        let back = unpack(&packed, rounded.shape(), &pool).unwrap();
        let bits = |tensor: &Tensor| {
            tensor
                .f32()
                .unwrap()
                .iter()
                .map(|x| x.to_bits())
                .collect::<Vec<_>>()
        };
        assert_eq!(bits(&back), bits(&rounded));
        assert!(unpack(&packed, Shape::from([9]), &pool).is_err());
    }
}
