//! Every way to compute a convolution gives what plain loops give, on windows, strides, paddings
//! and groups of all kinds.

use super::*;
use brigade_layer::Precision;
use half::bf16;

/// Numbers that no period repeats.
fn numbers(len: usize, k: f32) -> Vec<f32> {
    (0..len).map(|i| (i as f32 * k + k * k).sin()).collect()
}

fn rounded(numbers: &[f32]) -> Vec<f32> {
    let round = |x: &f32| bf16::from_f32(*x).to_f32();
    numbers.iter().map(round).collect()
}

/// (element of x, of the weight, of y) of every multiplication.
fn each(of: &Convolution, mut body: impl FnMut(usize, usize, usize)) {
    let [[height, width], [down, along]] = [of.window.kernel, of.window.stride];
    let [inputs, outputs] = of.group_channels();
    let at = |images: &Images, [image, line, column, channel]: [usize; 4]| {
        let line = image * images.sides[0] + line;
        (line * images.sides[1] + column) * images.channels + channel
    };
    for y in 0..of.y.pixels() * of.y.channels {
        let (pixel, filter) = (y / of.y.channels, y % of.y.channels);
        let (line, column) = (pixel / of.y.sides[1], pixel % of.y.sides[1]);
        let (image, line) = (line / of.y.sides[0], line % of.y.sides[0]);
        for tap in 0..height * width {
            let seen_line = (line * down + tap / width).checked_sub(of.window.padding[0]);
            let seen_column = (column * along + tap % width).checked_sub(of.window.padding[1]);
            let (Some(seen_line), Some(seen_column)) = (seen_line, seen_column) else {
                continue;
            };
            if seen_line >= of.x.sides[0] || seen_column >= of.x.sides[1] {
                continue;
            }
            for channel in 0..inputs {
                let place = [
                    image,
                    seen_line,
                    seen_column,
                    filter / outputs * inputs + channel,
                ];
                let weight = (filter * height * width + tap) * inputs + channel;
                body(at(&of.x, place), weight, y);
            }
        }
    }
}

/// y, dx and dw by plain loops in double precision: the greatest sum of magnitudes tells what
/// rounding is.
fn plain(of: &Convolution, [x, weight, dy]: [&[f32]; 3], bias: &[f32]) -> [Vec<f64>; 3] {
    let mut y: Vec<_> = (0..dy.len())
        .map(|i| f64::from(bias[i % bias.len()]))
        .collect();
    let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; weight.len()]);
    each(of, |at_x, at_w, at_y| {
        let [x, w, dy] = [x[at_x], weight[at_w], dy[at_y]].map(f64::from);
        y[at_y] += x * w;
        dx[at_x] += dy * w;
        dw[at_w] += dy * x;
    });
    [y, dx, dw]
}

fn ours(
    of: &Convolution,
    [x, weight, dy]: [&[f32]; 3],
    bias: &[f32],
    (precision, threads): (Precision, usize),
) -> [Vec<f32>; 3] {
    let spaces = of.space();
    let run = |space: Space, body: &mut dyn FnMut(With<'_>)| {
        let mut scratch = vec![f32::NAN; space.of(threads)];
        let (shared, each) = scratch.split_at_mut(space.shared);
        body(With {
            precision,
            threads,
            shared,
            each,
        });
    };
    let [mut y, mut dx, mut dw] = [dy, x, weight].map(|like| vec![f32::NAN; like.len()]);
    run(spaces[0], &mut |with| {
        of.forward(&mut y, [x, weight], Some(bias), with);
    });
    run(spaces[1], &mut |with| {
        of.input_gradient(&mut dx, [dy, weight], with);
    });
    // Put first, then added.
    for onto in [Onto::Nothing, Onto::Present] {
        run(spaces[2], &mut |with| {
            of.weight_gradient(&mut dw, onto, [dy, x], with);
        });
    }
    dw.iter_mut().for_each(|dw| *dw /= 2.0);
    [y, dx, dw]
}

fn check(of: &Convolution, precision: Precision, share: f64) {
    let [x, dy] = [of.x, of.y].map(|images| images.pixels() * images.channels);
    let [x, dy] = [numbers(x, 0.71), numbers(dy, 1.37)];
    let weight = numbers(of.y.channels * of.columns(), 0.97);
    let bias = numbers(of.y.channels, 0.3);
    let given: [&[f32]; 3] = [&x, &weight, &dy];
    let found = ours(of, given, &bias, (precision, 1));
    let near = given.map(|numbers| match precision {
        Precision::Bf16 => rounded(numbers),
        _ => numbers.to_vec(),
    });
    let expected = plain(of, [&near[0], &near[1], &near[2]], &bias);
    let sizes = |numbers: &[f32]| numbers.iter().map(|x| x.abs()).collect::<Vec<_>>();
    let [x, weight, dy] = near.map(|numbers| sizes(&numbers));
    let magnitudes = plain(of, [&x, &weight, &dy], &sizes(&bias));
    let all = found.iter().zip(&expected).zip(&magnitudes);
    for (((found, expected), magnitudes), name) in all.zip(["y", "dx", "dw"]) {
        let most = magnitudes.iter().copied().fold(0.0, f64::max);
        for (found, expected) in found.iter().zip(expected) {
            let error = (f64::from(*found) - expected).abs();
            assert!(
                error <= share * most,
                "{of:?} {precision:?} {name}: {error} of {most}"
            );
        }
    }
}

fn convolution(
    [rows, height, width, inputs]: [usize; 4],
    outputs: usize,
    window: Window,
    groups: usize,
) -> Convolution {
    let x = Images {
        rows,
        sides: [height, width],
        channels: inputs,
    };
    let sides = window.places("test", x.sides).unwrap();
    let y = Images {
        sides,
        channels: outputs,
        ..x
    };
    Convolution {
        x,
        y,
        window,
        groups,
    }
}

#[test]
fn windows_of_all_kinds_agree_with_plain_loops() {
    let mut seen = 0;
    for kernel in [[1, 1], [2, 2], [3, 3], [5, 5], [1, 3], [3, 2]] {
        for (stride, padding) in (1..4).flat_map(|stride| (0..4).map(move |at| (stride, at))) {
            for groups in [1, 2, 6] {
                let window = Window::new(kernel).stride(stride).padding(padding);
                if window.places("test", [5, 7]).is_err() {
                    continue;
                }
                let of = convolution([2, 5, 7, 6], 12, window, groups);
                check(&of, Precision::F32, 5e-7);
                check(&of, Precision::Bf16, 5e-7);
                seen += 1;
            }
        }
    }
    assert!(seen > 200, "{seen}");
}

#[test]
fn strides_and_paddings_may_differ_along_the_axes() {
    let mut window = Window::new([3, 2]);
    (window.stride, window.padding) = ([2, 1], [0, 3]);
    check(
        &convolution([3, 8, 4, 5], 7, window, 1),
        Precision::F32,
        5e-7,
    );
    // So far that most classes of pixels are not there.
    (window.stride, window.padding) = ([1 << 61, 1 << 40], [1 << 61, 1 << 40]);
    let far = convolution([2, 3, 2, 4], 6, window, 2);
    assert_eq!(far.y.sides, [3, 3]);
    check(&far, Precision::F32, 5e-7);
    (window.stride, window.padding) = ([1, 4], [2, 1]);
    check(
        &convolution([3, 8, 9, 4], 6, window, 2),
        Precision::F32,
        5e-7,
    );
}

/// Gradients of a weight that no image has seen are 0.
#[test]
fn no_images_are_no_trouble() {
    for window in [Window::square(1), Window::square(3).padding(1)] {
        let of = convolution([0, 5, 7, 6], 4, window, 2);
        let weight = numbers(4 * of.columns(), 0.97);
        let found = ours(&of, [&[], &weight, &[]], &[0.0; 4], (Precision::F32, 2));
        assert!(found[0].is_empty() && found[1].is_empty());
        assert!(found[2].iter().all(|dw| *dw == 0.0), "{window:?}");
    }
}

/// Blocks end within images, columns are lowered in several pieces, gradients of several lines.
#[test]
fn images_that_take_several_blocks_agree_with_plain_loops() {
    let square = |side| Window::square(side).padding(side / 2);
    for of in [
        convolution([3, 20, 21, 3], 8, square(3), 1),
        convolution([1, 40, 40, 40], 9, square(5).stride(2), 1),
        convolution([3, 9, 9, 300], 20, square(3), 1),
        convolution([2, 12, 12, 600], 40, square(1).stride(2), 1),
        convolution([2, 17, 18, 70], 33, square(1), 1),
        convolution([2, 7, 300, 4], 4, square(3), 2),
        convolution([2, 24, 24, 32], 32, square(3).stride(2), 32),
    ] {
        check(&of, Precision::F32, 5e-7);
        check(&of, Precision::Bf16, 5e-7);
    }
}

/// Odd sides, images of one tile, blocks that end within images and lines longer than a block.
#[test]
fn fewer_multiplications_give_what_the_definition_gives() {
    let window = Window::square(3).padding(1);
    for (x, outputs) in [
        ([64, 1, 1, 32], 32),
        ([40, 2, 3, 32], 48),
        ([9, 7, 9, 48], 32),
        ([3, 13, 12, 64], 96),
        ([2, 3, 200, 32], 32),
        ([1, 17, 16, 160], 64),
    ] {
        let of = convolution(x, outputs, window, 1);
        assert_eq!(of.way(Precision::F32), Way::Winograd);
        assert_eq!(of.way(Precision::Bf16), Way::Lowered);
        check(&of, Precision::F32, 5e-7);
        check(&of, Precision::Bf16, 5e-7);
    }
    for of in [
        convolution([64, 4, 4, 24], 32, window, 1),
        convolution([64, 4, 4, 40], 32, window, 1),
        convolution([15, 4, 4, 32], 32, window, 1),
        convolution([64, 4, 4, 64], 64, window, 2),
        convolution([64, 4, 4, 32], 32, window.stride(2), 1),
        convolution([64, 4, 4, 32], 32, Window::square(3), 1),
    ] {
        assert_eq!(of.way(Precision::F32), Way::Lowered);
    }
}
