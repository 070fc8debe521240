#!/usr/bin/env python3
"""PyTorch's schedules as files, and PyTorch's opinion of ours.

    python torch_schedules.py generate          writes torch_schedules/*.csv beside this script
    python torch_schedules.py check FOLDER      loads, validates and simulates FOLDER/*.csv

The files here were written by PyTorch 2.15.0. The test `tests/schedule_csv.rs` leaves what Brigade
exports in target/tmp/schedule_csv. A file's name ends in `.compute_only.csv` or
`.compute_comms.csv`.
"""

import sys
from collections import defaultdict
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import torch
from torch.distributed.pipelining import schedules as pp

HERE = Path(__file__).parent / "torch_schedules"
COMPUTE_ONLY, COMPUTE_COMMS = "compute_only", "compute_comms"


def stages(ranks, chunks, v_shaped):
    """As much of the first rank's stages as a schedule looks at."""
    stage = dict(num_stages=ranks * chunks, group_size=ranks, group_rank=0, has_backward=True)
    indices = [0, ranks * chunks - 1] if v_shaped else [i * ranks for i in range(chunks)]
    module = torch.nn.Identity()
    return [SimpleNamespace(stage_index=i, submod=module, **stage) for i in indices]


def runtime(ranks, stage_count, micro_batches):
    """A schedule without an order of its own, for a file's."""
    stage = SimpleNamespace(
        num_stages=stage_count, group_size=ranks, group_rank=0, has_backward=True
    )
    return pp._PipelineScheduleRuntime([stage], micro_batches, loss_fn=lambda *_: None)


def single(cls, ranks, micro_batches):
    """The order that PyTorch prints for a schedule of one stage a rank: it writes no file of it."""
    asked = SimpleNamespace(_num_stages=ranks, _n_microbatches=micro_batches)
    order = cls._get_pipeline_order(asked)
    reductions = (pp.REDUCE_GRAD, pp.WAIT_REDUCE_GRAD)
    schedule = runtime(ranks, ranks, micro_batches)
    for rank, row in order.items():
        row = [a for a in row if a is None or a.computation_type not in reductions]
        first = next(a.microbatch_index for a in row if a is not None)
        # For 1F1B it prints the last rank's forwards counted from 1, and runs them from 0.
        for at, action in enumerate(row):
            if action is not None and action.computation_type == pp.F:
                row[at] = action._replace(microbatch_index=action.microbatch_index - first)
        schedule.pipeline_order[rank] = row
    schedule._prepare_schedule_with_comms(schedule.pipeline_order)
    return schedule


def ready(cls, chunks, v_shaped=False, **options):
    return lambda ranks, micro_batches: cls(
        stages(ranks, chunks, v_shaped), micro_batches, loss_fn=lambda *_: None, **options
    )


KINDS = {
    "gpipe": partial(single, pp.ScheduleGPipe),
    "1f1b": partial(single, pp.Schedule1F1B),
    "interleaved1f1b": ready(pp.ScheduleInterleaved1F1B, 2),
    "interleaved1f1b_late_receives": ready(pp.ScheduleInterleaved1F1B, 2, defer_pp_recv=True),
    "loopedbfs": ready(pp.ScheduleLoopedBFS, 2),
    "interleavedzb": ready(pp.ScheduleInterleavedZeroBubble, 2),
    "zbv": ready(pp.ScheduleZBVZeroBubble, 2, v_shaped=True),
    "dualpipev": ready(pp.ScheduleDualPipeV, 2, v_shaped=True),
}


def generate():
    HERE.mkdir(exist_ok=True)
    for name, make in KINDS.items():
        for ranks, micro_batches in [(2, 4), (4, 8), (3, 7)]:
            small = ranks == 2
            if ranks == 3 and name not in ("zbv", "dualpipev"):
                continue
            schedule = make(ranks, micro_batches)
            stem = HERE / f"{name}_p{ranks}_m{micro_batches}"
            if "late" not in name:
                schedule._dump_csv(f"{stem}.{COMPUTE_ONLY}.csv", COMPUTE_ONLY)
            if small or name in ("1f1b", "zbv", "dualpipev"):
                schedule._dump_csv(f"{stem}.{COMPUTE_COMMS}.csv", COMPUTE_COMMS)


def simple(actions):
    """What PyTorch's simulator knows: no pairs, no parameters that come and go, no reductions."""
    unknown = (pp.UNSHARD, pp.RESHARD, pp.REDUCE_GRAD, pp.WAIT_REDUCE_GRAD)
    parts = (part for action in actions for part in action.sub_actions or (action,))
    return [part for part in parts if part.computation_type not in unknown]


def messages(schedule):
    """For each pair of ranks the order of messages on either side."""
    rank_of = schedule.stage_index_to_group_rank
    seen = defaultdict(list)
    for rank, actions in schedule.pipeline_order_with_comms.items():
        for action in actions:
            kind, stage, m = action.computation_type, action.stage_index, action.microbatch_index
            if kind in (pp.SEND_F, pp.SEND_B):
                peer = stage + 1 if kind == pp.SEND_F else stage - 1
                seen[rank, rank_of[peer]].append((rank, kind.value[-1], stage, m))
            elif kind in (pp.RECV_F, pp.RECV_B):
                peer = stage - 1 if kind == pp.RECV_F else stage + 1
                seen[rank, rank_of[peer]].append((rank_of[peer], kind.value[-1], peer, m))
    return seen


def check(path):
    text = path.read_text().splitlines()
    cells = [pp._Action.from_str(cell) for row in text for cell in row.split(",")]
    parts = [part for cell in cells if cell for part in cell.sub_actions or (cell,)]
    stage_count = 1 + max(part.stage_index for part in parts)
    micro_batches = 1 + max(part.microbatch_index or 0 for part in parts)
    schedule = runtime(len(text), stage_count, micro_batches)
    comms = path.name.endswith(f".{COMPUTE_COMMS}.csv")
    format = COMPUTE_COMMS if comms else COMPUTE_ONLY
    schedule._load_csv(str(path), format=format)
    order = {r: simple(row) for r, row in schedule.pipeline_order_with_comms.items()}
    ran = pp._simulate_comms_compute(
        order, lambda stage: schedule.stage_index_to_group_rank[stage], stage_count
    )
    assert {r: [a for a in row if a] for r, row in ran.items()} == order
    if format == COMPUTE_COMMS:
        seen = messages(schedule)
        for (a, b), here in seen.items():
            assert here == seen[b, a], f"ranks {a} and {b} order their messages differently"


def main():
    match sys.argv[1:]:
        case ["generate"]:
            generate()
        case ["check", folder]:
            paths = sorted(Path(folder).glob("*.csv"))
            failed = 0
            for path in paths:
                try:
                    check(path)
                except Exception as error:  # noqa: BLE001 - any of them is an answer
                    failed += 1
                    print(f"{path.name}: {type(error).__name__}: {error}")
            print(f"PyTorch {torch.__version__}: {len(paths) - failed} of {len(paths)} accepted")
            sys.exit(failed > 0 or not paths)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
