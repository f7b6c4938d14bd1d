"""Batches into several pipelines in turns: one history, one setting each, the same files, ratios within a round."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from bench import tables
from bench.report import save, timed_command
from bench.upsert import NOT_RACY_S

Round = dict[str, float]
"""Of one batch: `whole_s`, the process from start to end; `load_s`, its load step; `cpu_s`."""

Measure = Callable[[Path, int, int, int], dict[str, object]]
"""Measures, given a folder, the rows of the target and of a batch, and the rounds."""


def ordertrail(word: str, config: Path, *more: str) -> list[str]:
    """A command of ordertrail that prints JSON, as words."""
    return [sys.executable, "-m", "ordertrail", word, *more, "--json", "--config", str(config)]


def turns(
    work: Path, modes: Sequence[str], rows: int, batch_rows: int, rounds: int
) -> tuple[int, dict[str, list[Round]]]:
    """Load batches, half of each updates of random shipments; who comes first changes from round to round.

    Before the first round each pipeline gets one batch that is on no clock.

    Args:
        work: The folder with the pipelines, each in a folder with the name of its mode.
        modes: Their names.
        rows: Of each target.
        batch_rows: Of a batch.
        rounds: How often each gets one.

    Returns:
        How many rows of a batch are updates, and the rounds of each mode.

    Raises:
        RuntimeError: A process failed.
    """
    found: dict[str, list[Round]] = {mode: [] for mode in modes}
    updates = batch_rows // 2
    for number in range(rounds + 1):
        csv = work / tables.batch_name(number)
        first = rows + number * (batch_rows - updates)
        news = range(first, first + batch_rows - updates)
        tables.batch(csv, np.random.default_rng([number, rows]), rows, news, updates, ascending=False)
        shift = number % len(modes)
        for mode in (*modes[shift:], *modes[:shift]):
            one = _turn(work / mode, csv)
            print(f"round {number}, {mode}: {one['whole_s']:.2f} s, load {one['load_s']:.2f} s", flush=True)
            if number:
                found[mode].append(one)
        csv.unlink()
    return updates, found


def figures(found: Mapping[str, Sequence[Round]], base: str) -> dict[str, object]:
    """The medians of each mode, and of its ratios to one of them within a round."""
    made: dict[str, object] = {}
    for mode, rounds in found.items():
        entry: dict[str, object] = {}
        for name in ("whole_s", "load_s"):
            entry[name] = round(statistics.median(one[name] for one in rounds), 3)
            ratios = [one[name] / other[name] for one, other in zip(rounds, found[base], strict=True)]
            entry[f"{name.removesuffix('_s')}_to_{base}"] = round(statistics.median(ratios), 3)
        made[mode] = {**entry, "rounds": [dict(one) for one in rounds]}
    return made


def main(name: str, about: str | None, measure: Measure) -> None:
    """Measure by the options of the command line, and keep the figures in `bench/results/<name>.json`."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--batch", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--try", dest="only_try", action="store_true", help="keep no figures")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ordertrail-bench-") as folder:
        found = measure(Path(folder), options.rows, options.batch, options.rounds)
    if options.only_try:
        print(json.dumps(found, indent=2))
    else:
        save(name, found)


def _turn(table: Path, csv: Path) -> Round:
    shutil.copy2(csv, table / "in" / csv.name)
    time.sleep(NOT_RACY_S)
    os.sync()  # what the one before left to write is not on this one's clock
    run = timed_command(ordertrail("run", table / "ordertrail.toml"))
    seconds = json.loads(run.output)["seconds"]
    return {"whole_s": round(run.wall_s, 3), "load_s": seconds["load"], "cpu_s": round(run.cpu_s, 3)}
