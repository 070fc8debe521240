#!/usr/bin/env python3
"""Makes unet.safetensors, as make.py makes its files: whole U-Nets, forward and back.

    python make_unet.py            write it next to this script
    python make_unet.py --check    write nothing; fail if the file on disk differs

Images are stored as [rows, height, width, channels] and weights as [outputs, height, width,
inputs]; PyTorch has channels first. A case has x, targets, logits, the mean loss, and for every
parameter `init/KEY` and `grad/KEY`.
"""

import pathlib
import sys

import safetensors.torch
import torch
import torch.nn.functional as F

from make import Case, together

HERE = pathlib.Path(__file__).resolve().parent
ROWS, CHANNELS, CLASSES, WIDTH, GROUPS = 3, 2, 3, 4, 2


class UNet:
    """Parameters by our keys, in PyTorch's layout."""

    def __init__(self, case, norm, upsample, depth):
        self.case, self.norm, self.upsample, self.depth = case, norm, upsample, depth
        self.parameters = {}

    def parameter(self, key, make):
        if key not in self.parameters:
            self.parameters[key] = make().requires_grad_()
        return self.parameters[key]

    def conv(self, key, x, outputs, side=3, bias=True):
        shape = (outputs, x.shape[1], side, side)
        scale = (2 / (side * side * x.shape[1])) ** 0.5
        normal = self.case.normal
        weight = self.parameter(f"{key}.weight", lambda: normal(*shape, scale=scale))
        b = None
        if bias:
            b = self.parameter(f"{key}.bias", lambda: normal(outputs, scale=0.1))
        return F.conv2d(x, weight, b, padding=side // 2)

    def layer(self, key, x, outputs):
        x = self.conv(f"{key}.conv", x, outputs, bias=self.norm == "none")
        if self.norm != "none":
            normal = self.case.normal
            weight = self.parameter(
                f"{key}.norm.weight", lambda: normal(outputs, scale=0.1, mean=1.0)
            )
            bias = self.parameter(f"{key}.norm.bias", lambda: normal(outputs, scale=0.1))
            if self.norm == "batch":
                x = F.batch_norm(x, None, None, weight, bias, training=True)
            else:
                x = F.group_norm(x, GROUPS, weight, bias)
        return F.relu(x)

    def forward(self, x):
        skips = []
        for level in range(self.depth):
            for number in range(2):
                x = self.layer(f"down.{level}.{number}", x, WIDTH << level)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        for number in range(2):
            x = self.layer(f"bottom.{number}", x, WIDTH << self.depth)
        for level in reversed(range(self.depth)):
            corners = False if self.upsample == "bilinear" else None
            x = F.interpolate(
                x, scale_factor=2, mode=self.upsample, align_corners=corners
            )
            x = self.conv(f"up.{level}.up.conv", x, WIDTH << level)
            x = torch.cat([skips[level], x], 1)
            for number in range(2):
                x = self.layer(f"up.{level}.{number}", x, WIDTH << level)
        return self.conv("head", x, CLASSES, side=1)


def last(value):
    """Channels last, where there are any."""
    return value.permute(0, 2, 3, 1).contiguous() if value.dim() == 4 else value


def case(norm, upsample, depth, sides):
    c = Case("unet", norm)
    x = c.normal(ROWS, *sides, CHANNELS)
    targets = c.integers(CLASSES, ROWS, *sides)
    targets[0, 0, :2] = -100
    unet = UNet(c, norm, upsample, depth)
    logits = unet.forward(x.permute(0, 3, 1, 2))
    loss = F.cross_entropy(logits, targets)
    gradients = torch.autograd.grad(loss, list(unet.parameters.values()))
    c.store("x", x)
    c.store("targets", targets)
    c.store("logits", last(logits))
    c.store("loss", loss)
    for (key, value), gradient in zip(unet.parameters.items(), gradients):
        c.store(f"init/{key}", last(value))
        c.store(f"grad/{key}", last(gradient))
    return c


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    path = HERE / "unet.safetensors"
    cases = [
        case("batch", "bilinear", 2, (8, 12)),
        case("group", "nearest", 1, (6, 4)),
        case("none", "nearest", 1, (6, 4)),
    ]
    made = safetensors.torch.save(together(*cases))
    if "--check" not in sys.argv[1:]:
        path.write_bytes(made)
        print(f"{path.name}: {len(made)} bytes")
    elif not path.exists() or path.read_bytes() != made:
        sys.exit(f"differs from what this script makes: {path.name}")


if __name__ == "__main__":
    main()
