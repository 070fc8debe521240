"""Runs a training program on some cores and says what it took. Standard library only."""

import json
import os
import signal
import statistics
import subprocess
import tempfile
import time
from dataclasses import dataclass, field

# Beyond this share of a core, in percent, used by others meanwhile, a run says little.
QUIET = 5.0


class Failed(Exception):
    """A program that did not do what it was started for."""


@dataclass
class Result:
    """What a run took."""

    tokens_per_s: float
    step_ms: float
    # Most bytes of every node or rank, as the program counts them.
    peak_bytes: list = field(default_factory=list)
    # Most bytes of a process that were resident, its code included.
    resident_bytes: int = 0
    # From its start until the first step began, and the first step itself.
    ready_s: float = 0.0
    first_step_s: float = 0.0
    # What everything else used of a core meanwhile, in percent; nothing where it cannot be known.
    others_pct: float | None = None


def cores_to_use(wanted, count):
    """The cores to measure on, or nothing where processes cannot be held to cores."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    allowed = sorted(os.sched_getaffinity(0))
    if wanted is None:
        wanted = allowed[:count]
    missing = [core for core in wanted if core not in allowed]
    if missing:
        raise Failed(f"core {missing[0]} is not one that this process may use: {allowed}")
    if len(set(wanted)) < count:
        raise Failed(f"these rows need {count} cores; there are {len(set(wanted))}")
    return wanted


def busy_seconds():
    """Seconds that all cores together were not idle, stolen ones included."""
    try:
        with open("/proc/stat", encoding="ascii") as file:
            user, nice, system, _, _, irq, soft, steal = map(int, file.readline().split()[1:9])
    except (OSError, ValueError):
        return None
    return (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK")


def start(command, cores, errors):
    hold = None
    if cores is not None:
        hold = lambda: os.sched_setaffinity(0, cores)  # noqa: E731
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            preexec_fn=hold,
        )
    except OSError as error:
        raise Failed(f"cannot start {command[0]}: {error.strerror}") from error


def lines_of(command, cores):
    """Its JSON lines with the moments at which they came, and what running it took."""
    with tempfile.TemporaryFile("w+") as errors:
        before, started = busy_seconds(), time.monotonic()
        process, lines = start(command, cores, errors), []
        try:
            for line in process.stdout:
                if line.startswith("{"):
                    lines.append((time.monotonic() - started, json.loads(line)))
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.send_signal(signal.SIGTERM)
            process.wait()
            raise
        process.returncode = os.waitstatus_to_exitcode(status)
        took, after = time.monotonic() - started, busy_seconds()
        if process.returncode:
            errors.seek(0)
            last = "\n  ".join(errors.read().strip().splitlines()[-6:])
            raise Failed(f"{' '.join(command)}\n  ended with {process.returncode}:\n  {last}")
    others = None
    if before is not None:
        own = usage.ru_utime + usage.ru_stime
        others = max(0.0, 100.0 * (after - before - own) / took)
    return lines, usage, others


def train(command, cores, tokens, warm_up):
    """Trains, and takes the median of the steps after those that warm up."""
    lines, usage, others = lines_of(command, cores)
    steps = [(at, line["step_ms"]) for at, line in lines if "step_ms" in line]
    summary = next((line["summary"] for _, line in lines if "summary" in line), None)
    if summary is None or len(steps) <= warm_up:
        raise Failed(f"{' '.join(command)}\n  printed {len(steps)} steps and no whole summary")
    middle = statistics.median(took for _, took in steps[warm_up:])
    first_at, first_ms = steps[0]
    # Kilobytes, but on macOS bytes.
    unit = 1 if os.uname().sysname == "Darwin" else 1024
    return Result(
        tokens_per_s=1e3 * tokens / middle,
        step_ms=middle,
        peak_bytes=summary.get("peak_bytes", []),
        resident_bytes=usage.ru_maxrss * unit,
        ready_s=max(0.0, first_at - first_ms / 1e3),
        first_step_s=first_ms / 1e3,
        others_pct=others,
    )


