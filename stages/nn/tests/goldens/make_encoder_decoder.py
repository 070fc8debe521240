#!/usr/bin/env python3
"""Makes the golden files of the encoder-decoder transformer and its attention.

    python make_encoder_decoder.py [--check]

The conventions are those of make.py, whose helpers it uses.
"""

import math

import make
import torch
import torch.nn.functional as F
from make import Case, as_f32, norm, put, summed_cross_entropy, together

PADDING = 0


def attention(x, memory, hidden, heads, parameters):
    """Of x [N,T,W] to memory [N,S,M]; hidden [N,S] are padded. Joined weights q | k | v."""
    (q_weight, q_bias), (kv_weight, kv_bias), (proj_weight, proj_bias) = parameters
    rows, length, width = x.shape

    def by_heads(part):
        return part.reshape(rows, -1, heads, width // heads).transpose(1, 2)

    q = by_heads(F.linear(x, q_weight, q_bias))
    k, v = map(by_heads, F.linear(memory, kv_weight, kv_bias).split(width, -1))
    scores = q @ k.transpose(-1, -2) / math.sqrt(width // heads)
    if hidden is not None:
        scores = scores.masked_fill(hidden[:, None, None], -math.inf)
    mixed = torch.softmax(scores, -1) @ v
    y = F.linear(mixed.transpose(1, 2).reshape(rows, length, width), proj_weight, proj_bias)
    nothing = torch.zeros(width, dtype=torch.float64)
    k_weight, v_weight = kv_weight.split(width)
    bias = None if q_bias is None else torch.cat([q_bias, kv_bias])
    theirs, _ = F.multi_head_attention_forward(
        *(tensor.transpose(0, 1) for tensor in (x, memory, memory)),
        width, heads, None, bias, None, None, False, 0.0,
        proj_weight, nothing if proj_bias is None else proj_bias,
        key_padding_mask=hidden, need_weights=False, use_separate_proj_weight=True,
        q_proj_weight=q_weight, k_proj_weight=k_weight, v_proj_weight=v_weight,
    )  # fmt: skip
    make.same(y, theirs.transpose(0, 1))
    return y


def self_attention(x, hidden, heads, joined, proj):
    """`joined` are the rows q | k | v of one projection."""
    width = x.shape[-1]
    weights = joined[0].split([width, 2 * width])
    biases = (None, None) if joined[1] is None else joined[1].split([width, 2 * width])
    return attention(x, x, hidden, heads, [*zip(weights, biases), proj])


def padded(length, lengths):
    """Which of so many positions are beyond each row's length."""
    return torch.arange(length)[None] >= torch.tensor(lengths)[:, None]


def multi_head_attention():
    # y = proj(softmax(q k^T / sqrt(W / H)) v) for `heads` heads. Cases self*: q, k, v are
    # x c_attn^T, rows q | k | v. Cases cross*: q is x q_attn^T; k, v are memory c_attn^T,
    # rows k | v. Positions of what is attended to whose `ids` end in 0 are not seen.
    # Cases: self (2,7,12, 3 heads), self_padded (3,9,8, 2 heads; 9, 4 and 1 seen),
    # self_long (1,70,16, 2 heads, no biases), cross (2,5,12 to 7,10, 3 heads),
    # cross_padded (3,6,8 to 9,8, 2 heads; 5, 9 and 1 seen), cross_long (1,40,16 to
    # 90,16, 2 heads, no biases). The k part of dc_attn.bias is 0 but for rounding.
    def case(name, sizes, heads, memory=None, lengths=None, biases=True):
        c = Case("multi_head_attention", name)
        c.settings(heads=heads)
        rows, length, width = sizes
        x = c.input("x", c.normal(rows, length, width))
        to, keys = x, length
        if memory is not None:
            keys = memory[0]
            to = c.input("memory", c.normal(rows, *memory))

        def linear(name, outputs, inputs):
            scale = 1.5 / math.sqrt(inputs)
            weight = c.input(f"{name}.weight", c.normal(outputs, inputs, scale=scale))
            bias = c.input(f"{name}.bias", c.normal(outputs, scale=0.5)) if biases else None
            return weight, bias

        hidden = None
        if lengths is not None:
            hidden = padded(keys, lengths)
            c.store("ids", (c.integers(10, rows, keys) + 1).masked_fill(hidden, PADDING))
        if memory is None:
            parts = linear("c_attn", 3 * width, width), linear("c_proj", width, width)
            c.output(self_attention(x, hidden, heads, *parts))
        else:
            parts = [
                linear("q_attn", width, width),
                linear("c_attn", 2 * width, memory[1]),
                linear("c_proj", width, width),
            ]
            c.output(attention(x, to, hidden, heads, parts))
        return c

    return together(
        case("self", (2, 7, 12), 3),
        case("self_padded", (3, 9, 8), 2, lengths=[9, 4, 1]),
        case("self_long", (1, 70, 16), 2, biases=False),
        case("cross", (2, 5, 12), 3, (7, 10)),
        case("cross_padded", (3, 6, 8), 2, (9, 8), [5, 9, 1]),
        case("cross_long", (1, 40, 16), 2, (90, 16), biases=False),
    )


# --- The whole encoder-decoder -----------------------------------------------------

VOCAB, SOURCE, CONTEXT, WIDTH, HEADS, BLOCKS = 19, 9, 8, 12, 3, 2
STEPS, ROWS = make.STEPS, make.ROWS


def encoder_decoder():
    # Tied (one table for sources, targets and the head), with biases. See `train`.
    return train("encoder_decoder", tied=True, biases=True)


def encoder_decoder_untied():
    # Three tables, no biases (layer norms included).
    return train("encoder_decoder_untied", tied=False, biases=False)


def train(family, tied, biases):
    # As `train` of make.py trains a decoder: vocabulary 19, sources of up to 9 and
    # targets of 8 tokens, width 12, 3 heads, 2 blocks each, pre-LN, learned positions,
    # ReLU, no dropout. sources [10,6,9] end in 0, which is not seen; ids, targets
    # [10,6,8], of which some targets are -100. The rest as there: losses, grad_norms,
    # logits0, init/NAME, final/NAME.
    #
    # The k parts of c_attn.bias have a gradient of 0 but for rounding.
    c = Case(family, "init")
    parameters = initial_weights(c, tied, biases)
    sources = c.integers(VOCAB - 1, STEPS, ROWS, SOURCE) + 1
    lengths = c.integers(SOURCE, STEPS, ROWS) + 1
    hidden = torch.arange(SOURCE) >= lengths[..., None]
    sources[hidden] = PADDING
    ids = c.integers(VOCAB, STEPS, ROWS, CONTEXT)
    targets = (sources[..., :CONTEXT] + ids) % VOCAB
    targets[c.uniform(STEPS, ROWS, CONTEXT) < 1 / 7] = make.IGNORED

    tensors = dict(c.tensors)
    put(tensors, "sources", sources)
    put(tensors, "ids", ids)
    put(tensors, "targets", targets)
    put(tensors, "logits0", network(parameters, sources[0], hidden[0], ids[0]))
    groups = make.usual_groups(parameters)
    stepper = torch.optim.AdamW(groups, betas=make.BETAS, eps=make.ADAM_EPS, foreach=False)
    told = {"losses": [], "grad_norms": []}
    for step in range(STEPS):
        rate = make.learning_rate(
            step, STEPS, make.WARMUP, make.PEAK, make.LEAST, "cosine"
        )
        for group in stepper.param_groups:
            group["lr"] = rate
        stepper.zero_grad()
        logits = network(parameters, sources[step], hidden[step], ids[step])
        loss, count = summed_cross_entropy(logits, targets[step])
        loss = loss / count
        loss.backward()
        total = torch.nn.utils.clip_grad_norm_(
            list(parameters.values()), make.CLIP, foreach=False
        )
        stepper.step()
        told["losses"].append(loss.item())
        told["grad_norms"].append(total.item())
    for name, values in told.items():
        put(tensors, name, torch.tensor(values, dtype=torch.float64))
    for name, parameter in parameters.items():
        put(tensors, f"final/{name}", parameter)
    return tensors


def initial_weights(c, tied, biases):
    parameters = {}

    def keep(name, value):
        # Under "init/" the names are those of the parameters.
        parameters[name] = c.input(name, as_f32(value))

    def linear(name, rows, columns):
        keep(f"{name}.weight", c.normal(rows, columns, scale=0.2))
        if biases:
            keep(f"{name}.bias", c.normal(rows, scale=0.1))

    def layer_norm(name):
        keep(f"{name}.weight", c.normal(WIDTH, scale=0.1, mean=0.6))
        if biases:
            keep(f"{name}.bias", c.normal(WIDTH, scale=0.1))

    def joined(name, times):
        linear(f"{name}.c_attn", times * WIDTH, WIDTH)
        linear(f"{name}.c_proj", WIDTH, WIDTH)

    keep("encoder.wte.weight", c.normal(VOCAB, WIDTH, scale=0.2))
    keep("encoder.wpe.weight", c.normal(SOURCE, WIDTH, scale=0.2))
    if not tied:
        keep("decoder.wte.weight", c.normal(VOCAB, WIDTH, scale=0.2))
        keep("lm_head.weight", c.normal(VOCAB, WIDTH, scale=0.2))
    keep("decoder.wpe.weight", c.normal(CONTEXT, WIDTH, scale=0.2))
    for side in "encoder", "decoder":
        for block in range(BLOCKS):
            h = f"{side}.h.{block}"
            layer_norm(f"{h}.ln_1")
            joined(f"{h}.attn", 3)
            if side == "decoder":
                layer_norm(f"{h}.ln_cross_attn")
                linear(f"{h}.crossattention.q_attn", WIDTH, WIDTH)
                joined(f"{h}.crossattention", 2)
            layer_norm(f"{h}.ln_2")
            linear(f"{h}.mlp.c_fc", 4 * WIDTH, WIDTH)
            linear(f"{h}.mlp.c_proj", WIDTH, 4 * WIDTH)
        layer_norm(f"{side}.ln_f")
    return parameters


def network(parameters, sources, hidden, ids):
    """The logits for ids [rows, length], to sources of which some positions are hidden."""

    def both(name):
        return parameters[f"{name}.weight"], parameters.get(f"{name}.bias")

    def embedded(side, ids):
        table = parameters.get(f"{side}.wte.weight", parameters["encoder.wte.weight"])
        return table[ids] + parameters[f"{side}.wpe.weight"][: ids.shape[-1]]

    def normed(x, name):
        return norm(x, *both(name), make.NORM_EPS)

    def mlp(x, h):
        inner = F.relu(F.linear(normed(x, f"{h}.ln_2"), *both(f"{h}.mlp.c_fc")))
        return x + F.linear(inner, *both(f"{h}.mlp.c_proj"))

    x = embedded("encoder", sources)
    for block in range(BLOCKS):
        h = f"encoder.h.{block}"
        parts = both(f"{h}.attn.c_attn"), both(f"{h}.attn.c_proj")
        x = x + self_attention(normed(x, f"{h}.ln_1"), hidden, HEADS, *parts)
        x = mlp(x, h)
    memory = normed(x, "encoder.ln_f")
    x = embedded("decoder", ids)
    for block in range(BLOCKS):
        h = f"decoder.h.{block}"
        parts = *both(f"{h}.attn.c_attn"), *both(f"{h}.attn.c_proj")
        x = x + make.causal_attention(normed(x, f"{h}.ln_1"), HEADS, *parts)
        parts = [both(f"{h}.crossattention.{n}") for n in ("q_attn", "c_attn", "c_proj")]
        x = x + attention(normed(x, f"{h}.ln_cross_attn"), memory, hidden, HEADS, parts)
        x = mlp(x, h)
    head = parameters.get("lm_head.weight", parameters["encoder.wte.weight"])
    return F.linear(normed(x, "decoder.ln_f"), head)


if __name__ == "__main__":
    make.FAMILIES = [multi_head_attention, encoder_decoder, encoder_decoder_untied]
    make.main()
