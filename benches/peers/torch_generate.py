#!/usr/bin/env python3
"""Generates with PyTorch as `brigade generate` does, and says how fast.

A decoder like GPT-2's or Llama's with random weights, in float32, keys and values in a cache that is
allocated once; the likeliest token is taken. Plain PyTorch: without the layers of transformers in
between it is faster than that. Prints one JSON object with `prompt_tokens_per_s` (the prompt in one
piece, up to its first token) and `tokens_per_s` (every token after that), the medians of --rounds,
as `brigade generate --json` does.
"""

import argparse
import json
import os
import statistics
import time


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--family", choices=["gpt2", "llama"], default="gpt2")
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--key-value-heads", type=int, help="llama: as many as heads unless given")
    parser.add_argument("--inner", type=int, help="4 widths, or for llama 8/3, unless given")
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--vocab", type=int, default=256)
    parser.add_argument("--prompt", type=int, default=128, help="tokens of the prompt")
    parser.add_argument("--tokens", type=int, default=128, help="tokens to generate")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    options.key_value_heads = options.key_value_heads or options.heads
    if options.width % options.heads or options.heads % options.key_value_heads:
        parser.error("--heads must divide --width, and --key-value-heads must divide --heads")
    if options.family == "gpt2":
        options.key_value_heads = options.heads
    if options.prompt + options.tokens > options.context:
        parser.error("the prompt and what is generated must fit into --context")
    whole = 4 * options.width if options.family == "gpt2" else 8 * options.width // 3
    options.inner = options.inner or whole
    return options


def build(options):
    """The network as a function of new tokens and of how many were there before."""
    import torch
    from torch import nn
    from torch.nn import functional

    width, heads, groups = options.width, options.heads, options.key_value_heads
    columns = width // heads
    llama = options.family == "llama"

    def norm():
        return nn.RMSNorm(width, eps=1e-5) if llama else nn.LayerNorm(width)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.before_attention, self.before_mlp = norm(), norm()
            self.mixed = nn.Linear(width, (heads + 2 * groups) * columns, bias=not llama)
            self.joined = nn.Linear(width, width, bias=not llama)
            self.widen = nn.Linear(width, (2 if llama else 1) * options.inner, bias=not llama)
            self.narrow = nn.Linear(options.inner, width, bias=not llama)
            room = (2, 1, groups, options.context, columns)
            self.register_buffer("cache", torch.zeros(room), persistent=False)

        def forward(self, stream, before, turn):
            length = stream.shape[1]
            after = before + length
            mixed = self.mixed(self.before_attention(stream))
            mixed = mixed.view(1, length, heads + 2 * groups, columns).transpose(1, 2)
            queries, new = mixed[:, :heads], mixed[:, heads:]
            keys, values = new[:, :groups], new[:, groups:]
            if turn is not None:
                queries, keys = turned(queries, turn), turned(keys, turn)
            self.cache[0, :, :, before:after] = keys
            self.cache[1, :, :, before:after] = values
            seen = functional.scaled_dot_product_attention(
                queries,
                self.cache[0, :, :, :after],
                self.cache[1, :, :, :after],
                is_causal=length > 1,
                enable_gqa=groups < heads,
            )
            stream = stream + self.joined(seen.transpose(1, 2).reshape(1, length, width))
            wide = self.widen(self.before_mlp(stream))
            if llama:
                gate, up = wide.chunk(2, -1)
                wide = functional.silu(gate) * up
            else:
                wide = functional.gelu(wide, approximate="tanh")
            return stream + self.narrow(wide)

    def turned(parts, turn):
        cosines, sines = turn
        low, high = parts.chunk(2, -1)
        return parts * cosines + torch.cat((-high, low), -1) * sines

    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.tokens = nn.Embedding(options.vocab, width)
            if not llama:
                self.positions = nn.Embedding(options.context, width)
            self.blocks = nn.ModuleList(Block() for _ in range(options.layers))
            self.norm = norm()
            self.head = nn.Linear(width, options.vocab, bias=False)
            turns = 10000.0 ** (-torch.arange(0, columns, 2) / columns)
            angles = torch.outer(torch.arange(options.context), turns).repeat(1, 2)
            self.register_buffer("cosines", angles.cos(), persistent=False)
            self.register_buffer("sines", angles.sin(), persistent=False)

        def forward(self, tokens, before):
            after = before + tokens.shape[1]
            stream, turn = self.tokens(tokens), None
            if llama:
                turn = (self.cosines[before:after], self.sines[before:after])
            else:
                stream = stream + self.positions.weight[before:after]
            for block in self.blocks:
                stream = block(stream, before, turn)
            # Only the last position says what comes next.
            return self.head(self.norm(stream[:, -1]))

    torch.manual_seed(1)
    return Decoder().eval()


def main():
    options = arguments()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    import torch

    torch.set_num_threads(options.threads)
    network = build(options)
    prompt = torch.randint(options.vocab, (1, options.prompt))

    def once():
        started = time.perf_counter()
        next_token = network(prompt, 0).argmax(-1, keepdim=True)
        first = time.perf_counter()
        made = [int(next_token)]
        for before in range(options.prompt, options.prompt + options.tokens - 1):
            next_token = network(next_token, before).argmax(-1, keepdim=True)
            made.append(int(next_token))
        ended = time.perf_counter()
        rate = (options.tokens - 1) / (ended - first) if options.tokens > 1 else None
        return options.prompt / (first - started), rate, made

    with torch.inference_mode():
        once()
        rounds = [once() for _ in range(options.rounds)]
    rates = [rate for _, rate, _ in rounds if rate is not None]
    figures = {
        "program": "torch",
        "family": options.family,
        "torch": torch.__version__,
        "threads": options.threads,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "prompt_tokens": options.prompt,
        "prompt_tokens_per_s": statistics.median(rate for rate, _, _ in rounds),
        "tokens_per_s": statistics.median(rates) if rates else None,
        "tokens": rounds[-1][2],
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
