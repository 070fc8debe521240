"""ResNet-18 for images of 32 x 32 in PyTorch, in parts: `torch_train.py --family resnet18`.

The network is torchvision's with the stem for small images: a convolution of 3 x 3, no pooling.
"""

BLOCKS = 8
SIDE, COLOURS, CLASSES = 32, 3, 10
WIDTHS = [64, 64, 128, 128, 256, 256, 512, 512]


def build(options, blocks, first, last):
    """Some neighbouring blocks, with the stem before and the head behind where they belong."""
    import torch
    from torch import nn
    from torch.nn import functional

    def convolution(inputs, outputs, kernel, stride=1):
        padding = kernel // 2
        conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        return conv

    class Block(nn.Module):
        def __init__(self, number):
            super().__init__()
            torch.manual_seed(10 + number)
            outputs = WIDTHS[number]
            inputs = WIDTHS[max(number - 1, 0)]
            stride = 1 if inputs == outputs else 2
            self.conv1 = convolution(inputs, outputs, 3, stride)
            self.bn1 = nn.BatchNorm2d(outputs)
            self.conv2 = convolution(outputs, outputs, 3)
            self.bn2 = nn.BatchNorm2d(outputs)
            self.downsample = None
            if stride > 1:
                conv = convolution(inputs, outputs, 1, stride)
                self.downsample = nn.Sequential(conv, nn.BatchNorm2d(outputs))

        def forward(self, x):
            y = functional.relu(self.bn1(self.conv1(x)), inplace=True)
            y = self.bn2(self.conv2(y))
            y += x if self.downsample is None else self.downsample(x)
            return functional.relu(y, inplace=True)

    class Part(nn.Module):
        def __init__(self):
            super().__init__()
            # Weights follow from the place of a layer alone, so that every mode starts alike.
            torch.manual_seed(1)
            if first:
                self.conv1 = convolution(COLOURS, WIDTHS[0], 3)
                self.bn1 = nn.BatchNorm2d(WIDTHS[0])
            self.blocks = nn.ModuleList(Block(number) for number in blocks)
            torch.manual_seed(2)
            if last:
                self.fc = nn.Linear(WIDTHS[-1], CLASSES)

        def compute(self, x):
            if first:
                x = functional.relu(self.bn1(self.conv1(x)), inplace=True)
            for block in self.blocks:
                x = block(x)
            return self.fc(x.mean((2, 3))) if last else x

        def forward(self, x):
            if options.channels_last and x.dim() == 4:
                x = x.contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bf16"):
                y = self.compute(x)
            # What goes to another stage is contiguous there.
            return y if last else y.contiguous()

    part = Part()
    return part.to(memory_format=torch.channels_last) if options.channels_last else part


def batches(options):
    """Random images and classes."""
    import torch

    generator = torch.Generator().manual_seed(1)
    for _ in range(options.steps):
        shape = (options.batch_size, COLOURS, SIDE, SIDE)
        images = torch.randn(shape, generator=generator)
        yield images, torch.randint(CLASSES, (options.batch_size,), generator=generator)
