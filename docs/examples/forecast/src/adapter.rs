//! A layer with two parameters.

use brigade::layer::{
    BuildCtx, Cost, Ctx, Init, Layer, LayerError, LayerSpec, Param, ParamAccess, ParamRole,
    ParamSpec, Tensor, TensorSpec, Tensors,
};
use brigade::ndarray::linalg::general_mat_mul;

/// y = x + tanh(x A) B, through a few numbers only.
///
/// # Shapes
/// x [.., width], A [width, rank], B [rank, width], y as x.
///
/// # Source
/// Houlsby et al.: "Parameter-efficient transfer learning for NLP", 2019 (arXiv 1902.00751).
#[derive(Clone, Debug)]
pub struct Adapter {
    width: usize,
    rank: usize,
}

impl Adapter {
    /// From `width` numbers through `rank` back to `width`.
    pub fn new(width: usize, rank: usize) -> Self {
        Self { width, rank }
    }
}

impl LayerSpec for Adapter {
    type Layer = AdapterLayer;

    fn params(&self) -> Vec<ParamSpec> {
        let weight = |name, [from, to]: [usize; 2]| {
            let init = Init::Normal((from as f32).sqrt().recip());
            ParamSpec::new(name, [from, to], ParamRole::Weight, init)
        };
        vec![
            weight("a", [self.width, self.rank]),
            weight("b", [self.rank, self.width]),
        ]
    }

    fn outputs(&self, inputs: &[TensorSpec]) -> Result<Vec<TensorSpec>, LayerError> {
        match inputs {
            [x] if *x == TensorSpec::f32(x.shape.with_last(self.width)) => Ok(vec![*x]),
            [x] => {
                let expected = format!("[.., {}] of f32", self.width);
                Err(LayerError::shape("input of an adapter", expected, x.shape))
            }
            _ => Err(LayerError::Arity {
                expected: 1,
                found: inputs.len(),
            }),
        }
    }

    fn cost(&self, inputs: &[TensorSpec]) -> Cost {
        let x = inputs[0].bytes();
        let (rows, _) = inputs[0].shape.matrix();
        let h = TensorSpec::f32([rows, self.rank]).bytes();
        // A product takes 2 for each of its terms, and there are two of them in F, I and W.
        let products = 4 * (rows * self.width * self.rank) as u64;
        Cost {
            forward_flops: products,
            input_flops: products,
            weight_flops: products,
            stash_bytes: x + h,            // x and h,
            stashed_inputs: 0b1,           // x as it came
            kept_bytes: 2 * (x + h),       // x and h, dy and dh
            forward_working_bytes: x + h,  // y and h
            backward_working_bytes: x + h, // dx and dh
            ..Cost::default()
        }
    }

    fn build(&self, cx: &BuildCtx<'_>) -> Result<AdapterLayer, LayerError> {
        let params = self.params();
        Ok(AdapterLayer {
            a: Param::build(&params[0], cx)?,
            b: Param::build(&params[1], cx)?,
        })
    }
}

/// The layer that [`Adapter`] describes.
#[derive(Debug)]
pub struct AdapterLayer {
    a: Param,
    b: Param,
}

impl Layer for AdapterLayer {
    /// x and h = tanh(x A).
    type Stash = (Tensor, Tensor);
    /// x and h, and the gradients of y and of x A.
    type Kept = (Tensor, Tensor, Tensor, Tensor);

    fn forward(
        &mut self,
        inputs: Tensors,
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensors, Self::Stash), LayerError> {
        let [x] = inputs.take()?;
        let (a, b) = (self.a.matrix(), self.b.matrix());
        let (rows, _) = x.shape().matrix();
        let mut h = cx.f32([rows, a.ncols()])?;
        general_mat_mul(1.0, &x.matrix()?, &a, 0.0, &mut h.matrix_mut());
        h.data().iter_mut().for_each(|h| *h = h.tanh());
        let h = h.freeze();
        let mut y = cx.f32(x.shape())?;
        y.data().copy_from_slice(x.f32()?);
        general_mat_mul(1.0, &h.matrix()?, &b, 1.0, &mut y.matrix_mut());
        Ok((y.freeze().into(), (x, h)))
    }

    fn backward_input(
        &mut self,
        gradients: Tensors,
        (x, h): Self::Stash,
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensors, Self::Kept), LayerError> {
        let [dy] = gradients.take()?;
        let (a, b) = (self.a.matrix(), self.b.matrix());
        // Through B, then through tanh, whose slope is 1 - h².
        let mut dh = cx.f32(h.shape())?;
        general_mat_mul(1.0, &dy.matrix()?, &b.t(), 0.0, &mut dh.matrix_mut());
        for (dh, h) in dh.data().iter_mut().zip(h.f32()?) {
            *dh *= 1.0 - h * h;
        }
        let dh = dh.freeze();
        let dx = match cx.wants_gradient(0) {
            true => {
                let mut dx = cx.f32(dy.shape())?;
                dx.data().copy_from_slice(dy.f32()?);
                general_mat_mul(1.0, &dh.matrix()?, &a.t(), 1.0, &mut dx.matrix_mut());
                Some(dx.freeze())
            }
            false => None,
        };
        Ok(([dx].into(), (x, h, dy, dh)))
    }

    fn backward_weight(
        &mut self,
        (x, h, dy, dh): Self::Kept,
        cx: &mut Ctx<'_>,
    ) -> Result<(), LayerError> {
        let mut da = self.a.gradient_matrix(cx.pool())?;
        general_mat_mul(1.0, &x.matrix()?.t(), &dh.matrix()?, 1.0, &mut da);
        let mut db = self.b.gradient_matrix(cx.pool())?;
        general_mat_mul(1.0, &h.matrix()?.t(), &dy.matrix()?, 1.0, &mut db);
        Ok(())
    }

    fn params(&mut self, visit: &mut dyn FnMut(&mut dyn ParamAccess)) {
        visit(&mut self.a);
        visit(&mut self.b);
    }
}
