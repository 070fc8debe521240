"""GPT-2 and Llama in PyTorch, in parts: what `torch_train.py` trains unless told otherwise."""


def gpt_block(options):
    """GPT-2's: LayerNorm, one projection for queries, keys and values, GELU by tanh."""
    from torch import nn
    from torch.nn import functional

    width, heads, inner, biases = options.width, options.heads, options.inner, not options.no_biases

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.before_attention = nn.LayerNorm(width, bias=biases)
            self.queries_keys_values = nn.Linear(width, 3 * width, bias=biases)
            self.joined = nn.Linear(width, width, bias=biases)
            self.before_mlp = nn.LayerNorm(width, bias=biases)
            self.widen = nn.Linear(width, inner, bias=biases)
            self.narrow = nn.Linear(inner, width, bias=biases)

        def forward(self, stream):
            rows, length, _ = stream.shape
            mixed = self.queries_keys_values(self.before_attention(stream))
            mixed = mixed.view(rows, length, 3, heads, width // heads).permute(2, 0, 3, 1, 4)
            seen = functional.scaled_dot_product_attention(*mixed.unbind(0), is_causal=True)
            stream = stream + self.joined(seen.transpose(1, 2).reshape(rows, length, width))
            wide = functional.gelu(self.widen(self.before_mlp(stream)), approximate="tanh")
            return stream + self.narrow(wide)

    return Block


def llama_block(options):
    """Llama's: RMSNorm, rotary positions, heads that share keys and values, gated SiLU."""
    import torch
    from torch import nn
    from torch.nn import functional

    width, heads, inner, biases = options.width, options.heads, options.inner, not options.no_biases
    shared, columns = options.kv_heads, options.width // options.heads
    frequencies = 10_000.0 ** (-torch.arange(0, columns, 2) / columns)
    angles = torch.outer(torch.arange(options.context), frequencies)
    cosines, sines = (torch.cat([part, part], -1) for part in (angles.cos(), angles.sin()))

    def turned(x):
        low, high = x.chunk(2, -1)
        length = x.shape[-2]
        return x * cosines[:length] + torch.cat([-high, low], -1) * sines[:length]

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.before_attention = nn.RMSNorm(width, eps=1e-5)
            self.queries = nn.Linear(width, width, bias=biases)
            self.keys = nn.Linear(width, shared * columns, bias=biases)
            self.values = nn.Linear(width, shared * columns, bias=biases)
            self.joined = nn.Linear(width, width, bias=biases)
            self.before_mlp = nn.RMSNorm(width, eps=1e-5)
            self.gate = nn.Linear(width, inner, bias=biases)
            self.widen = nn.Linear(width, inner, bias=biases)
            self.narrow = nn.Linear(inner, width, bias=biases)

        def forward(self, stream):
            rows, length, _ = stream.shape
            normed = self.before_attention(stream)
            parts = [self.queries, self.keys, self.values]
            q, k, v = (
                part(normed).view(rows, length, -1, columns).transpose(1, 2) for part in parts
            )
            seen = functional.scaled_dot_product_attention(
                turned(q), turned(k), v, is_causal=True, enable_gqa=shared != heads
            )
            stream = stream + self.joined(seen.transpose(1, 2).reshape(rows, length, width))
            normed = self.before_mlp(stream)
            return stream + self.narrow(functional.silu(self.gate(normed)) * self.widen(normed))

    return Block


def build(options, blocks, first, last):
    """Some neighbouring blocks, with the embedding before and the head behind where they belong."""
    import torch
    from torch import nn

    width, biases, llama = options.width, not options.no_biases, options.family == "llama"
    block_of = (llama_block if llama else gpt_block)(options)

    class Part(nn.Module):
        def __init__(self):
            super().__init__()
            if first:
                self.tokens = nn.Embedding(options.vocab, width)
                if not llama:
                    self.positions = nn.Embedding(options.context, width)
            self.blocks = nn.ModuleList(block_of() for _ in blocks)
            if last:
                self.norm = nn.RMSNorm(width) if llama else nn.LayerNorm(width, bias=biases)
                self.head = nn.Linear(width, options.vocab, bias=False)
                if options.tied:
                    self.head.weight = self.tokens.weight

        def compute(self, values):
            if first:
                values = self.tokens(values)
                if not llama:
                    values = values + self.positions(torch.arange(values.shape[1]))
            for block in self.blocks:
                values = block(values)
            return self.head(self.norm(values)) if last else values

        def forward(self, values):
            with torch.autocast("cpu", torch.bfloat16, enabled=options.precision == "bf16"):
                return self.compute(values)

    part = Part()

    # Weights follow from the place of a layer alone, so that every mode starts from the same.
    def draw(module, seed):
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in module.named_parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, 0.0, 0.02, generator=generator)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    if last:
        draw(part.head, 2)
    if first:
        draw(part.tokens, 1)
        if not llama:
            draw(part.positions, 3)
    for number, block in zip(blocks, part.blocks):
        draw(block, 10 + number)
    return part


def batches(options):
    """Random tokens: inputs, and what follows each."""
    import torch

    generator = torch.Generator().manual_seed(1)
    for _ in range(options.steps):
        shape = (options.batch_size, options.context + 1)
        tokens = torch.randint(options.vocab, shape, generator=generator)
        yield tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()
