#!/usr/bin/env python3
"""Trains a network with PyTorch as Brigade trains one, and says how long steps took.

The network is a decoder as of `brigade train`, or ResNet-18 as of the example `resnet`. Prints what
`brigade train --json` prints: one JSON object a step with `step_ms`, and at the end
{"summary": ...}. With --mode products it multiplies matrices instead, one object a shape.

Ranks are processes of their own, started here, each on one of the cores that this program may use.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

import torch_decoder
import torch_resnet

PIPELINES = ["gpipe", "1f1b", "interleaved", "zbv"]
RANKS = 2
MODES = ["single", "data-parallel", *PIPELINES, "products"]
# Inputs and outputs of the linear layers of a width; rows are those of a micro-batch.
LINEARS = {"qkv": (1, 3), "proj": (1, 1), "fc": (1, 4), "fc_proj": (4, 1), "head": (1, None)}

# Sides of square products.
SQUARES = [64, 512]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--mode", choices=MODES, default="single")
    parser.add_argument("--family", choices=["gpt", "llama", "resnet18"], default="gpt")
    parser.add_argument("--channels-last", action="store_true", help="how ResNet-18 has images")
    parser.add_argument("--kv-heads", type=int, help="of a Llama (as many as --heads)")
    parser.add_argument("--inner", type=int, help="width within the MLP (4 times --width)")
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--context", type=int, default=128)
    parser.add_argument("--vocab", type=int, default=512)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--micro-batch-size", type=int, default=4)
    parser.add_argument("--no-biases", action="store_true", help="linear layers and norms without")
    parser.add_argument("--tied", action="store_true", help="the head is the token table")
    parser.add_argument("--precision", choices=["f32", "bf16"], default="f32")
    parser.add_argument("--threads", type=int, default=1, help="of a process")
    parser.add_argument("--split", help="blocks of every stage, as 5,3 (as even as can be)")
    parser.add_argument("--steps", type=int, default=13)
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--meet", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.width % options.heads:
        parser.error(f"--heads {options.heads} cannot share a width of {options.width}")
    options.kv_heads = options.kv_heads or options.heads
    options.inner = options.inner or 4 * options.width
    if options.family == "resnet18":
        # A sample is one image.
        options.layers, options.context = torch_resnet.BLOCKS, 1
    if options.batch_size % options.micro_batch_size:
        parser.error("--micro-batch-size must divide --batch-size")
    options.micro_batches = options.batch_size // options.micro_batch_size
    if options.mode == "data-parallel" and options.micro_batches % RANKS:
        parser.error(f"{options.micro_batches} micro-batches cannot be shared by {RANKS} ranks")
    if options.tied and options.mode not in ("single", "data-parallel"):
        parser.error("a tied head needs all layers in one process")
    if options.split:
        options.split = [int(part) for part in options.split.split(",")]
        stages = stage_count(options.mode)
        if len(options.split) != stages or sum(options.split) != options.layers:
            parser.error(f"--split needs {stages} numbers that add up to {options.layers}")
    return options


def stage_count(mode):
    return {"gpipe": RANKS, "1f1b": RANKS}.get(mode, 2 * RANKS)


def peak_bytes():
    """The most memory that this process ever had resident."""
    with open("/proc/self/status", encoding="ascii") as status:
        line = next(line for line in status if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def network(options):
    """The module that has its parts and its data."""
    return torch_resnet if options.family == "resnet18" else torch_decoder


def loss_of(logits, targets):
    from torch.nn import functional

    return functional.cross_entropy(logits.flatten(0, -2).float(), targets.flatten())


def adamw(modules):
    import torch

    every = [parameter for module in modules for parameter in module.parameters()]
    groups = [
        {"params": [one for one in every if one.dim() >= 2], "weight_decay": 0.1},
        {"params": [one for one in every if one.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99), fused=True)


def single(options):
    model = network(options).build(options, range(options.layers), True, True)
    optimizer = adamw([model])
    micro = options.micro_batches

    def step(inputs, targets):
        total = 0.0
        for rows, wanted in zip(inputs.chunk(micro), targets.chunk(micro)):
            loss = loss_of(model(rows), wanted) / micro
            loss.backward()
            total += loss.item()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return total

    return step


def data_parallel(options):
    from torch.nn.parallel import DistributedDataParallel

    whole = network(options).build(options, range(options.layers), True, True)
    model = DistributedDataParallel(whole, gradient_as_bucket_view=True)
    optimizer = adamw([whole])
    own = options.micro_batches // RANKS

    def step(inputs, targets):
        inputs, targets = (one.chunk(RANKS)[options.rank] for one in (inputs, targets))
        total = 0.0
        for number, (rows, wanted) in enumerate(zip(inputs.chunk(own), targets.chunk(own))):
            model.require_backward_grad_sync = number == own - 1
            loss = loss_of(model(rows), wanted) / own
            loss.backward()
            total += loss.item()
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
        return total / RANKS

    return step


def pipeline(options):
    import torch
    from torch.distributed import pipelining
    from torch.distributed.pipelining import schedules

    count, rank = stage_count(options.mode), options.rank
    even = [(options.layers + count - 1 - stage) // count for stage in range(count)]
    split = options.split or even
    starts = [sum(split[:stage]) for stage in range(count)]
    mine = {
        "interleaved": range(rank, count, RANKS),
        "zbv": [rank, count - 1 - rank],
    }.get(options.mode, [rank])
    modules, stages = [], []
    for stage in mine:
        blocks = range(starts[stage], starts[stage] + split[stage])
        modules.append(network(options).build(options, blocks, stage == 0, stage == count - 1))
        device = torch.device("cpu")
        stages.append(pipelining.PipelineStage(modules[-1], stage, count, device))
    kind = {
        "gpipe": schedules.ScheduleGPipe,
        "1f1b": schedules.Schedule1F1B,
        "interleaved": schedules.ScheduleInterleaved1F1B,
        "zbv": schedules.ScheduleZBVZeroBubble,
    }[options.mode]
    several = options.mode in ("interleaved", "zbv")
    schedule = kind(stages if several else stages[0], options.micro_batches, loss_fn=loss_of)
    optimizer = adamw(modules)
    first, last = 0 in mine, count - 1 in mine

    def step(inputs, targets):
        losses = []
        given = {"target": targets, "losses": losses} if last else {}
        schedule.step(*([inputs] if first else []), **given)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return sum(loss.item() for loss in losses) / options.micro_batches

    return step


def say(**what):
    print(json.dumps(what), flush=True)


def train(options):
    """One process of a run: the only one, or a rank."""
    cores = sorted(os.sched_getaffinity(0))
    if options.rank is not None:
        os.sched_setaffinity(0, {cores[options.rank % len(cores)]})
    import torch

    torch.set_num_threads(options.threads)
    imported = peak_bytes()
    alone, dist = options.rank is None, torch.distributed
    if not alone:
        rank = {"rank": options.rank, "world_size": RANKS}
        dist.init_process_group("gloo", init_method=f"file://{options.meet}", **rank)
    make = {"single": single, "data-parallel": data_parallel}.get(options.mode, pipeline)
    step, took, loss = make(options), [], 0.0
    for number, (inputs, targets) in enumerate(network(options).batches(options)):
        if not alone:
            dist.barrier()
        started = time.perf_counter()
        loss = step(inputs, targets)
        if not alone:
            dist.barrier()
        took.append(time.perf_counter() - started)
        if not options.rank:
            say(step=number, step_ms=1e3 * took[-1])
    used = [(peak_bytes() - imported, loss)]
    if not alone:
        used = [None] * RANKS
        dist.all_gather_object(used, (peak_bytes() - imported, loss))
    if not options.rank:
        tokens = options.batch_size * options.context
        say(
            summary={
                "steps": options.steps,
                "tokens_per_s": tokens * len(took) / sum(took),
                "final_loss": sum(loss for _, loss in used),
                "peak_bytes": [used for used, _ in used],
                "import_bytes": imported,
                "torch": torch.__version__,
            }
        )
    if not alone:
        # All that was wanted is said; threads of gloo that still run now and then abort an exit.
        dist.barrier()
        sys.stdout.flush()
        os._exit(0)


def products(options):
    """Products of the linear layers' shapes: NT is F's, NN is I's, TN is W's."""
    import torch

    torch.set_num_threads(options.threads)
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[options.precision]
    rows = options.micro_batch_size * options.context
    shapes = {f"{side} proj": (side, side, side) for side in SQUARES}
    for name, (inputs, outputs) in LINEARS.items():
        outputs = outputs * options.width if outputs else options.vocab
        shapes[name] = (rows, inputs * options.width, outputs)
    for name, (rows, inputs, outputs) in shapes.items():
        x, dy, weight = (
            torch.randn(shape).to(dtype)
            for shape in [(rows, inputs), (rows, outputs), (outputs, inputs)]
        )
        ways = {"F": (x, weight.t()), "I": (dy, weight), "W": (dy.t(), x)}
        for part, (left, right) in ways.items():
            out = torch.empty(left.shape[0], right.shape[1], dtype=dtype)
            seconds = []
            begun = time.perf_counter()
            while len(seconds) < 20 or time.perf_counter() - begun < 0.3:
                started = time.perf_counter()
                torch.mm(left, right, out=out)
                seconds.append(time.perf_counter() - started)
            middle = sorted(seconds)[len(seconds) // 2]
            say(product=f"{name} {part}", gflops=2e-9 * rows * inputs * outputs / middle)


def ranks(options):
    """Starts the ranks and waits; when one fails, the others end."""
    with tempfile.TemporaryDirectory() as folder:
        own = [sys.executable, *sys.argv, "--meet", os.path.join(folder, "meet")]
        running = [subprocess.Popen([*own, "--rank", str(rank)]) for rank in range(RANKS)]
        while any(rank.poll() is None for rank in running):
            if any(rank.poll() for rank in running):
                for rank in running:
                    rank.kill()
            time.sleep(0.05)
        return max(abs(rank.wait()) for rank in running)


def main():
    options = arguments()
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(options.threads)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    if options.mode in ("single", "products"):
        cores = sorted(os.sched_getaffinity(0))[: options.threads]
        os.environ["OMP_PROC_BIND"] = "true"
        os.environ["OMP_PLACES"] = ",".join(f"{{{core}}}" for core in cores)
    elif options.rank is None:
        return ranks(options)
    (products if options.mode == "products" else train)(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
