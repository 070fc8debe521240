#!/usr/bin/env python3
"""Makes the golden files that the Rust tests of this folder's crate compare with.

    python make.py            write every family next to this script
    python make.py --check    write nothing; fail if a file on disk differs

Needs torch and safetensors. One function below makes one family, hence one file
NAME.safetensors; its comment lists the cases and settings. Conventions:

* Inputs are f32 values. All arithmetic on them is done in f64, and the results
  are rounded to f32 once, when stored. Integers are stored as i32.
* Every case draws from its own generator, seeded from "family/case", so adding
  a case leaves the others as they were. Same torch version, same bytes.
* Keys are "case/name". A gradient has its value's name after a "d": x, dx,
  qkv.weight, dqkv.weight. `dy` is given: gradients are those of sum(y * dy).
* Linear weights are [out, in]. Scalars and settings are tensors of shape [1].
* What is built by hand here is asserted equal to torch's own operation, so a
  file that was written was also checked.
"""

import argparse
import math
import pathlib
import sys
import zlib
from fnmatch import fnmatchcase

import safetensors.torch
import torch
import torch.nn.functional as F

HERE = pathlib.Path(__file__).resolve().parent
IGNORED = -100


# --- Drawing and storing ---------------------------------------------------------


class Case:
    """Draws the inputs of one case and collects its tensors under "case/name"."""

    def __init__(self, family, name):
        self.name = name
        self.tensors = {}
        self.inputs = {}
        self.generator = torch.Generator().manual_seed(
            zlib.crc32(f"{family}/{name}".encode())
        )

    def normal(self, *shape, scale=1.0, mean=0.0):
        """Normal f32 values, held as f64."""
        drawn = torch.randn(shape, generator=self.generator, dtype=torch.float32)
        return as_f32(drawn.double() * scale + mean)

    def integers(self, below, *shape):
        return torch.randint(below, shape, generator=self.generator)

    def uniform(self, *shape):
        return torch.rand(shape, generator=self.generator, dtype=torch.float32)

    def input(self, name, value):
        """Stores `value` and returns it as a leaf whose gradient `output` stores."""
        self.store(name, value)
        leaf = value.detach().clone().requires_grad_()
        self.inputs[name] = leaf
        return leaf

    def output(self, y, dy=None):
        """Stores y, the upstream gradient dy and the gradient of every input."""
        if dy is None:
            dy = self.normal(*y.shape)
            self.store("dy", dy)
        self.store("y", y)
        gradients = torch.autograd.grad(y, list(self.inputs.values()), dy)
        for name, gradient in zip(self.inputs, gradients):
            self.store("d" + name, gradient)

    def store(self, name, value):
        put(self.tensors, f"{self.name}/{name}", value)

    def settings(self, **values):
        for name, value in values.items():
            self.store(name, value)


def put(tensors, key, value):
    """Stores a tensor or a scalar as f32 or i32."""
    if not torch.is_tensor(value):
        kind = torch.int32 if isinstance(value, int) else torch.float64
        value = torch.tensor([value], dtype=kind)
    value = value.detach().reshape(value.shape or (1,))
    if value.is_floating_point():
        assert value.dtype == torch.float64, f"{key} was not computed in f64"
        assert torch.isfinite(value).all(), f"{key} is not finite"
        value = value.float()
    else:
        value = value.int()
    assert key not in tensors, f"{key} is there already"
    tensors[key] = value.contiguous().clone()


def as_f32(value):
    """The f64 tensor of the f32 values nearest to `value`."""
    return value.float().double()


def together(*cases):
    tensors = {}
    for case in cases:
        assert not tensors.keys() & case.tensors.keys()
        tensors.update(case.tensors)
    return tensors


def same(ours, theirs):
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


# --- The operations that the families share --------------------------------------


def norm(x, weight, bias, eps):
    centred = x - x.mean(-1, keepdim=True)
    variance = (centred * centred).mean(-1, keepdim=True)
    y = centred / torch.sqrt(variance + eps) * weight
    if bias is not None:
        y = y + bias
    same(y, F.layer_norm(x, x.shape[-1:], weight, bias, eps))
    return y


def gelu_by_tanh(x):
    y = 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    same(y, F.gelu(x, approximate="tanh"))
    return y


def gelu_by_erf(x):
    y = 0.5 * x * torch.erfc(-x / math.sqrt(2))
    same(y, F.gelu(x))
    return y


def causal_attention(x, heads, qkv_weight, qkv_bias, proj_weight, proj_bias):
    """GPT-2's: the rows of qkv_weight are q | k | v, each of contiguous heads."""
    batch, length, width = x.shape
    q, k, v = (
        part.reshape(batch, length, heads, width // heads).transpose(1, 2)
        for part in F.linear(x, qkv_weight, qkv_bias).split(width, -1)
    )
    scores = q @ k.transpose(-1, -2) / math.sqrt(width // heads)
    hidden = torch.ones(length, length, dtype=torch.bool).triu(1)
    mixed = torch.softmax(scores.masked_fill(hidden, -math.inf), -1) @ v
    same(mixed, F.scaled_dot_product_attention(q, k, v, is_causal=True))
    merged = mixed.transpose(1, 2).reshape(batch, length, width)
    return F.linear(merged, proj_weight, proj_bias)


def summed_cross_entropy(logits, targets, smoothing=0.0):
    """The sum over counted targets, and how many targets were counted."""
    logits, targets = logits.flatten(0, -2), targets.flatten()
    counted = targets != IGNORED
    log_p = torch.log_softmax(logits, -1)[counted]
    on_target = log_p.gather(-1, targets[counted, None]).sum()
    loss = -(1 - smoothing) * on_target - smoothing * log_p.mean(-1).sum()
    theirs = F.cross_entropy(
        logits,
        targets,
        ignore_index=IGNORED,
        label_smoothing=smoothing,
        reduction="sum",
    )
    same(loss, theirs)
    return loss, int(counted.sum())


# --- Families: single layers -----------------------------------------------------


def linear():
    # y = x weight^T + bias; x [2,3,5], y [2,3,7].
    # Cases: bias, no_bias.
    def case(name, with_bias):
        c = Case("linear", name)
        x = c.input("x", c.normal(2, 3, 5))
        weight = c.input("weight", c.normal(7, 5))
        bias = c.input("bias", c.normal(7)) if with_bias else None
        c.output(F.linear(x, weight, bias))
        return c

    return together(case("bias", True), case("no_bias", False))


def embedding():
    # Case token: y = weight[ids]; ids [2,6] (repeated ones among them) of 11, width 5.
    # Case position: y = x + wpe[..6]; x [2,6,5], wpe [8,5].
    token = Case("embedding", "token")
    ids = token.integers(11, 2, 6)
    ids[0, 4] = ids[0, 1]
    ids[1, 0] = ids[0, 1]
    token.store("ids", ids)
    weight = token.input("weight", token.normal(11, 5))
    token.output(weight[ids])

    position = Case("embedding", "position")
    x = position.input("x", position.normal(2, 6, 5))
    wpe = position.input("wpe", position.normal(8, 5))
    position.output(x + wpe[: x.shape[1]])
    return together(token, position)


def layer_norm():
    # eps 1e-5; x [3,4,10], weight [10], bias [10].
    # Cases: plain; no_bias; offset (plain, but x has deviation 1 around 100, in
    # multiples of 1/256 that sum to exactly 1000 in every row: f32 finds the mean and
    # the differences from it without rounding, but E[x^2] - E[x]^2 is far off).
    def around_100(drawn):
        x = torch.round((drawn - drawn.mean(-1, keepdim=True)) * 256) / 256
        x[..., -1] -= x.sum(-1)
        return 100 + x

    def case(name, with_bias=True, x=lambda drawn: drawn):
        c = Case("layer_norm", name)
        c.settings(eps=1e-5)
        x = c.input("x", x(c.normal(3, 4, 10)))
        weight = c.input("weight", c.normal(10, scale=0.3, mean=1.0))
        bias = c.input("bias", c.normal(10, scale=0.5)) if with_bias else None
        c.output(norm(x, weight, bias, 1e-5))
        return c

    return together(
        case("plain"),
        case("no_bias", with_bias=False),
        case("offset", x=around_100),
    )


def activations():
    # x [4,33]: 127 steps over [-12,12] with 0 in the middle, then 30, -30, 90, -90,
    # 0.001. Cases: gelu_tanh, gelu_erf, relu (slope 0 at 0), silu.
    def case(name, function):
        c = Case("activations", name)
        steps = torch.arange(-63, 64, dtype=torch.float64) * 12 / 63
        ends = torch.tensor([30, -30, 90, -90, 0.001], dtype=torch.float64)
        x = c.input("x", as_f32(torch.cat([steps, ends]).reshape(4, 33)))
        c.output(function(x))
        return c

    return together(
        case("gelu_tanh", gelu_by_tanh),
        case("gelu_erf", gelu_by_erf),
        case("relu", F.relu),
        case("silu", F.silu),
    )


def attention():
    # Causal self attention of `heads` heads: qkv = x qkv.weight^T + qkv.bias, rows
    # q | k | v of contiguous heads, scale 1/sqrt(D/H), y = merged proj.weight^T +
    # proj.bias. The k third of dqkv.bias is 0 but for rounding (a softmax does not
    # see what is added to a whole row), and so are the q and k thirds where T is 1.
    # Cases: b2_t7_d12_h3 and b2_t1_d8_h2 with biases, b1_t70_d16_h2 without.
    def case(batch, length, width, heads, with_biases):
        c = Case("attention", f"b{batch}_t{length}_d{width}_h{heads}")
        c.settings(heads=heads)
        scale = 1.5 / math.sqrt(width)
        x = c.input("x", c.normal(batch, length, width))
        parameters = []
        for name, rows in ("qkv", 3 * width), ("proj", width):
            weight = c.input(f"{name}.weight", c.normal(rows, width, scale=scale))
            bias = None
            if with_biases:
                bias = c.input(f"{name}.bias", c.normal(rows, scale=0.5))
            parameters += [weight, bias]
        c.output(causal_attention(x, heads, *parameters))
        return c

    return together(
        case(2, 7, 12, 3, True),
        case(1, 70, 16, 2, False),
        case(2, 1, 8, 2, True),
    )


def mlp_block():
    # y = fc2(gelu_tanh(fc1(x))); x [2,5,8], hidden width 32.
    # Cases: bias, no_bias.
    return together(
        feed_forward("mlp_block", "bias", True, residual=False),
        feed_forward("mlp_block", "no_bias", False, residual=False),
    )


def gpt_half():
    # y = x + fc2(gelu_tanh(fc1(layer_norm(x)))); x [2,5,8], hidden width 32, eps 1e-5.
    # Cases: bias, no_bias (none in the layer norm either).
    return together(
        feed_forward("gpt_half", "bias", True, residual=True),
        feed_forward("gpt_half", "no_bias", False, residual=True),
    )


def feed_forward(family, name, with_biases, residual):
    c = Case(family, name)

    def bias(name, width):
        return c.input(name, c.normal(width, scale=0.5)) if with_biases else None

    x = c.input("x", c.normal(2, 5, 8))
    inner = x
    if residual:
        c.settings(eps=1e-5)
        ln_weight = c.input("ln.weight", c.normal(8, scale=0.3, mean=1.0))
        inner = norm(x, ln_weight, bias("ln.bias", 8), 1e-5)
    fc1_weight = c.input("fc1.weight", c.normal(32, 8, scale=0.4))
    inner = F.linear(inner, fc1_weight, bias("fc1.bias", 32))
    fc2_weight = c.input("fc2.weight", c.normal(8, 32, scale=0.3))
    inner = F.linear(gelu_by_tanh(inner), fc2_weight, bias("fc2.bias", 8))
    c.output(x + inner if residual else inner)
    return c


# --- Families: Llama's layers ----------------------------------------------------


def rms_norm():
    # y = x / sqrt(mean(x^2) + eps) weight; eps 1e-5; x [3,4,10], weight [10].
    # Cases: plain; small (x times 0.003, where eps is felt).
    def case(name, scale):
        c = Case("rms_norm", name)
        c.settings(eps=1e-5)
        x = c.input("x", c.normal(3, 4, 10, scale=scale))
        weight = c.input("weight", c.normal(10, scale=0.3, mean=1.0))
        y = x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-5) * weight
        same(y, F.rms_norm(x, (10,), weight, 1e-5))
        c.output(y)
        return c

    return together(case("plain", 1.0), case("small", 0.003))


def gated_mlp():
    # y = down(silu(gate(x)) up(x)); x [2,5,8], hidden width 20. Cases: plain, bias.
    def case(name, with_biases):
        c = Case("gated_mlp", name)
        x = c.input("x", c.normal(2, 5, 8))

        def linear(name, inputs, outputs):
            scale = 1.5 / math.sqrt(inputs)
            weight = c.input(f"{name}.weight", c.normal(outputs, inputs, scale=scale))
            bias = None
            if with_biases:
                bias = c.input(f"{name}.bias", c.normal(outputs, scale=0.5))
            return lambda x: F.linear(x, weight, bias)

        gate, up = linear("gate_proj", 8, 20), linear("up_proj", 8, 20)
        down = linear("down_proj", 20, 8)
        c.output(down(F.silu(gate(x)) * up(x)))
        return c

    return together(case("plain", False), case("bias", True))


def rotary_frequencies(columns, theta, scaling):
    """Radians of one position for every pair, and what rotated numbers grow by."""
    pairs = torch.arange(columns // 2, dtype=torch.float64)
    plain = theta ** (-2 * pairs / columns)
    kind, *numbers = scaling
    if kind == "none":
        return plain, 1.0
    factor = numbers[0]
    if kind == "linear":
        return plain / factor, 1.0
    if kind == "llama3":
        _, low, high, context = numbers
        turns = context * plain / (2 * math.pi)
        fast = ((turns - low) / (high - low)).clamp(0, 1)
        return plain / factor * (1 - fast) + plain * fast, 1.0
    assert kind == "yarn"
    _, beta_fast, beta_slow, length, context = numbers

    def pair_of(turns):
        ratio = math.log(context / (turns * 2 * math.pi))
        return columns * ratio / (2 * math.log(theta))

    first = max(math.floor(pair_of(beta_fast)), 0)
    last = min(math.ceil(pair_of(beta_slow)), columns - 1)
    slow = ((pairs - first) / max(last - first, 0.001)).clamp(0, 1)
    return plain / factor * slow + plain * (1 - slow), length


def rotate(x, frequencies, length):
    """x [B, T, H, C]: pairs (i, i + C / 2), as complex numbers."""
    pairs = torch.complex(*x.chunk(2, -1))
    angles = torch.arange(x.shape[1], dtype=torch.float64)[:, None] * frequencies
    turned = pairs * torch.polar(torch.full_like(angles, length), angles)[:, None]
    return torch.cat([turned.real, turned.imag], -1)


def grouped_attention():
    # Causal self attention of `heads` heads of queries that share `kv_heads` heads
    # of keys and values of C columns; q and k turn by position. x [B,T,D].
    # Cases: plain (2,7,12, 4 heads, 2 shared, C 6), one (all heads share one),
    # alone (as many, C 4, biases), long (70 positions, llama3), linear, yarn.
    # Scalings are stored as `scaling` [5] with zeros behind.
    def case(name, sizes, heads, kv_heads, columns, scaling=("none",), biases=False):
        batch, length, width = sizes
        theta = 100.0
        c = Case("grouped_attention", name)
        numbers = list(scaling[1:]) + [0.0] * (6 - len(scaling))
        c.settings(heads=heads, kv_heads=kv_heads, columns=columns, theta=theta)
        c.store("scaling", torch.tensor(numbers, dtype=torch.float64))
        x = c.input("x", c.normal(batch, length, width))

        def linear(name, inputs, outputs):
            scale = 1.5 / math.sqrt(inputs)
            weight = c.input(f"{name}.weight", c.normal(outputs, inputs, scale=scale))
            bias = c.input(f"{name}.bias", c.normal(outputs, scale=0.5)) if biases else None
            return lambda x: F.linear(x, weight, bias)

        parts = []
        turns = rotary_frequencies(columns, theta, scaling)
        for part, count in ("q", heads), ("k", kv_heads), ("v", kv_heads):
            made = linear(f"{part}_proj", width, count * columns)(x)
            made = made.reshape(batch, length, count, columns)
            made = rotate(made, *turns) if part != "v" else made
            made = made.repeat_interleave(heads // count, 2)
            parts.append(made.transpose(1, 2))
        q, k, v = parts
        scores = q @ k.transpose(-1, -2) / math.sqrt(columns)
        hidden = torch.ones(length, length, dtype=torch.bool).triu(1)
        mixed = torch.softmax(scores.masked_fill(hidden, -math.inf), -1) @ v
        same(mixed, F.scaled_dot_product_attention(q, k, v, is_causal=True))
        merged = mixed.transpose(1, 2).reshape(batch, length, heads * columns)
        c.output(linear("o_proj", heads * columns, width)(merged))
        return c

    llama3 = ("llama3", 8.0, 1.0, 4.0, 40.0)
    return together(
        case("plain", (2, 7, 12), 4, 2, 6),
        case("one", (1, 9, 8), 3, 1, 4),
        case("alone", (2, 5, 8), 2, 2, 4, biases=True),
        case("long", (1, 70, 8), 2, 1, 8, llama3),
        case("linear", (1, 12, 8), 2, 1, 8, ("linear", 4.0)),
        case("yarn", (1, 33, 8), 2, 1, 8, ("yarn", 4.0, 8.0, 1.0, 1.25, 40.0)),
    )


# --- Families: losses ------------------------------------------------------------


def cross_entropy():
    # logits [2,5,9], targets [2,5]; y is the SUM over counted targets, `count` their
    # number, dlogits the gradient of y itself (upstream 1). Targets of -100 do not
    # count. Cases: plain, ignore (3 of -100), smoothing (0.1), smoothing_ignore
    # (both), large (logits times 100).
    def case(name, ignored=0, smoothing=0.0, scale=1.0):
        c = Case("cross_entropy", name)
        c.settings(smoothing=smoothing, ignore_index=IGNORED)
        logits = c.input("logits", c.normal(2, 5, 9, scale=2.0 * scale))
        targets = c.integers(9, 2, 5)
        chosen = torch.randperm(10, generator=c.generator)[:ignored]
        targets.view(-1)[chosen] = IGNORED
        c.store("targets", targets)
        loss, count = summed_cross_entropy(logits, targets, smoothing)
        c.settings(count=count)
        c.output(loss, dy=torch.ones_like(loss))
        return c

    return together(
        case("plain"),
        case("ignore", ignored=3),
        case("smoothing", smoothing=0.1),
        case("smoothing_ignore", ignored=3, smoothing=0.1),
        case("large", scale=100.0),
    )


def mse():
    # y = sum((prediction - target)^2), both [4,3]; dprediction its gradient.
    c = Case("mse", "plain")
    prediction = c.input("prediction", c.normal(4, 3))
    target = c.normal(4, 3)
    c.store("target", target)
    y = ((prediction - target) ** 2).sum()
    same(y, F.mse_loss(prediction, target, reduction="sum"))
    c.output(y, dy=torch.ones_like(y))
    return together(c)


# --- Families: optimizers and learning rates -------------------------------------


def optimizers():
    # given/: weight [3,4], bias [4] and six gradients of each, dweight [6,3,4] and
    # dbias [6,4]; dweight[:,2,3] is 0. CASE/weight [6,3,4] and CASE/bias [6,4] are
    # the values after each step. Decay is for the weight only, in every case.
    # Cases (torch.optim; each with its settings): sgd lr .1; momentum: sgd, .9;
    # nesterov: sgd, .9; momentum_decay: sgd, .9, coupled decay .05; adam lr .01,
    # betas (.9,.999), eps 1e-8; adam_decay: adam, coupled decay .05; adamw lr .01,
    # betas (.9,.95), eps 1e-8, decoupled decay .1.
    given = Case("optimizers", "given")
    start = {"weight": given.normal(3, 4), "bias": given.normal(4)}
    gradients = {"weight": given.normal(6, 3, 4), "bias": given.normal(6, 4)}
    gradients["weight"][:, 2, 3] = 0
    for name in start:
        given.store(name, start[name])
        given.store("d" + name, gradients[name])

    def case(name, optimizer, decay, **settings):
        c = Case("optimizers", name)
        parameters = {n: v.clone().requires_grad_() for n, v in start.items()}
        groups = [
            {"params": [parameters["weight"]], "weight_decay": decay},
            {"params": [parameters["bias"]], "weight_decay": 0.0},
        ]
        stepper = optimizer(groups, foreach=False, **settings)
        after = {n: [] for n in parameters}
        for step in range(6):
            for n, parameter in parameters.items():
                parameter.grad = gradients[n][step].clone()
            stepper.step()
            for n, parameter in parameters.items():
                after[n].append(parameter.detach().clone())
        for n, values in after.items():
            c.store(n, torch.stack(values))
        if "betas" in settings:
            beta1, beta2 = settings.pop("betas")
            settings |= {"beta1": beta1, "beta2": beta2}
        nesterov = settings.pop("nesterov", None)
        if nesterov is not None:
            settings["nesterov"] = int(nesterov)
        c.settings(weight_decay=decay, **settings)
        return c

    sgd, adam, adamw = torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW
    heavy = {"lr": 0.1, "momentum": 0.9}
    usual = {"lr": 0.01, "betas": (0.9, 0.999), "eps": 1e-8}
    return together(
        given,
        case("sgd", sgd, 0.0, lr=0.1),
        case("momentum", sgd, 0.0, **heavy),
        case("nesterov", sgd, 0.0, nesterov=True, **heavy),
        case("momentum_decay", sgd, 0.05, **heavy),
        case("adam", adam, 0.0, **usual),
        case("adam_decay", adam, 0.05, **usual),
        case("adamw", adamw, 0.1, lr=0.01, betas=(0.9, 0.95), eps=1e-8),
    )


def learning_rate(step, steps, warmup, lr, least, shape):
    """The rate of a step counted from 0: linear warm-up, then down towards least."""
    if step < warmup:
        return lr * (step + 1) / warmup
    gone = (step - warmup) / (steps - warmup)
    left = 0.5 * (1 + math.cos(math.pi * gone)) if shape == "cosine" else 1 - gone
    return least + (lr - least) * left


def lr():
    # The rates of 20 steps: warm-up over 5 to lr 3e-4, then down towards min 3e-5.
    # Cases: cosine, linear; `lrs` [20] and the settings steps, warmup, lr, min.
    def case(shape):
        c = Case("lr", shape)
        c.settings(steps=20, warmup=5, lr=3e-4, min=3e-5)
        rates = [learning_rate(step, 20, 5, 3e-4, 3e-5, shape) for step in range(20)]
        c.store("lrs", torch.tensor(rates, dtype=torch.float64))
        return c

    return together(case("cosine"), case("linear"))


# --- Families: the whole decoder -------------------------------------------------

VOCAB, CONTEXT, WIDTH, HEADS, BLOCKS = 19, 8, 12, 3, 2
STEPS, ROWS, WARMUP = 10, 6, 3
PEAK, LEAST, DECAY, CLIP = 1e-2, 1e-3, 0.1, 1.0
BETAS, ADAM_EPS, NORM_EPS = (0.9, 0.95), 1e-8, 1e-5


def gpt():
    # GPT-2 with biases everywhere but in the head, which is wte. See `train`.
    return train("gpt", tied=True, biases=True)


def gpt_untied():
    # The same without any bias (layer norms included), its head lm_head.weight.
    return train("gpt_untied", tied=False, biases=False)


# What is frozen, and for the rest of what matches, the first pattern that does: the
# factor of the learning rate, and the weight decay, if not the usual one.
FROZEN = ["wte.*", "wpe.*", "h.0.ln_2.*", "h.0.mlp.*"]
TUNED = [("*.bias", 1.0, 0.05), ("h.0.*", 0.1, None), ("lm_head.weight", 2.0, 0.0)]


def gpt_tuned():
    # With biases and a head of its own, FROZEN (no gradient, not in the norm), and
    # the rest in groups as TUNED says. Without grad0 and logits0.
    return train("gpt_tuned", tied=False, biases=True, tuned=True)


def train(family, tied, biases, tuned=False):
    # Vocabulary 19, context 8, width 12, 3 heads, 2 blocks, pre-LN, learned
    # positions, GELU by tanh, no dropout, layer norm eps 1e-5. GPT-2's names, but
    # linear weights are [out, in]. AdamW: betas (.9,.95), eps 1e-8, decay .1 on
    # tensors of two dimensions; gradients clipped to global norm 1 as
    # clip_grad_norm_ does (times min(1, 1 / (norm + 1e-6))); warm-up over 3 steps to
    # 1e-2, then cosine towards 1e-3 at step 10. All of these are in settings/.
    #
    # ids, targets [10,6,8]: a batch of 6 rows for each step. A seventh of the
    # targets and one whole row (step 3, row 4) are -100; counts [10] is how many
    # count. losses [10] is the mean over the counted targets of the whole batch,
    # grad_norms [10] is before clipping, lrs [10] the rates. init/NAME, final/NAME:
    # weights before and after; grad0/NAME: step 0's gradients before clipping;
    # logits0 [6,8,19]: the initial network on ids[0].
    #
    # Layer norm weights start near 0.6, which brings some gradient norms under 1.
    #
    # The k third of attn.c_attn.bias has a gradient of 0 but for rounding, which
    # Adam turns into steps of any size below lr: only its effect (none) is defined.
    c = Case(family, "init")
    parameters = initial_weights(c, tied, biases)

    ids = c.integers(VOCAB, STEPS, ROWS, CONTEXT)
    targets = (ids + 5) % VOCAB
    targets[c.uniform(STEPS, ROWS, CONTEXT) < 1 / 7] = IGNORED
    targets[3, 4] = IGNORED

    tensors = dict(c.tensors)
    put(tensors, "ids", ids)
    put(tensors, "targets", targets)
    if not tuned:
        put(tensors, "logits0", decoder(parameters, ids[0]))

    groups = tuned_groups(parameters) if tuned else usual_groups(parameters)
    trained = [p for group in groups for p in group["params"]]
    stepper = torch.optim.AdamW(groups, betas=BETAS, eps=ADAM_EPS, foreach=False)
    told = {"losses": [], "grad_norms": [], "lrs": []}
    counts = []
    for step in range(STEPS):
        rate = learning_rate(step, STEPS, WARMUP, PEAK, LEAST, "cosine")
        for group in stepper.param_groups:
            group["lr"] = group.get("factor", 1.0) * rate
        stepper.zero_grad()
        logits = decoder(parameters, ids[step])
        loss, count = summed_cross_entropy(logits, targets[step])
        loss = loss / count
        loss.backward()
        if step == 0 and not tuned:
            for name, parameter in parameters.items():
                put(tensors, f"grad0/{name}", parameter.grad)
        total = torch.nn.utils.clip_grad_norm_(trained, CLIP, foreach=False)
        stepper.step()
        counts.append(count)
        told["losses"].append(loss.item())
        told["grad_norms"].append(total.item())
        told["lrs"].append(rate)

    clipped = [value > CLIP for value in told["grad_norms"]]
    assert any(clipped) and not all(clipped), told["grad_norms"]
    for name, values in told.items():
        put(tensors, name, torch.tensor(values, dtype=torch.float64))
    put(tensors, "counts", torch.tensor(counts))
    for name, parameter in parameters.items():
        put(tensors, f"final/{name}", parameter)

    for name, value in {
        "vocab": VOCAB,
        "context": CONTEXT,
        "width": WIDTH,
        "heads": HEADS,
        "blocks": BLOCKS,
        "norm_eps": NORM_EPS,
        "steps": STEPS,
        "warmup": WARMUP,
        "lr": PEAK,
        "min": LEAST,
        "beta1": BETAS[0],
        "beta2": BETAS[1],
        "eps": ADAM_EPS,
        "weight_decay": DECAY,
        "clip": CLIP,
        "ignore_index": IGNORED,
    }.items():
        put(tensors, f"settings/{name}", value)
    return tensors


def usual_groups(parameters):
    return [
        {
            "params": [p for p in parameters.values() if p.dim() >= 2],
            "weight_decay": DECAY,
        },
        {
            "params": [p for p in parameters.values() if p.dim() < 2],
            "weight_decay": 0.0,
        },
    ]


def tuned_groups(parameters):
    groups = []
    for name, parameter in parameters.items():
        if any(fnmatchcase(name, pattern) for pattern in FROZEN):
            parameter.requires_grad_(False)
            continue
        usual = DECAY if parameter.dim() >= 2 else 0.0
        matching = (group for group in TUNED if fnmatchcase(name, group[0]))
        _, factor, decay = next(matching, (None, 1.0, None))
        decay = usual if decay is None else decay
        groups.append({"params": [parameter], "factor": factor, "weight_decay": decay})
    return groups


def initial_weights(c, tied, biases):
    parameters = {}

    def matrix(name, *shape):
        parameters[name] = c.input(name, c.normal(*shape, scale=0.2))

    def linear(name, rows, columns):
        matrix(f"{name}.weight", rows, columns)
        if biases:
            parameters[f"{name}.bias"] = c.input(
                f"{name}.bias", c.normal(rows, scale=0.1)
            )

    def layer_norm(name):
        parameters[f"{name}.weight"] = c.input(
            f"{name}.weight", c.normal(WIDTH, scale=0.1, mean=0.6)
        )
        if biases:
            parameters[f"{name}.bias"] = c.input(
                f"{name}.bias", c.normal(WIDTH, scale=0.1)
            )

    matrix("wte.weight", VOCAB, WIDTH)
    matrix("wpe.weight", CONTEXT, WIDTH)
    for block in range(BLOCKS):
        layer_norm(f"h.{block}.ln_1")
        linear(f"h.{block}.attn.c_attn", 3 * WIDTH, WIDTH)
        linear(f"h.{block}.attn.c_proj", WIDTH, WIDTH)
        layer_norm(f"h.{block}.ln_2")
        linear(f"h.{block}.mlp.c_fc", 4 * WIDTH, WIDTH)
        linear(f"h.{block}.mlp.c_proj", WIDTH, 4 * WIDTH)
    layer_norm("ln_f")
    if not tied:
        matrix("lm_head.weight", VOCAB, WIDTH)
    return parameters


def decoder(parameters, ids):
    """The logits for ids [rows, length]."""

    def both(name):
        return parameters[f"{name}.weight"], parameters.get(f"{name}.bias")

    wte = parameters["wte.weight"]
    x = wte[ids] + parameters["wpe.weight"][: ids.shape[-1]]
    for block in range(BLOCKS):
        h = f"h.{block}"
        normed = norm(x, *both(f"{h}.ln_1"), NORM_EPS)
        x = x + causal_attention(
            normed, HEADS, *both(f"{h}.attn.c_attn"), *both(f"{h}.attn.c_proj")
        )
        normed = norm(x, *both(f"{h}.ln_2"), NORM_EPS)
        inner = gelu_by_tanh(F.linear(normed, *both(f"{h}.mlp.c_fc")))
        x = x + F.linear(inner, *both(f"{h}.mlp.c_proj"))
    x = norm(x, *both("ln_f"), NORM_EPS)
    return F.linear(x, parameters.get("lm_head.weight", wte))


# --- Writing ---------------------------------------------------------------------

FAMILIES = [
    linear,
    embedding,
    layer_norm,
    activations,
    attention,
    mlp_block,
    gpt_half,
    rms_norm,
    gated_mlp,
    grouped_attention,
    cross_entropy,
    mse,
    optimizers,
    lr,
    gpt,
    gpt_untied,
    gpt_tuned,
]


def main(families=None):
    parser = argparse.ArgumentParser(description="Make the golden files.")
    parser.add_argument(
        "--check", action="store_true", help="compare with the files on disk instead"
    )
    check = parser.parse_args().check

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)

    differing = []
    for family in families or FAMILIES:
        path = HERE / f"{family.__name__}.safetensors"
        made = safetensors.torch.save(family())
        if not check:
            path.write_bytes(made)
            print(f"{path.name}: {len(made)} bytes")
        elif not path.exists() or path.read_bytes() != made:
            differing.append(path.name)
    if differing:
        sys.exit("differ from what this script makes: " + ", ".join(differing))


if __name__ == "__main__":
    main()
