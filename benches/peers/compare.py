#!/usr/bin/env python3
"""Measures Brigade and, where it is installed, PyTorch on this machine, in turn, on the same cores.

Examples:
  python3 benches/peers/compare.py --rows one-core,pipeline --rounds 3
  python3 benches/peers/compare.py --setting M --python ~/torch/bin/python
"""

import argparse
import dataclasses
import json
import os
import re
import shutil
import statistics
import subprocess
import sys

import running
from rows import HERE, SCHEDULES, SETTINGS, Commands

ROOT = os.path.dirname(os.path.dirname(HERE))
# Rows made of what other rows measured, and of which.
DERIVED = {"memory": ["one-core", "pipeline"], "start": ["one-core", "pipeline"]}
LEAST_STEPS = 10


def arguments():
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    add = parser.add_argument
    add("--setting", choices=list(SETTINGS), default="S", help="the network and its sizes (S)")
    add("--rows", help="separated by commas (all but products); `list` says which")
    add("--rounds", type=int, default=3, help="how often each side is run, in turn (3)")
    add("--steps", type=int, default=LEAST_STEPS, help="steps to take the median of (10)")
    add("--warm-up", type=int, default=3, help="steps before those (3)")
    add("--trial-steps", type=int, default=4, help="steps of a trial, where one picks (4)")
    add("--schedules", default=",".join(SCHEDULES), help="of Brigade, to pick from in a trial")
    add("--cuts", help="where Brigade cuts (balanced), as `brigade train --cuts`")
    add("--brigade", help="the program, built already (cargo builds it)")
    add("--python", default=sys.executable, help="a Python that has PyTorch (this one)")
    built = os.path.join(HERE, "rust", "target", "release")
    add("--rust-peers", default=built, metavar="FOLDER", help="with the programs burn and candle")
    add("--cores", help="cores to hold both sides to, as 0,1 (the first two allowed)")
    add("--json", action="store_true", help="one JSON object a line and nothing else")
    options = parser.parse_args()
    for name, least in [("rounds", 1), ("steps", LEAST_STEPS), ("warm_up", 1), ("trial_steps", 1)]:
        if getattr(options, name) < least:
            parser.error(f"--{name.replace('_', '-')} must be at least {least}")
    try:
        options.cores = options.cores and [int(core) for core in options.cores.split(",")]
    except ValueError:
        parser.error(f"--cores wants numbers separated by commas, not {options.cores}")
    return options, parser


def build_brigade(name):
    """Builds the release program, or the example of this name, and says where it is."""
    if not shutil.which("cargo"):
        raise running.Failed("cargo is not installed: give a built program with --brigade PATH")
    example = [] if name == "brigade" else ["--example", name]
    print(f"building {name} with cargo", file=sys.stderr)
    if subprocess.run(["cargo", "build", "--release", *example], cwd=ROOT, check=False).returncode:
        raise running.Failed("cargo could not build brigade")
    ask = ["cargo", "metadata", "--format-version", "1", "--no-deps"]
    told = subprocess.run(ask, cwd=ROOT, check=True, capture_output=True, text=True)
    target = json.loads(told.stdout)["target_directory"]
    return os.path.join(target, "release", *(["examples"] if example else []), name)


def version_of(command):
    try:
        told = subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return told.stdout.strip()


class Comparison:
    """Rounds, with everything measured so far."""

    def __init__(self, options, cores):
        self.options, self.cores = options, cores
        self.setting = SETTINGS[options.setting]
        self.measured, self.picked = {}, {}

    def say(self, text):
        if not self.options.json:
            print(text, flush=True)

    def tell(self, **what):
        if self.options.json:
            print(json.dumps(what), flush=True)

    def run(self, entrant, steps, warm_up):
        command = [*entrant.command, "--steps", str(steps + warm_up)]
        held = self.cores and set(self.cores[: entrant.cores])
        return running.train(command, held, self.setting.tokens, warm_up)

    def pick(self, entrants):
        """The fastest in a short trial."""
        key = tuple(entrants)
        if len(entrants) == 1:
            return entrants[0]
        if key not in self.picked:
            tried = []
            for entrant in entrants:
                try:
                    result = self.run(entrant, self.options.trial_steps, 2)
                except running.Failed as failure:
                    print(f"left out of the trial: {failure}", file=sys.stderr)
                    continue
                tried.append((result.tokens_per_s, entrant))
                self.tell(trial=entrant.how, side=entrant.side, **dataclasses.asdict(result))
            if not tried:
                raise running.Failed("nothing was left in the trial")
            said = ", ".join(f"{entrant.how} {speed:.0f}" for speed, entrant in tried)
            self.say(f"  trial of {entrants[0].side}, {self.setting.unit}: {said}")
            self.picked[key] = max(tried, key=lambda one: one[0])[1]
        return self.picked[key]

    def row(self, name, row):
        """Both sides in turn; who goes first alternates."""
        self.say(f"\n{row.title} ({name})")
        entrants = [self.pick(side) for side in (row.ours, row.theirs) if side]
        rounds = []
        for number in range(self.options.rounds):
            results = {}
            for entrant in entrants if number % 2 == 0 else entrants[::-1]:
                result = self.run(entrant, self.options.steps, self.options.warm_up)
                results[entrant.side] = result
                self.measured.setdefault((entrant.side, entrant.how, row.title), []).append(result)
                told = dataclasses.asdict(result)
                self.tell(row=name, round=number, side=entrant.side, how=entrant.how, **told)
            rounds.append([results[entrant.side] for entrant in entrants])
        columns = list(zip(*rounds))
        for entrant, results in zip(entrants, columns):
            speeds = "".join(f"{result.tokens_per_s:9.0f}" for result in results)
            middle = statistics.median(result.tokens_per_s for result in results)
            who = f"{entrant.side}, {entrant.how}"
            self.say(f"  {who:<28}{speeds}   median {middle:.0f} {self.setting.unit}")
        self.others(rounds)
        if len(entrants) == 2:
            ratios = [ours.tokens_per_s / theirs.tokens_per_s for ours, theirs in rounds]
            self.ratio(name, ratios)

    def ratio(self, name, ratios):
        middle = statistics.median(ratios)
        each = "".join(f"{ratio:9.2f}" for ratio in ratios)
        self.say(f"  {'ratio':<28}{each}   median {middle:.2f}")
        self.tell(row=name, ratios=ratios, median_ratio=middle)

    def others(self, rounds):
        """What others used of the machine in each round."""
        known = [[one.others_pct for one in each] for each in rounds]
        if any(one is None for each in known for one in each):
            self.say("  what others used of the machine cannot be known here")
            return
        worst = [max(each) for each in known]
        each = "".join(f"{one:8.0f}%" for one in worst)
        loud = "   spoiled: run it again" if max(worst) > running.QUIET else ""
        self.say(f"  {'others, of a core':<28}{each}{loud}")

    def memory(self):
        self.say("\npeak memory, MiB (memory)")
        self.say("  Brigade: tensors of each node. PyTorch: resident beyond the import, each rank.")
        for (side, how, title), results in self.measured.items():
            peaks = [max(each) for each in zip(*(result.peak_bytes for result in results))]
            if not peaks:
                continue
            whole = max(result.resident_bytes for result in results)
            each = " ".join(f"{peak / 2**20:.0f}" for peak in peaks)
            process = f"   whole process {whole / 2**20:.0f}" if side != "PyTorch" else ""
            self.say(f"  {title + ': ' + side + ', ' + how:<60}{each}{process}")
            self.tell(row="memory", of=title, side=side, how=how, peak_bytes=peaks, resident=whole)

    def start(self):
        self.say("\nfrom start to training, seconds (start)")
        for (side, how, title), results in self.measured.items():
            ready = statistics.median(result.ready_s for result in results)
            first = statistics.median(result.first_step_s for result in results)
            steady = statistics.median(result.step_ms for result in results) / 1e3
            took = f"{ready:.2f} until the first step, which took {first:.2f}; later {steady:.2f}"
            self.say(f"  {title + ': ' + side + ', ' + how:<60}{took}")
            self.tell(row="start", of=title, side=side, how=how, ready_s=ready, first_s=first)

    def products(self, torch):
        """Products of the setting's linear layers, of `cargo bench --bench kernels` and PyTorch."""
        if not shutil.which("cargo"):
            raise running.Failed("the row products needs cargo, for the benchmark kernels")
        bench = ["cargo", "bench", "--bench", "kernels"]
        subprocess.run([*bench, "--no-run"], cwd=ROOT, check=True, capture_output=True)
        held = self.cores and set(self.cores[:1])
        hold = (lambda: os.sched_setaffinity(0, held)) if held else None
        for precision in ("f32", "bf16"):
            group = f"product {precision}/"
            named = rf"(?:{self.options.setting} )?((?:\d+ )?\w+ [FIW])"
            speeds = {}
            for _ in range(self.options.rounds):
                told = subprocess.run(
                    [*bench, "--", f"{group}({self.options.setting}|[0-9]+) "],
                    cwd=ROOT,
                    check=True,
                    capture_output=True,
                    text=True,
                    preexec_fn=hold,
                ).stdout
                found = re.findall(rf"^{group}{named}: ([\d.]+) GFLOP/s", told, re.MULTILINE)
                ours, theirs = {name: float(speed) for name, speed in found}, {}
                if torch:
                    command = [*torch, "--mode", "products", "--precision", precision]
                    lines, _, _ = running.lines_of(command, held)
                    theirs = {line["product"]: line["gflops"] for _, line in lines}
                for name, speed in ours.items():
                    speeds.setdefault(name, []).append((speed, theirs.get(name)))
            self.say(f"\nproducts on one core, {precision}, GFLOP/s (products)")
            self.say(f"  {'':<16}{'Brigade':>9}{'PyTorch':>9}   ratio")
            for name, pairs in speeds.items():
                middle = statistics.median(ours for ours, _ in pairs)
                told = {"brigade_gflops": middle}
                text = f"  {name:<16}{middle:9.0f}"
                if torch:
                    theirs = statistics.median(theirs for _, theirs in pairs)
                    ratio = statistics.median(ours / theirs for ours, theirs in pairs)
                    text += f"{theirs:9.0f}   {ratio:.2f}"
                    told |= {"torch_gflops": theirs, "median_ratio": ratio}
                self.say(text)
                self.tell(row="products", precision=precision, product=name, **told)


def chosen_rows(options, parser, rows):
    usual = [*rows, *DERIVED]
    known = usual if options.setting in ("nanogpt", "resnet18") else [*usual, "products"]
    if options.rows is None:
        return usual
    chosen = [name.strip() for name in options.rows.split(",") if name.strip()]
    unknown = [name for name in chosen if name not in known]
    if unknown or not chosen:
        wrong = f"no row {unknown[0]}" if unknown else "no rows"
        parser.error(f"{wrong}; the rows of {options.setting} are {', '.join(known)}")
    for derived, needed in DERIVED.items():
        if derived in chosen and not set(chosen) & set(rows):
            chosen = [*(name for name in needed if name in rows), *chosen]
    return chosen


def find_programs(options):
    own = SETTINGS[options.setting].program
    programs = {own: options.brigade or own, "python": options.python}
    for name in ("burn", "candle"):
        path = os.path.join(options.rust_peers, name)
        if os.access(path, os.X_OK):
            programs[name] = path
    return programs


def compare(options, parser):
    programs = find_programs(options)
    schedules = [name for name in options.schedules.split(",") if name]
    if not schedules:
        parser.error("--schedules names none")
    table = Commands(SETTINGS[options.setting], programs, options.cuts)
    rows = table.rows(schedules)
    if options.rows == "list":
        print("\n".join([*rows, *DERIVED, "products"]))
        return
    chosen = chosen_rows(options, parser, rows)
    torch = version_of([options.python, "-c", "import torch; print(torch.__version__)"])
    name = SETTINGS[options.setting].program
    programs[name] = options.brigade or build_brigade(name)
    brigade = version_of([programs[name], "--version"])
    if brigade is None or not brigade.startswith(f"{name} "):
        raise running.Failed(f"{programs[name]} is not the program {name}")
    rows = table.rows(schedules)
    entrants = [one for name in chosen if name in rows for one in rows[name].ours]
    most = max((entrant.cores for entrant in entrants), default=1)
    comparison = Comparison(options, running.cores_to_use(options.cores, most))
    held = f"cores {comparison.cores}" if comparison.cores else "not held to cores"
    comparison.say(f"{brigade}; PyTorch {torch or 'not found'}; setting {options.setting}; {held}")
    comparison.say(f"medians of {options.steps} steps after {options.warm_up}")
    comparison.tell(brigade=brigade, torch=torch, setting=options.setting, cores=comparison.cores)
    if torch is None:
        print(
            f"{options.python} has no PyTorch: rows against it show Brigade alone. To compare:\n"
            "  python3 -m venv ~/torch && ~/torch/bin/pip install torch\n"
            "and give --python ~/torch/bin/python",
            file=sys.stderr,
        )
    for name in chosen:
        if name in rows:
            row = rows[name]
            if torch is None and row.theirs[0].side == "PyTorch":
                if name.startswith("data-parallel"):
                    continue
                row = dataclasses.replace(row, theirs=[])
            comparison.row(name, row)
        elif name == "memory":
            comparison.memory()
        elif name == "start":
            comparison.start()
        else:
            torch_train = [options.python, os.path.join(HERE, "torch_train.py"), *table.shape()]
            comparison.products(torch_train if torch else None)


def main():
    options, parser = arguments()
    try:
        compare(options, parser)
    except running.Failed as failure:
        sys.exit(f"compare.py: {failure}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
