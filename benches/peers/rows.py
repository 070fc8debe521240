"""What is compared: settings, the commands that train them, and the rows of the table."""

import os
from dataclasses import dataclass

HERE = os.path.dirname(os.path.abspath(__file__))


@dataclass(frozen=True)
class Setting:
    """A decoder and what a step of it goes through."""

    layers: int
    width: int
    heads: int
    context: int
    vocab: int
    batch: int
    micro: int
    biases: bool = True
    tied: bool = False
    # Heads of keys and values, and the width within the MLP: of a Llama.
    kv_heads: int = 0
    inner: int = 0
    unit: str = "tokens/s"
    program: str = "brigade"

    @property
    def tokens(self):
        """Tokens of a step."""
        return self.batch * self.context

    def options(self):
        """The options whose names are the same everywhere."""
        return [
            *("--layers", str(self.layers), "--width", str(self.width)),
            *("--heads", str(self.heads), "--context", str(self.context)),
            *("--batch-size", str(self.batch), "--micro-batch-size", str(self.micro)),
            *(self.llama() if self.kv_heads else []),
        ]

    def llama(self):
        """What makes it a Llama."""
        inner = ("--inner", str(self.inner))
        return [*("--family", "llama", "--kv-heads", str(self.kv_heads)), *inner]


@dataclass(frozen=True)
class Images:
    """ResNet-18 and a step of it: a sample is one image of 32 x 32."""

    batch: int
    micro: int
    # Residual blocks, which PyTorch's pipelines are split by.
    layers: int = 8
    unit: str = "images/s"
    tied: bool = False
    biases: bool = True
    kv_heads: int = 1
    program: str = "resnet"

    @property
    def tokens(self):
        """Images of a step."""
        return self.batch

    def options(self):
        return ["--batch-size", str(self.batch), "--micro-batch-size", str(self.micro)]


SETTINGS = {
    "S": Setting(layers=8, width=256, heads=4, context=128, vocab=512, batch=32, micro=4),
    "M": Setting(layers=8, width=512, heads=8, context=256, vocab=8192, batch=16, micro=2),
    # S as a Llama with as many parameters in a block: two heads of queries share one of keys.
    "llama": Setting(
        layers=8,
        width=256,
        heads=4,
        context=128,
        vocab=512,
        batch=32,
        micro=4,
        biases=False,
        kv_heads=2,
        inner=768,
    ),
    # nanoGPT's settings for a processor, of its README: one micro-batch, a tied head.
    "nanogpt": Setting(
        layers=4,
        width=128,
        heads=4,
        context=64,
        vocab=65,
        batch=12,
        micro=12,
        biases=False,
        tied=True,
    ),
    "resnet18": Images(batch=64, micro=8),
}

SCHEDULES = ["1f1b", "zb-h1", "zb-v", "dualpipe-v"]


@dataclass(frozen=True)
class Entrant:
    """A way to train, by who does it and how."""

    side: str
    how: str
    cores: int
    command: tuple


@dataclass(frozen=True)
class Row:
    """Who is compared with whom; of several on one side the best in a trial is taken."""

    title: str
    ours: list
    theirs: list


class Commands:
    """The commands of a setting."""

    def __init__(self, setting, programs, cuts=None):
        self.setting, self.programs, self.cuts = setting, programs, cuts

    def brigade(self, how, precision, nodes=1, threads=1, schedule=None):
        """Brigade on so many nodes of so many threads."""
        one = self.setting
        if isinstance(one, Images):
            return self.resnet(how, precision, nodes, threads, schedule)
        command = [self.programs["brigade"], "train", "--synthetic-vocab", str(one.vocab)]
        command += [*one.options(), "--clip", "0", "--eval-every", "0", "--trace-steps", "0"]
        command += ["--json", "--nodes", str(nodes), "--threads-per-node", str(threads)]
        command += ["--biases"] if one.biases else []
        command += ["--tied"] if one.tied else []
        command += ["--precision", "bf16"] if precision == "bf16" else []
        command += ["--schedule", schedule] if schedule else []
        command += ["--cuts", self.cuts] if self.cuts and nodes > 1 else []
        return Entrant("Brigade", how, nodes * threads, tuple(command))

    def resnet(self, how, precision, nodes, threads, schedule):
        """The example of that name: the planner chooses its cuts."""
        command = [self.programs["resnet"], *self.setting.options(), "--json"]
        command += ["--nodes", str(nodes), "--threads-per-node", str(threads)]
        command += ["--bf16"] if precision == "bf16" else []
        command += ["--schedule", schedule] if schedule else []
        return Entrant("Brigade", how, nodes * threads, tuple(command))

    def torch(self, how, precision, mode, threads=1, split=None, more=()):
        """PyTorch in one of the modes of `torch_train.py`."""
        script = os.path.join(HERE, "torch_train.py")
        command = [self.programs["python"], script, "--mode", mode, "--precision", precision]
        command += [*self.shape(), "--threads", str(threads)]
        command += ["--no-biases"] if not self.setting.biases else []
        command += ["--tied"] if self.setting.tied else []
        command += ["--split", split] if split else []
        command += more
        cores = threads if mode == "single" else 2
        return Entrant("PyTorch", how, cores, tuple(command))

    def torch_single(self, precision, threads=1):
        """PyTorch in one process; with images, in both orders of an image in memory."""
        one = [self.torch("one process", precision, "single", threads)]
        if isinstance(self.setting, Images):
            more = ("--channels-last",)
            one += [self.torch("channels last", precision, "single", threads, more=more)]
        return one

    def shape(self):
        if isinstance(self.setting, Images):
            return ["--family", "resnet18", *self.setting.options()]
        return [*self.setting.options(), "--vocab", str(self.setting.vocab)]

    def other(self, name):
        """A framework of the folder `rust`, told that it has one core: candle takes all."""
        command = ("env", "RAYON_NUM_THREADS=1", self.programs[name], *self.shape())
        return Entrant(name, "one thread", 1, command)

    def pipelines(self, precision, schedules):
        """Brigade's pipelines over two nodes."""
        if isinstance(self.setting, Images):
            # The planner takes the fastest that it knows.
            return [self.brigade("planned", precision, 2, 1)]
        return [self.brigade(name, precision, 2, 1, name) for name in schedules]

    def torch_pipelines(self, precision):
        """PyTorch's, with an even cut and with one that allows for the head."""
        half = self.setting.layers // 2
        rest = self.setting.layers - half
        modes = ["1f1b", "gpipe", "interleaved", "zbv"]
        evenly = [self.torch(mode, precision, mode) for mode in modes]
        if isinstance(self.setting, Images):
            return evenly
        split = f"{rest + 1},{half - 1}"
        return [*evenly, self.torch(f"1f1b {split}", precision, "1f1b", split=split)]

    def rows(self, schedules):
        """All rows of this setting, by name."""
        rows = {}
        for precision in ("f32", "bf16"):
            suffix = "" if precision == "f32" else "-bf16"
            rows["one-core" + suffix] = Row(
                f"one core, {precision}",
                [self.brigade("one node", precision)],
                self.torch_single(precision),
            )
            rows["two-cores" + suffix] = Row(
                f"two threads of one process, {precision}",
                [self.brigade("one node", precision, 1, 2)],
                self.torch_single(precision, 2),
            )
            if self.setting.batch == self.setting.micro:
                continue
            rows["pipeline" + suffix] = Row(
                f"pipeline over two, {precision}",
                self.pipelines(precision, schedules),
                self.torch_pipelines(precision),
            )
            rows["data-parallel" + suffix] = Row(
                f"pipeline against data parallel, {precision}",
                self.pipelines(precision, schedules),
                [self.torch("data parallel", precision, "data-parallel")],
            )
        for name in ("burn", "candle"):
            # Their programs have biases and a head of its own.
            plain = self.setting.biases and not self.setting.tied and not self.setting.kv_heads
            if name in self.programs and plain:
                ours = [self.brigade("one node", "f32")]
                rows[name] = Row(f"one core against {name}, f32", ours, [self.other(name)])
        return rows
