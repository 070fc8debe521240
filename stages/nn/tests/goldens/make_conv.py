#!/usr/bin/env python3
"""Makes conv2d.safetensors: convolutions of images, as make.py makes its files.

    python make_conv.py            # or: python make_conv.py --check

Images are [rows, height, width, channels] and weights [out, height, width, in]:
PyTorch's with their channels last.
"""

import make
import torch
import torch.nn.functional as F
from make import Case, together


def conv2d():
    # y = conv(x, weight) + bias of two images; a case is (name, x, outputs, kernel)
    # and the settings that differ from stride 1, no padding, one group, with a bias.
    def case(name, x, outputs, kernel, bias=True, **settings):
        c = Case("conv2d", name)
        inputs = x[-1] // settings.get("groups", 1)
        x = c.input("x", c.normal(2, *x))
        scale = (kernel[0] * kernel[1] * inputs) ** -0.5
        weight = c.input("weight", c.normal(outputs, *kernel, inputs, scale=scale))
        bias = c.input("bias", c.normal(outputs)) if bias else None
        first = [each.permute(0, 3, 1, 2) for each in (x, weight)]
        y = F.conv2d(*first, bias, **settings)
        c.output(y.permute(0, 2, 3, 1).contiguous())
        return c

    return together(
        case("same", (5, 6, 3), 5, (3, 3), padding=1),
        case("no_bias", (4, 7, 3), 5, (3, 3), bias=False, padding=1),
        case("strided", (7, 6, 4), 6, (3, 3), padding=1, stride=2),
        case("stem", (9, 11, 3), 4, (7, 7), padding=3, stride=2),
        case("pixel", (3, 4, 6), 4, (1, 1)),
        case("shortcut", (5, 4, 6), 4, (1, 1), stride=2),
        case("groups", (5, 4, 6), 4, (3, 3), padding=1, groups=2),
        case("depthwise", (5, 6, 4), 8, (3, 3), padding=1, stride=2, groups=4),
        case("rectangular", (6, 5, 2), 3, (3, 2), padding=(0, 1), stride=(2, 1)),
        case("winograd", (7, 9, 32), 32, (3, 3), bias=False, padding=1),
    )


make.FAMILIES = [conv2d]

if __name__ == "__main__":
    make.main()
