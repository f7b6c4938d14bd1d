"""Taking a delivery back: `ordertrail undo` of 100,000 rows beside the pass that loaded them.

`python -m bench.undo [--rows 10000000] [--rounds 5]`. The target is built, then batches of updates bring the history to
twice its rows. Each round is a batch of 100,000 rows, half of them updates of random shipments and half new ones, timed
as a whole process, and then its `undo`, timed likewise: half the keys get their rows of before back, the other half
leaves the target. After each undo the target must hold the rows of before.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench import tables
from bench.report import Timed, save, summary, timed_command

BATCH_ROWS = 100_000
PART_ROWS = 1_000_000


def command(config: Path, *words: str) -> Timed:
    """One command as a process of its own."""
    return timed_command([sys.executable, "-m", "ordertrail", *words, "--json", "--config", str(config)])


def prepare(folder: Path, rows: int) -> Path:
    """Build the target, and a history of twice its rows.

    Args:
        folder: For all files.
        rows: Of the target.

    Returns:
        The folder of the pipeline.
    """
    tables.build(folder, {"ordertrail"}, rows, ascending=False)
    table = folder / "ordertrail"
    pick = np.random.default_rng(0)
    for number in range(rows // PART_ROWS):
        put(table, pick, 1 + number, rows, range(0), min(PART_ROWS, rows))
        command(table / "ordertrail.toml", "run")
    command(table / "ordertrail.toml", "maintain")
    return table


def put(table: Path, pick: np.random.Generator, number: int, rows: int, news: range, updates: int) -> None:
    """Lay a batch into the source folder."""
    tables.batch(table / "in" / tables.batch_name(number), pick, rows, news, updates, ascending=False)


def measure(folder: Path, rows: int, rounds: int) -> dict[str, object]:
    """Batches and their undos, in turns.

    Raises:
        RuntimeError: A process failed, or the target does not hold the rows of before.
    """
    table = prepare(folder, rows)
    config = table / "ordertrail.toml"
    before = tables.fingerprint("ordertrail", table)
    found: dict[str, list[Timed]] = {"run": [], "undo": []}
    keys: dict[str, int] = {}
    for number in range(rounds + 1):  # the first one warms the index and the disk's cache
        pick = np.random.default_rng(100 + number)
        first = rows + number * BATCH_ROWS
        put(table, pick, 100 + number, rows, range(first, first + BATCH_ROWS // 2), BATCH_ROWS // 2)
        loaded = command(config, "run")
        (delivery,) = json.loads(loaded.output)["deliveries"]
        undone = command(config, "undo", delivery["delivery_id"], "--why", "bench", "--yes")
        keys = json.loads(undone.output)["correction"]["keys"]
        print(f"round {number}: run {loaded.wall_s:.2f} s, undo {undone.wall_s:.2f} s, {keys}", flush=True)
        if tables.fingerprint("ordertrail", table) != before:
            raise RuntimeError("the target does not hold the rows of before")
        if number:
            found["run"].append(loaded)
            found["undo"].append(undone)
    return {
        "rows": rows,
        "history_rows": rows // PART_ROWS * min(PART_ROWS, rows) + rows,
        "batch_rows": BATCH_ROWS,
        "keys": keys,
        **{name: summary(runs) for name, runs in found.items()},
        "undo_to_run": _ratio(found["undo"], found["run"]),
    }


def _ratio(undone: Sequence[Timed], loaded: Sequence[Timed]) -> float:
    return round(statistics.median(u.wall_s / r.wall_s for u, r in zip(undone, loaded, strict=True)), 2)


def main() -> None:
    """Measure, and keep the figures in `bench/results/undo.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--try", dest="only_try", action="store_true", help="keep no figures")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ordertrail-bench-") as folder:
        figures = measure(Path(folder), options.rows, options.rounds)
    if options.only_try:
        print(json.dumps(figures, indent=2))
    else:
        save("undo", figures)


if __name__ == "__main__":
    main()
