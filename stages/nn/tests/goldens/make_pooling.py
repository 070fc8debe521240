#!/usr/bin/env python3
"""Makes pooling.safetensors, as make.py makes its files: images made smaller and larger.

    python make_pooling.py            write it next to this script
    python make_pooling.py --check    write nothing; fail if the file on disk differs

Images are stored as [rows, height, width, channels]; PyTorch has [rows, channels, height,
width]. A window is stored as [kernel, stride, padding], each of (height, width).
"""

import pathlib
import sys

import safetensors.torch
import torch
import torch.nn.functional as F

from make import Case, together

HERE = pathlib.Path(__file__).resolve().parent
WINDOWS = {
    "2x2": ((2, 2), (2, 2), (0, 0)),
    "3x3_padded": ((3, 3), (2, 2), (1, 1)),
    "3x2_over": ((3, 2), (1, 2), (1, 0)),
    "2x3_apart": ((2, 3), (3, 4), (1, 1)),
    "17x16_wide": ((17, 16), (2, 3), (8, 7)),
}


def to_torch(image):
    return image.permute(0, 3, 1, 2)


def from_torch(image):
    return image.permute(0, 2, 3, 1).contiguous()


def image(case, ties=False, sides=(7, 9), channels=5):
    x = case.normal(2, *sides, channels)
    if ties:
        x = torch.round(x)
    return case.input("x", x)


def pooling(name, pool, window, ties=False):
    # Cases max_* (with whole numbers, so that many are equal) and average_*.
    c = Case("pooling", name)
    kernel, stride, padding = window
    c.store("window", torch.tensor([*kernel, *stride, *padding]))
    sides = (17, 18) if kernel[0] > 9 else (7, 9)
    x = image(c, ties, sides)
    c.output(from_torch(pool(to_torch(x), kernel, stride, padding)))
    return c


def whole():
    # Case global: the mean of all pixels; x [2,7,9,5], y [2,5].
    c = Case("pooling", "global")
    c.output(F.adaptive_avg_pool2d(to_torch(image(c)), 1).flatten(1))
    return c


def upsample(mode, factor, sides):
    # Cases nearest_* and bilinear_* by factors 1 to 4, some of images one pixel wide.
    c = Case("pooling", f"{mode}_{factor}_{sides[0]}x{sides[1]}")
    c.settings(factor=factor)
    corners = None if mode == "nearest" else False
    x = to_torch(image(c, sides=sides))
    y = F.interpolate(x, scale_factor=factor, mode=mode, align_corners=corners)
    c.output(from_torch(y))
    return c


def no_numbers():
    # Case max_nan: a 3x3 window with stride 2 and padding 1 over x [1,6,6,4], in which some
    # numbers are none, some infinite and many equal; y and dx have it as torch says. Stored by
    # hand as bits, because a golden file is finite otherwise.
    c = Case("pooling", "max_nan")
    x = torch.round(c.normal(1, 6, 6, 4))
    drawn = c.uniform(1, 6, 6, 4)
    x[drawn < 0.1] = float("nan")
    x[drawn > 0.5] = float("-inf")
    x[:, 2:, :, 3] = float("-inf")
    leaf = x.clone().requires_grad_()
    y = from_torch(F.max_pool2d(to_torch(leaf), 3, 2, 1))
    dy = c.normal(*y.shape)
    (dx,) = torch.autograd.grad(y, [leaf], dy)
    c.store("dy", dy)
    c.store("dx", dx)
    for name, value in (("x", x), ("y", y)):
        c.store(f"{name}_bits", value.detach().float().contiguous().view(torch.int32))
    return c


def family():
    pools = {"max": F.max_pool2d, "average": F.avg_pool2d}
    cases = [
        pooling(f"{kind}_{name}", pool, window, ties=kind == "max")
        for kind, pool in pools.items()
        for name, window in WINDOWS.items()
    ]
    for mode in ("nearest", "bilinear"):
        for factor, sides in ((1, (3, 4)), (2, (3, 4)), (3, (4, 2)), (4, (1, 3)), (2, (5, 1))):
            cases.append(upsample(mode, factor, sides))
    return together(*cases, whole(), no_numbers())


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    path = HERE / "pooling.safetensors"
    made = safetensors.torch.save(family())
    if "--check" not in sys.argv[1:]:
        path.write_bytes(made)
        print(f"{path.name}: {len(made)} bytes")
    elif not path.exists() or path.read_bytes() != made:
        sys.exit(f"differs from what this script makes: {path.name}")


if __name__ == "__main__":
    main()
