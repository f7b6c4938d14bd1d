"""What a batch costs a target that keeps every row, beside one that keeps the latest: `append` and `upsert` in turns.

`python -m bench.append [--rows 10000000] [--batch 100000] [--rounds 7]`. Both targets are built from one history, one
row a shipment. A round is one batch, half of it updates of random shipments, into each of the two; who comes first
changes from round to round. Before the first round each has had one batch that is on no clock. `whole_s` is the
process from start to end, `load_s` its load step: look up, weigh, write, commit, history, rejects and the done mark.
The `_to_upsert` are medians of the ratios within a round. In the end the view of the latest state must hold the rows of
the target that was upserted, and the target that was appended to all rows.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bench import tables
from bench.report import save, timed_command
from bench.upsert import NOT_RACY_S
from ordertrail import load_config

MODES = ("upsert", "append")
Round = dict[str, float]


def measure(work: Path, rows: int, batch_rows: int, rounds: int) -> dict[str, object]:
    """Build the targets, and measure.

    Args:
        work: For all files.
        rows: Of the targets.
        batch_rows: Of a batch.
        rounds: How often each mode gets one.

    Raises:
        RuntimeError: A process failed, or the rows are not those that they must be.
    """
    tables.build(work / "base", {"ordertrail"}, rows, ascending=False)
    for mode in MODES:
        tables.copy(work / "base" / "ordertrail", work / mode)
    _switch(work / "append")
    found: dict[str, list[Round]] = {mode: [] for mode in MODES}
    updates = batch_rows // 2
    for number in range(rounds + 1):
        csv = work / tables.batch_name(number)
        first = rows + number * (batch_rows - updates)
        news = range(first, first + batch_rows - updates)
        tables.batch(csv, np.random.default_rng([number, rows]), rows, news, updates, ascending=False)
        shift = number % len(MODES)
        for mode in MODES[shift:] + MODES[:shift]:
            one = _turn(work / mode, csv)
            print(f"round {number}, {mode}: {one['whole_s']:.2f} s, load {one['load_s']:.2f} s", flush=True)
            if number:
                found[mode].append(one)
        csv.unlink()
    _check(work, rows + (rounds + 1) * batch_rows)
    return {"rows": rows, "batch_rows": batch_rows, "updates": updates, "modes": figures(found)}


def figures(found: Mapping[str, Sequence[Round]]) -> dict[str, object]:
    """The medians of each mode, and their ratios to `upsert`."""
    upsert = found["upsert"]
    made: dict[str, object] = {}
    for mode, rounds in found.items():
        entry: dict[str, object] = {}
        for name in ("whole_s", "load_s"):
            entry[name] = round(statistics.median(one[name] for one in rounds), 3)
            ratios = [one[name] / other[name] for one, other in zip(rounds, upsert, strict=True)]
            entry[f"{name.removesuffix('_s')}_to_upsert"] = round(statistics.median(ratios), 3)
        made[mode] = {**entry, "rounds": [dict(one) for one in rounds]}
    return made


def _switch(table: Path) -> None:
    """Make the target anew in the mode `append`."""
    config = table / "ordertrail.toml"
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace("[pipeline]\n", '[pipeline]\nmode = "append"\n', 1), encoding="utf-8")
    settings = load_config(config)
    shutil.rmtree(settings.table_path(settings.tables.target))
    timed_command(_ordertrail("rebuild", config))


def _turn(table: Path, csv: Path) -> Round:
    shutil.copy2(csv, table / "in" / csv.name)
    time.sleep(NOT_RACY_S)
    os.sync()  # what the one before left to write is not on this one's clock
    run = timed_command(_ordertrail("run", table / "ordertrail.toml"))
    seconds = json.loads(run.output)["seconds"]
    return {"whole_s": round(run.wall_s, 3), "load_s": seconds["load"], "cpu_s": round(run.cpu_s, 3)}


def _ordertrail(word: str, config: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "ordertrail", word, *more, "--json", "--config", str(config)]


def _check(work: Path, rows: int) -> None:
    """Compare the latest state of the two, and count the rows that were appended."""
    names = "tracking_num, status, address, last_update_timestamp"
    said = {}
    for mode, table in (("upsert", "orders_target"), ("append", "orders_current")):
        sql = f"SELECT count(*) AS n, sum(hash({names})) AS h FROM {table}"
        words = _ordertrail("query", work / mode / "ordertrail.toml", sql, "--timeout", "600")
        said[mode] = json.loads(timed_command(words).output)["rows"]
    if said["upsert"] != said["append"]:
        raise RuntimeError(f"the latest states are not the same: {said}")
    config = work / "append" / "ordertrail.toml"
    counted = timed_command(_ordertrail("query", config, "SELECT count(*) AS n FROM orders_target")).output
    if json.loads(counted)["rows"] != [{"n": rows}]:
        raise RuntimeError(f"the target has not {rows} rows: {counted}")


def main() -> None:
    """Measure, and keep the figures in `bench/results/append.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
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
        save("append", found)


if __name__ == "__main__":
    main()
