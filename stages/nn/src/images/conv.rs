//! The convolution layer.

use crate::images::{Images, Window};
use crate::kernels::convolution::{Convolution, Space, With};
use crate::kernels::product::Onto;
use crate::kernels::reduce::column_sums;
use crate::shapes::{element_work, one_input};
use brigade_layer::{
    BuildCtx, Cost, Ctx, Init, KernelWork, Layer, LayerError, LayerSpec, Param, ParamAccess,
    ParamRole, ParamSpec, Shape, Tensor, TensorMut, TensorSpec, Tensors,
};
use serde::{Deserialize, Serialize};

/// y = x * W + b: filters slide over images.
///
/// Each of `groups` groups of filters sees its share of the channels only; as many groups as
/// channels make a depthwise convolution. As everywhere in deep learning, the filter is not turned
/// round (a cross-correlation).
///
/// # Shapes
/// x [N, H, W, I], weight [O, kernel height, kernel width, I / groups], bias \[O\],
/// y [N, H', W', O]; I `inputs`, O `outputs`, H' and W' as [`Window`] says.
///
/// # Source
/// 3 x 3 windows in single precision: Lavin, Gray: "Fast algorithms for convolutional neural
/// networks", 2015.
///
/// # Example
/// ```
/// use brigade_nn::{Conv2d, Window};
/// let conv = Conv2d::new(64, 128, Window::square(3).padding(1).stride(2)).without_bias();
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Conv2d {
    /// Channels of x.
    pub inputs: usize,
    /// Channels of y.
    pub outputs: usize,
    /// What a filter sees at once.
    pub window: Window,
    /// Groups of channels; both `inputs` and `outputs` are multiples of it.
    pub groups: usize,
    /// Initial weight.
    pub init: Init,
    /// Initial bias, or `None` for a layer without one.
    pub bias: Option<Init>,
}

impl Conv2d {
    /// With a bias and one group. Initial weight and bias are uniform within 1 / sqrt(elements of
    /// a filter), as PyTorch's are.
    pub fn new(inputs: usize, outputs: usize, window: Window) -> Self {
        let mut conv = Self {
            inputs,
            outputs,
            window,
            groups: 1,
            init: Init::Zeros,
            bias: None,
        };
        conv.init = conv.usual_init();
        conv.bias = Some(conv.init);
        conv
    }

    /// With so many groups. What was initialised as usual is, for filters of that size.
    #[must_use]
    pub fn groups(mut self, groups: usize) -> Self {
        let before = self.usual_init();
        self.groups = groups;
        let after = self.usual_init();
        let init = |init| if init == before { after } else { init };
        (self.init, self.bias) = (init(self.init), self.bias.map(init));
        self
    }

    /// Without a bias.
    #[must_use]
    pub fn without_bias(mut self) -> Self {
        self.bias = None;
        self
    }

    /// With this initial weight.
    #[must_use]
    pub fn init(mut self, init: Init) -> Self {
        self.init = init;
        self
    }

    /// With a bias that starts like this.
    #[must_use]
    pub fn bias(mut self, init: Init) -> Self {
        self.bias = Some(init);
        self
    }

    /// Uniform within 1 / sqrt(elements of a filter).
    fn usual_init(&self) -> Init {
        let [height, width] = self.window.kernel;
        let channels = self.inputs / self.groups.max(1);
        let elements = [height, width, channels].map(|n| n as f32).into_iter();
        Init::Uniform(1.0 / elements.product::<f32>().max(1.0).sqrt())
    }

    fn check(&self) -> Result<(), LayerError> {
        let (inputs, outputs, groups) = (self.inputs, self.outputs, self.groups);
        if inputs == 0 || outputs == 0 || groups == 0 {
            let problem = "inputs, outputs and groups must be at least 1";
            return Err(LayerError::spec("conv2d", problem));
        }
        if !inputs.is_multiple_of(groups) || !outputs.is_multiple_of(groups) {
            let problem = format!(
                "{inputs} inputs and {outputs} outputs cannot be cut into {groups} groups: use a \
                 number that divides both"
            );
            return Err(LayerError::spec("conv2d", problem));
        }
        self.window.check("conv2d")?;
        Shape::new(self.weight_shape().axes()).map(|_| ())
    }

    fn weight_shape(&self) -> Shape {
        let [height, width] = self.window.kernel;
        let channels = self.inputs / self.groups.max(1);
        [self.outputs, height, width, channels].into()
    }

    fn convolution(&self, x: TensorSpec) -> Result<Convolution, LayerError> {
        self.check()?;
        let x = Images::of("conv2d", x)?;
        if x.channels != self.inputs {
            let expected = format!("[rows, height, width, {}]", self.inputs);
            return Err(LayerError::shape("conv2d", expected, x.shape()));
        }
        let y = Images {
            rows: x.rows,
            sides: self.window.places("conv2d", x.sides)?,
            channels: self.outputs,
        };
        Shape::new(y.shape().axes())?;
        Ok(Convolution {
            x,
            y,
            window: self.window,
            groups: self.groups,
        })
    }
}

impl LayerSpec for Conv2d {
    type Layer = Conv2dLayer;

    fn params(&self) -> Vec<ParamSpec> {
        let weight = ParamSpec::new("weight", self.weight_shape(), ParamRole::Weight, self.init);
        let bias = self.bias.map(|init| {
            let shape = [self.outputs];
            ParamSpec::new("bias", shape, ParamRole::Bias, init)
        });
        [weight].into_iter().chain(bias).collect()
    }

    fn outputs(&self, inputs: &[TensorSpec]) -> Result<Vec<TensorSpec>, LayerError> {
        let x = one_input("conv2d", inputs)?;
        Ok(vec![self.convolution(x)?.y.spec()])
    }

    fn cost(&self, inputs: &[TensorSpec]) -> Cost {
        let Ok(of) = self.convolution(inputs[0]) else {
            return Cost::default();
        };
        let [x_bytes, y_bytes] = [of.x, of.y].map(|images| images.spec().bytes());
        let flops = of.multiplications().saturating_mul(2);
        let bias = self.bias.map_or(0, |_| y_bytes / 4);
        let [forward, input, weight] = of.space().map(|space| 4 * space.of(1) as u64);
        let each = of.space().map(|space| 4 * space.each as u64);
        Cost {
            forward_flops: flops.saturating_add(bias),
            input_flops: flops,
            weight_flops: flops.saturating_add(bias),
            stash_bytes: x_bytes,
            stashed_inputs: 1,
            kept_bytes: x_bytes + y_bytes,
            forward_working_bytes: y_bytes + forward,
            backward_working_bytes: (x_bytes + input).max(weight),
            thread_bytes: each.into_iter().max().unwrap_or(0),
            ..Cost::default()
        }
    }

    fn build(&self, cx: &BuildCtx<'_>) -> Result<Conv2dLayer, LayerError> {
        self.check()?;
        let mut params = self.params().into_iter();
        let mut next = || {
            let spec = params.next();
            spec.map(|spec| Param::build(&spec, cx)).transpose()
        };
        Ok(Conv2dLayer {
            spec: self.clone(),
            weight: next()?.expect("a convolution has a weight"),
            bias: next()?,
        })
    }
}

/// The layer that [`Conv2d`] describes.
#[derive(Debug)]
pub struct Conv2dLayer {
    spec: Conv2d,
    weight: Param,
    bias: Option<Param>,
}

/// A call's scratch, and what it does.
struct Call {
    scratch: TensorMut,
    shared: usize,
    work: KernelWork,
}

impl Call {
    fn new(
        kernel: &'static str,
        of: &Convolution,
        space: Space,
        cx: &Ctx<'_>,
    ) -> Result<Self, LayerError> {
        let flops = of.multiplications().saturating_mul(2);
        let bytes = of.x.spec().bytes() + of.y.spec().bytes();
        Ok(Self {
            scratch: cx.f32([space.of(cx.threads)])?,
            shared: space.shared,
            work: KernelWork::new(kernel, flops, bytes),
        })
    }

    fn run(mut self, cx: &mut Ctx<'_>, body: impl FnOnce(With<'_>)) {
        cx.timed(self.work, |cx| {
            let (shared, each) = self.scratch.data().split_at_mut(self.shared);
            body(With {
                precision: cx.precision,
                threads: cx.threads.max(1),
                shared,
                each,
            });
        });
    }
}

impl Layer for Conv2dLayer {
    type Stash = Tensor;
    type Kept = (Tensor, Tensor);

    fn forward(&mut self, x: Tensors, cx: &mut Ctx<'_>) -> Result<(Tensors, Tensor), LayerError> {
        let [x] = x.take()?;
        let of = self.spec.convolution(x.spec())?;
        let [space, ..] = of.space();
        let mut y = cx.f32(of.y.shape())?;
        let bias = self.bias.as_ref().map(Param::value);
        let factors = [x.f32()?, self.weight.value()];
        let call = Call::new("convolution y", &of, space, cx)?;
        call.run(cx, |with| of.forward(y.data(), factors, bias, with));
        Ok((y.freeze().into(), x))
    }

    fn backward_input(
        &mut self,
        dy: Tensors,
        x: Tensor,
        cx: &mut Ctx<'_>,
    ) -> Result<(Tensors, Self::Kept), LayerError> {
        let [dy] = dy.take()?;
        if !cx.wants_gradient(0) {
            return Ok(([None].into(), (x, dy)));
        }
        let of = self.spec.convolution(x.spec())?;
        let [_, space, _] = of.space();
        let mut dx = cx.f32(of.x.shape())?;
        let factors = [dy.f32()?, self.weight.value()];
        let call = Call::new("convolution dx", &of, space, cx)?;
        call.run(cx, |with| of.input_gradient(dx.data(), factors, with));
        Ok(([Some(dx.freeze())].into(), (x, dy)))
    }

    fn backward_weight(&mut self, (x, dy): Self::Kept, cx: &mut Ctx<'_>) -> Result<(), LayerError> {
        if let Some(bias) = &mut self.bias {
            let slot = bias.gradient_slot(cx.pool())?;
            let (dy, columns) = (dy.f32()?, self.spec.outputs);
            cx.timed(element_work("bias", dy.len(), 1, 1), |cx| {
                column_sums(slot.data, slot.fresh, dy, columns, cx.threads);
            });
        }
        let of = self.spec.convolution(x.spec())?;
        let [_, _, space] = of.space();
        let slot = self.weight.gradient_slot(cx.pool())?;
        let onto = match slot.fresh {
            true => Onto::Nothing,
            false => Onto::Present,
        };
        let factors = [dy.f32()?, x.f32()?];
        let call = Call::new("convolution dw", &of, space, cx)?;
        call.run(cx, |with| {
            of.weight_gradient(slot.data, onto, factors, with)
        });
        Ok(())
    }

    fn params(&mut self, visit: &mut dyn FnMut(&mut dyn ParamAccess)) {
        visit(&mut self.weight);
        if let Some(bias) = &mut self.bias {
            visit(bias);
        }
    }
}
