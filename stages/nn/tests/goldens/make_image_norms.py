#!/usr/bin/env python3
"""Makes the golden files of batch and group normalisation, as make.py makes its own.

    python make_image_norms.py            or: python make_image_norms.py --check

Images here are [rows, height, width, channels]; torch has channels second.
"""

import torch
import torch.nn.functional as F

import make
from make import Case, same, together


def channels_second(x):
    return x.permute(0, 3, 1, 2)


def channels_last(x):
    return x.permute(0, 2, 3, 1)


def by_moments(x, weight, bias, mean, variance, eps):
    return (x - mean) / torch.sqrt(variance + eps) * weight + bias


def batch_norm():
    # x [rows,height,width,channels], weight, bias [channels], eps 1e-5. Cases:
    # plain, relu: max(y, 0); add: y + skip; add_relu: max(y + skip, 0); wide (144
    # pixels of 43 channels); far (mean 1000, deviation 1); and of plain and add_relu
    # also NAME_running, normalised by running_mean and running_var, which are given.
    # Gradients are of x, skip, weight and bias.
    #
    # steps: x [2,5,3,2,4], two mini-batches; running_mean and running_var before,
    # and after/running_mean [2,4], after/running_var [2,4] after each, momentum .3.
    def case(name, shape=(4, 3, 5, 6), add=False, relu=False, running=False, mean=0.2):
        c = Case("batch_norm", name)
        eps, channels = 1e-5, shape[-1]
        x = c.input("x", c.normal(*shape, mean=mean))
        weight = c.input("weight", c.normal(channels, scale=0.5, mean=1.0))
        bias = c.input("bias", c.normal(channels, scale=0.5))
        if running:
            means = c.normal(channels, scale=0.3)
            variances = c.normal(channels).square().float().double() + 0.5
            c.settings(running_mean=means, running_var=variances)
            y = by_moments(x, weight, bias, means, variances, eps)
            theirs = F.batch_norm(
                channels_second(x), means, variances, weight, bias, eps=eps
            )
        else:
            variance, means = torch.var_mean(x, (0, 1, 2), correction=0)
            y = by_moments(x, weight, bias, means, variance, eps)
            theirs = F.batch_norm(
                channels_second(x), None, None, weight, bias, training=True, eps=eps
            )
        torch.testing.assert_close(y, channels_last(theirs), rtol=1e-9, atol=1e-9)
        if add:
            y = y + c.input("skip", c.normal(*shape))
        c.output(F.relu(y) if relu else y)
        return c

    def steps():
        c = Case("batch_norm", "steps")
        batches = c.normal(2, 5, 3, 2, 4, scale=2.0, mean=0.5)
        mean = c.normal(4)
        variance = c.normal(4).square().float().double() + 0.5
        c.settings(x=batches, running_mean=mean, running_var=variance, momentum=0.3)
        after = {"running_mean": [], "running_var": []}
        mean, variance = mean.clone(), variance.clone()
        for x in batches:
            new = torch.var_mean(x, (0, 1, 2), correction=1)
            by_hand = [0.7 * old + 0.3 * to for old, to in zip((variance, mean), new)]
            F.batch_norm(channels_second(x), mean, variance, training=True, momentum=0.3)
            same(by_hand[0], variance)
            same(by_hand[1], mean)
            after["running_mean"].append(mean.clone())
            after["running_var"].append(variance.clone())
        for name, values in after.items():
            c.store(f"after/{name}", torch.stack(values))
        return c

    return together(
        case("plain"),
        case("relu", relu=True),
        case("add", add=True),
        case("add_relu", add=True, relu=True),
        case("wide", shape=(2, 9, 8, 43), relu=True),
        case("far", mean=1000.0),
        case("plain_running", running=True),
        case("add_relu_running", add=True, relu=True, running=True),
        steps(),
    )


def group_norm():
    # x [rows,height,width,channels], weight, bias [channels], eps 1e-5; `groups`.
    # Cases: plain (3 groups of 4), one (1 of 6), each (7 of 1), wide (2 of 20, of 90
    # pixels), pixel (4 of 3, of 1 pixel).
    def case(name, shape, groups):
        c = Case("group_norm", name)
        x = c.input("x", c.normal(*shape, mean=0.3))
        weight = c.input("weight", c.normal(shape[-1], scale=0.5, mean=1.0))
        bias = c.input("bias", c.normal(shape[-1], scale=0.5))
        c.settings(groups=groups)
        rows, height, width, channels = shape
        parts = x.reshape(rows, height, width, groups, channels // groups)
        variance, mean = torch.var_mean(parts, (1, 2, 4), correction=0, keepdim=True)
        normal = by_moments(parts, 1.0, 0.0, mean, variance, 1e-5).reshape(shape)
        y = normal * weight + bias
        theirs = F.group_norm(channels_second(x), groups, weight, bias, eps=1e-5)
        same(y, channels_last(theirs))
        c.output(y)
        return c

    return together(
        case("plain", (2, 3, 4, 12), 3),
        case("one", (3, 2, 2, 6), 1),
        case("each", (2, 3, 5, 7), 7),
        case("wide", (2, 9, 10, 40), 2),
        case("pixel", (3, 1, 1, 12), 4),
    )


if __name__ == "__main__":
    make.FAMILIES = [batch_norm, group_norm]
    make.main()
