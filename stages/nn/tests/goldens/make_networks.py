#!/usr/bin/env python3
"""Makes the golden files of convolutional networks: ten steps of training in PyTorch.

    python make_networks.py            write every family next to this script
    python make_networks.py --check    write nothing; fail if a file on disk differs

Every mini-batch is cut into micro-batches, as Brigade cuts it: batch normalisation works on each micro-batch by itself,
gradients add up, and running statistics are taken over once a step, from the statistics of the whole mini-batch's
values (mean of means, unbiased variance about it). Images are stored [N, H, W, C] and weights of convolutions
[O, kh, kw, I]; all else as `make.py` says.
"""

import torch
import torch.nn.functional as F
from torch import nn

import make

STEPS, BATCH, MICRO = 10, 12, 4
LR, MOMENTUM, DECAY = 0.002, 0.9, 5e-4


class Norm(nn.BatchNorm2d):
    """Gathers the values that it saw in a step, and takes their statistics over when it ends."""

    def __init__(self, channels):
        super().__init__(channels, momentum=0.0, dtype=torch.float64)
        self.seen = []

    def forward(self, x):
        self.seen.append(x.detach())
        return super().forward(x)

    def commit(self, momentum=0.1):
        values = torch.cat(self.seen).transpose(0, 1).flatten(1)
        self.seen = []
        self.running_mean.lerp_(values.mean(1), momentum)
        self.running_var.lerp_(values.var(1, unbiased=True), momentum)


def conv(inputs, outputs, kernel, stride=1):
    return nn.Conv2d(
        inputs, outputs, kernel, stride, kernel // 2, bias=False, dtype=torch.float64
    )


class Basic(nn.Module):
    expansion = 1

    def __init__(self, inputs, inner, stride):
        super().__init__()
        self.conv1, self.bn1 = conv(inputs, inner, 3, stride), Norm(inner)
        self.conv2, self.bn2 = conv(inner, inner, 3), Norm(inner)
        self.downsample = downsample(inputs, inner, stride)

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.downsample(x))


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, inputs, inner, stride):
        super().__init__()
        outputs = 4 * inner
        self.conv1, self.bn1 = conv(inputs, inner, 1), Norm(inner)
        self.conv2, self.bn2 = conv(inner, inner, 3, stride), Norm(inner)
        self.conv3, self.bn3 = conv(inner, outputs, 1), Norm(outputs)
        self.downsample = downsample(inputs, outputs, stride)

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x))


def downsample(inputs, outputs, stride):
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(conv(inputs, outputs, 1, stride), Norm(outputs))


class ResNet(nn.Module):
    def __init__(self, kind, blocks, width, colours, classes, large):
        super().__init__()
        self.conv1 = conv(colours, width, 7 if large else 3, 2 if large else 1)
        self.bn1, self.pools = Norm(width), large
        channels = width
        for group, count in enumerate(blocks):
            inner, layers = width << group, []
            for block in range(count):
                stride = 2 if group and not block else 1
                layers.append(kind(channels, inner, stride))
                channels = inner * kind.expansion
            self.add_module(f"layer{group + 1}", nn.Sequential(*layers))
        self.groups = len(blocks)
        self.fc = nn.Linear(channels, classes, dtype=torch.float64)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        if self.pools:
            x = F.max_pool2d(x, 3, 2, 1)
        for group in range(self.groups):
            x = getattr(self, f"layer{group + 1}")(x)
        return self.fc(x.mean((2, 3)))


def ours(name, value):
    """Under Brigade's name and in its order."""
    return value.permute(0, 2, 3, 1) if value.dim() == 4 else value


def resnet(family, kind, blocks, width, side, large):
    """Stochastic gradient descent with momentum and weight decay on all, a fixed mini-batch."""
    case = make.Case(family, "resnet")
    colours, classes = 3, 5
    model = ResNet(kind, blocks, width, colours, classes, large)
    with torch.no_grad():
        for name, value in model.named_parameters():
            scale = 1.0 if value.dim() == 1 else (value[0].numel() / 2) ** -0.5
            mean = 1.0 if "bn" in name and name.endswith("weight") else 0.0
            spread = 0.1 if value.dim() == 1 else scale
            value.copy_(case.normal(*value.shape, scale=spread, mean=mean))
            case.store(f"start/{name}", ours(name, value))
    images = case.normal(BATCH, side, side, colours)
    labels = case.integers(classes, BATCH)
    case.store("images", images)
    case.store("labels", labels)
    optimizer = torch.optim.SGD(
        model.parameters(), LR, momentum=MOMENTUM, weight_decay=DECAY
    )
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        total = 0.0
        for rows, wanted in zip(images.split(MICRO), labels.split(MICRO)):
            logits = model(rows.permute(0, 3, 1, 2))
            loss = F.cross_entropy(logits, wanted, reduction="sum") / BATCH
            loss.backward()
            total += loss.item()
        optimizer.step()
        for module in model.modules():
            if isinstance(module, Norm):
                module.commit()
        losses.append(total)
    case.store("losses", torch.tensor(losses, dtype=torch.float64))
    model.eval()
    case.store("evaluated", F.cross_entropy(model(images.permute(0, 3, 1, 2)), labels))
    statistics = {
        name: value for name, value in model.named_buffers() if "running" in name
    }
    for name, value in statistics.items():
        case.store(f"end/{name}", value)
    return case.tensors


def resnet18():
    """As ResNet-18, narrow: two blocks a group."""
    return resnet("resnet18", Basic, [2, 2, 2, 2], 4, 16, False)


def resnet50():
    """As ResNet-50, narrow and with fewer groups, and with the stem for large images."""
    return resnet("resnet50", Bottleneck, [2, 2], 4, 32, True)


if __name__ == "__main__":
    make.main([resnet18, resnet50])
