//! Parameters in host memory.

use crate::rng::{fill_normal, fill_uniform};
use crate::{
    BuildCtx, Init, LayerError, Optimizer, ParamAccess, ParamBytes, ParamInfo, ParamSpec, Part,
    Pool, Random, Shape, Tensor, TensorMut, Update, UpdateWith,
};
use ndarray::{ArrayView2, ArrayViewMut2};

/// A place to put a gradient. When it is `fresh`, nothing was added in this step yet: overwrite
/// what is there.
#[derive(Debug)]
pub struct GradientSlot<'a> {
    /// The elements. When `fresh`, their content is meaningless.
    pub data: &'a mut [f32],
    /// Whether to overwrite instead of adding.
    pub fresh: bool,
}

/// A parameter in host memory.
#[derive(Debug)]
pub struct Param {
    info: ParamInfo,
    value: TensorMut,
    gradient: Option<TensorMut>,
    fresh: bool,
    state: Vec<TensorMut>,
}

/// Elements that are summed before their sum is added to the others': part of the numbers'
/// definition.
const CHUNK: usize = 4096;
const LANES: usize = 16;

impl Param {
    /// Builds a parameter with its initial values.
    ///
    /// # Errors
    /// When the node's memory does not allow it.
    pub fn build(spec: &ParamSpec, cx: &BuildCtx<'_>) -> Result<Self, LayerError> {
        let info = cx.info(spec);
        let mut value = cx.pool.f32(spec.shape)?;
        let random = Random::named(cx.seed, &info.key);
        match spec.init {
            Init::Zeros => value.data().fill(0.0),
            Init::Ones => value.data().fill(1.0),
            Init::Normal(deviation) => fill_normal(&random, deviation, value.data()),
            Init::Uniform(bound) => fill_uniform(&random, bound, value.data()),
        }
        Ok(Self {
            info,
            value,
            gradient: None,
            fresh: true,
            state: Vec::new(),
        })
    }

    /// Its shape.
    pub fn shape(&self) -> Shape {
        self.info.shape
    }

    /// Its values in row-major order.
    pub fn value(&self) -> &[f32] {
        self.value.read()
    }

    /// Its values as a matrix: all axes but the last are its rows.
    pub fn matrix(&self) -> ArrayView2<'_, f32> {
        ArrayView2::from_shape(self.info.shape.matrix(), self.value())
            .expect("a parameter has as many values as its shape says")
    }

    /// Its values, to be changed by the layer itself: of a parameter that is not trained.
    pub fn value_mut(&mut self) -> &mut [f32] {
        self.value.data()
    }

    /// The place for its gradient.
    ///
    /// # Errors
    /// When the node's memory does not allow one.
    pub fn gradient_slot(&mut self, pool: &Pool) -> Result<GradientSlot<'_>, LayerError> {
        Ok(self.value_and_gradient(pool)?.1)
    }

    /// Its values and the place for its gradient, for whoever needs both.
    ///
    /// # Errors
    /// When the node's memory does not allow a gradient.
    pub fn value_and_gradient(
        &mut self,
        pool: &Pool,
    ) -> Result<(&[f32], GradientSlot<'_>), LayerError> {
        let fresh = std::mem::replace(&mut self.fresh, false);
        let gradient = match &mut self.gradient {
            Some(gradient) => gradient,
            none => none.insert(pool.f32(self.info.shape)?),
        };
        Ok((
            self.value.read(),
            GradientSlot {
                data: gradient.data(),
                fresh,
            },
        ))
    }

    /// Its gradient, zeros if nothing was added in this step, to be added to.
    ///
    /// # Errors
    /// When the node's memory does not allow one.
    pub fn gradient_add(&mut self, pool: &Pool) -> Result<&mut [f32], LayerError> {
        let slot = self.gradient_slot(pool)?;
        if slot.fresh {
            slot.data.fill(0.0);
        }
        Ok(slot.data)
    }

    /// The same as a matrix: all axes but the last are its rows.
    ///
    /// # Errors
    /// When the node's memory does not allow one.
    pub fn gradient_matrix(&mut self, pool: &Pool) -> Result<ArrayViewMut2<'_, f32>, LayerError> {
        let shape = self.info.shape.matrix();
        Ok(ArrayViewMut2::from_shape(shape, self.gradient_add(pool)?)
            .expect("a gradient has as many numbers as its parameter"))
    }

    fn current_gradient(&self) -> Option<&[f32]> {
        self.gradient
            .as_ref()
            .filter(|_| !self.fresh)
            .map(TensorMut::read)
    }

    fn check_len(&self, len: usize) -> Result<(), LayerError> {
        if len == self.info.shape.elements() {
            return Ok(());
        }
        Err(LayerError::Value(format!(
            "{}: {len} numbers for a parameter of shape {}",
            self.info.key, self.info.shape
        )))
    }
}

impl ParamAccess for Param {
    fn info(&self) -> &ParamInfo {
        &self.info
    }

    fn bytes(&self) -> ParamBytes {
        ParamBytes {
            value: self.value.bytes(),
            gradient: self.gradient.as_ref().map_or(0, TensorMut::bytes),
            state: self.state.iter().map(TensorMut::bytes).sum(),
        }
    }

    fn sum_of_squares(&self) -> Result<f64, LayerError> {
        Ok(self
            .current_gradient()
            .filter(|_| self.info.trains)
            .map_or(0.0, sum_of_squares))
    }

    fn read(&self, part: Part, into: &mut [f32]) -> Result<(), LayerError> {
        self.check_len(into.len())?;
        let from = match part {
            Part::Value => Some(self.value.read()),
            Part::Gradient => self.current_gradient(),
            Part::State(number) => self.state.get(number).map(TensorMut::read),
        };
        match from {
            Some(from) => into.copy_from_slice(from),
            None => into.fill(0.0),
        }
        Ok(())
    }

    fn write(&mut self, part: Part, from: &[f32], pool: &Pool) -> Result<(), LayerError> {
        self.check_len(from.len())?;
        self.write_at(part, 0, from, pool)
    }

    fn write_at(
        &mut self,
        part: Part,
        start: usize,
        from: &[f32],
        pool: &Pool,
    ) -> Result<(), LayerError> {
        let all = match part {
            Part::Value => self.value.data(),
            Part::Gradient => {
                self.gradient_add(pool)?;
                self.gradient
                    .as_mut()
                    .expect("gradient_add just made one")
                    .data()
            }
            Part::State(number) => {
                while self.state.len() <= number {
                    self.state.push(pool.zeros(self.info.shape)?);
                }
                self.state[number].data()
            }
        };
        self.info
            .place(start, from.len(), all)?
            .copy_from_slice(from);
        Ok(())
    }

    fn take_gradient(&mut self, pool: &Pool) -> Result<TensorMut, LayerError> {
        self.gradient_add(pool)?;
        self.fresh = true;
        Ok(self.gradient.take().expect("gradient_add just made one"))
    }

    fn put_gradient(&mut self, gradient: Tensor, pool: &Pool) -> Result<(), LayerError> {
        self.check_len(gradient.shape().elements())?;
        match gradient.try_mut() {
            Ok(gradient) => self.gradient = Some(gradient),
            Err(shared) => self
                .gradient_slot(pool)?
                .data
                .copy_from_slice(shared.f32()?),
        }
        self.fresh = false;
        Ok(())
    }

    fn update(
        &mut self,
        optimizer: &dyn Optimizer,
        with: &UpdateWith<'_>,
    ) -> Result<(), LayerError> {
        if !self.info.trains {
            return Ok(());
        }
        while self.state.len() < optimizer.state_names().len() {
            self.state.push(with.pool.zeros(self.info.shape)?);
        }
        self.gradient_add(with.pool)?;
        let gradient = self
            .gradient
            .as_ref()
            .expect("gradient_add just made one")
            .read();
        optimizer.update(Update {
            step: with.step,
            key: &self.info.key,
            role: self.info.role,
            gradient_scale: with.gradient_scale,
            threads: with.threads,
            value: self.value.data(),
            gradient,
            state: &mut self.state,
        });
        self.fresh = true;
        Ok(())
    }

    fn clear_gradient(&mut self) {
        self.fresh = true;
    }
}

/// Sum of squares in `f64`: lanes within a chunk, chunks in order, whatever the machine.
fn sum_of_squares(numbers: &[f32]) -> f64 {
    pulp::Arch::new().dispatch(SumOfSquares(numbers))
}

/// The sum, compiled for every generation of processors; each rounds every product and every sum.
struct SumOfSquares<'a>(&'a [f32]);

impl pulp::WithSimd for SumOfSquares<'_> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> f64 {
        let mut total = 0.0;
        for chunk in self.0.chunks(CHUNK) {
            let mut lanes = [0.0f64; LANES];
            let (groups, rest) = chunk.as_chunks::<LANES>();
            for group in groups {
                for (lane, number) in lanes.iter_mut().zip(group) {
                    *lane += f64::from(*number) * f64::from(*number);
                }
            }
            for (lane, number) in lanes.iter_mut().zip(rest) {
                *lane += f64::from(*number) * f64::from(*number);
            }
            total += lanes.iter().sum::<f64>();
        }
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ParamRole;

    fn param(name: &str, init: Init) -> (Param, Pool) {
        let pool = Pool::default();
        let spec = ParamSpec::new(name, [3, 2], ParamRole::Weight, init);
        (
            Param::build(&spec, &BuildCtx::new(&pool, 5, "layer")).unwrap(),
            pool,
        )
    }

    #[test]
    fn initial_values_depend_on_seed_and_key_alone() {
        let (a, _) = param("a", Init::Normal(1.0));
        let (again, _) = param("a", Init::Normal(1.0));
        let (b, _) = param("b", Init::Normal(1.0));
        assert_eq!(a.value(), again.value());
        assert_ne!(a.value(), b.value());
    }

    #[test]
    fn a_gradient_exists_from_the_first_backward_pass_on_and_starts_anew() {
        let (mut param, pool) = param("a", Init::Ones);
        assert_eq!(param.bytes().gradient, 0);
        assert!(param.gradient_slot(&pool).unwrap().fresh);
        param.gradient_add(&pool).unwrap().fill(2.0);
        assert!(!param.gradient_slot(&pool).unwrap().fresh);
        assert_eq!(param.sum_of_squares().unwrap(), 24.0);
        param.clear_gradient();
        assert_eq!(param.sum_of_squares().unwrap(), 0.0);
        assert_eq!(param.gradient_add(&pool).unwrap(), &[0.0; 6]);
    }

    #[test]
    fn values_and_gradient_are_matrices_of_the_parameters_shape() {
        let (mut param, pool) = param("a", Init::Ones);
        assert_eq!(param.matrix(), ndarray::Array2::<f32>::ones((3, 2)));
        param.gradient_matrix(&pool).unwrap()[[2, 0]] = 5.0;
        let gradient = param.gradient_add(&pool).unwrap();
        assert_eq!(gradient, &[0.0, 0.0, 0.0, 0.0, 5.0, 0.0]);
    }

    #[test]
    fn a_gradient_moves_out_and_back_without_a_copy() {
        let (mut param, pool) = param("a", Init::Ones);
        param.gradient_add(&pool).unwrap().fill(2.0);
        let taken = param.take_gradient(&pool).unwrap().freeze();
        assert_eq!(param.bytes().gradient, 0);
        param.put_gradient(taken, &pool).unwrap();
        assert_eq!(param.sum_of_squares().unwrap(), 24.0);
        assert!(param.write(Part::Value, &[0.0; 5], &pool).is_err());
    }

    #[test]
    fn a_part_of_a_tensor_is_written_and_the_rest_stays() {
        let (mut param, pool) = param("a", Init::Ones);
        for part in [Part::Value, Part::Gradient, Part::State(1)] {
            param.write_at(part, 1, &[5.0, 6.0], &pool).unwrap();
            let mut all = [0.0; 6];
            param.read(part, &mut all).unwrap();
            let rest = if part == Part::Value { 1.0 } else { 0.0 };
            assert_eq!(all, [rest, 5.0, 6.0, rest, rest, rest]);
        }
        for start in [5, usize::MAX] {
            let error = param.write_at(Part::Value, start, &[5.0, 6.0], &pool);
            assert!(error.unwrap_err().to_string().contains("shape [3, 2]"));
        }
    }

    #[test]
    fn the_sum_of_squares_equals_the_naive_one() {
        let numbers: Vec<f32> = (0..10_007).map(|n| (n as f32).sin()).collect();
        let naive: f64 = numbers.iter().map(|n| f64::from(*n).powi(2)).sum();
        assert!((sum_of_squares(&numbers) - naive).abs() < 1e-9 * naive);
    }
}
