//! Windows of one pixel, pixel after pixel: the images are matrices already.

use super::{Convolution, Space, With, channels, channels_mut, group, most_space, multiply};
use crate::kernels::product::{Onto, Product};
use ndarray::{ArrayViewMut2, s};

pub(super) fn space(of: &Convolution) -> [Space; 3] {
    let (pixels, [inputs, outputs]) = (of.y.pixels(), of.group_channels());
    let all = [
        [pixels, outputs, inputs],
        [pixels, inputs, outputs],
        [outputs, inputs, pixels],
    ];
    all.map(|sizes| Space {
        shared: 0,
        each: most_space([sizes]),
    })
}

pub(super) fn forward(
    of: &Convolution,
    y: &mut [f32],
    [x, weight]: [&[f32]; 2],
    bias: Option<&[f32]>,
    with: With<'_>,
) {
    let [inputs, outputs] = of.group_channels();
    let weight = channels(weight, inputs, 0..inputs);
    for number in 0..of.groups {
        let own = group(number, outputs);
        let factors = [
            channels(x, of.x.channels, group(number, inputs)),
            weight.slice(s![own.clone(), ..]).reversed_axes(),
        ];
        let y = channels_mut(y, of.y.channels, own.clone());
        let product = Product::new(y, factors).bias(bias.map(|bias| &bias[own]));
        multiply(product, (with.precision, with.threads), with.each);
    }
}

pub(super) fn input_gradient(
    of: &Convolution,
    dx: &mut [f32],
    [dy, weight]: [&[f32]; 2],
    with: With<'_>,
) {
    let [inputs, outputs] = of.group_channels();
    let weight = channels(weight, inputs, 0..inputs);
    for number in 0..of.groups {
        let own = group(number, outputs);
        let dy = channels(dy, of.y.channels, own.clone());
        let dx = channels_mut(dx, of.x.channels, group(number, inputs));
        let product = Product::new(dx, [dy, weight.slice(s![own, ..])]);
        multiply(product, (with.precision, with.threads), with.each);
    }
}

pub(super) fn weight_gradient(
    of: &Convolution,
    dw: &mut [f32],
    onto: Onto,
    [dy, x]: [&[f32]; 2],
    with: With<'_>,
) {
    let [inputs, outputs] = of.group_channels();
    let shape = (of.y.channels, inputs);
    let mut dw = ArrayViewMut2::from_shape(shape, dw).expect("a weight's gradient");
    for number in 0..of.groups {
        let own = group(number, outputs);
        let factors = [
            channels(dy, of.y.channels, own.clone()).reversed_axes(),
            channels(x, of.x.channels, group(number, inputs)),
        ];
        let product = Product::new(dw.slice_mut(s![own, ..]), factors).onto(onto);
        multiply(product, (with.precision, with.threads), with.each);
    }
}
