"""What the change data feed costs a batch: `off`, `pairs` and `images` in turns, each on its own copy of one target.

`python -m bench.change_feed [--rows 10000000] [--batch 100000] [--rounds 7]`. A round is one batch, half of it updates
of random shipments, into each of the three; who comes first changes from round to round. Before the first round each
has had one batch that is on no clock. `whole_s` is the process from start to end, `load_s` its load step: order, look
up, write, commit, history, rejects and the done mark. The `_to_off` are medians of the ratios within a round. In the
end the three tables must hold the same rows, and a reader must find as many images of the last batch as it has.
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
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable

from bench import tables
from bench.report import save, timed_command
from bench.upsert import NOT_RACY_S
from ordertrail import load_config

MODES = ("off", "pairs", "images")
Round = dict[str, float]


def measure(work: Path, rows: int, batch_rows: int, rounds: int) -> dict[str, object]:
    """Build the target, and measure.

    Args:
        work: For all files.
        rows: Of the target.
        batch_rows: Of a batch.
        rounds: How often each mode gets one.

    Raises:
        RuntimeError: A process failed, the tables differ, or a feed has other changes than the batch.
    """
    tables.build(work / "base", {"ordertrail"}, rows, ascending=False)
    for mode in MODES:
        tables.copy(work / "base" / "ordertrail", work / mode)
        _switch(work / mode, mode)
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
    if len({tables.fingerprint("ordertrail", work / mode) for mode in MODES}) > 1:
        raise RuntimeError("the tables are not the same")
    _check(work / "images", updates, batch_rows - updates)
    return {"rows": rows, "batch_rows": batch_rows, "updates": updates, "modes": figures(found)}


def figures(found: Mapping[str, Sequence[Round]]) -> dict[str, object]:
    """The medians of each mode, and their ratios to `off`."""
    off = found["off"]
    made: dict[str, object] = {}
    for mode, rounds in found.items():
        entry: dict[str, object] = {}
        for name in ("whole_s", "load_s"):
            entry[name] = round(statistics.median(one[name] for one in rounds), 3)
            ratios = [one[name] / other[name] for one, other in zip(rounds, off, strict=True)]
            entry[f"{name.removesuffix('_s')}_to_off"] = round(statistics.median(ratios), 3)
        made[mode] = {**entry, "rounds": [dict(one) for one in rounds]}
    return made


def _switch(table: Path, mode: str) -> None:
    config = table / "ordertrail.toml"
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace("[pipeline]\n", f'[pipeline]\nchange_feed = "{mode}"\n', 1), encoding="utf-8")
    timed_command([*_ordertrail("migrate", config), "--apply"])


def _turn(table: Path, csv: Path) -> Round:
    shutil.copy2(csv, table / "in" / csv.name)
    time.sleep(NOT_RACY_S)
    os.sync()  # what the one before left to write is not on this one's clock
    run = timed_command(_ordertrail("run", table / "ordertrail.toml"))
    seconds = json.loads(run.output)["seconds"]
    return {"whole_s": round(run.wall_s, 3), "load_s": seconds["load"], "cpu_s": round(run.cpu_s, 3)}


def _ordertrail(word: str, config: Path) -> list[str]:
    return [sys.executable, "-m", "ordertrail", word, "--json", "--config", str(config)]


def _check(table: Path, updates: int, news: int) -> None:
    """Read the changes of the last batch; of pairs delta-rs 1.6 cannot, in files of several row groups."""
    config = load_config(table / "ordertrail.toml")
    target = DeltaTable(config.table_path(config.tables.target))
    rows = pa.table(target.load_cdf(starting_version=target.version(), columns=["_change_type"]))
    found = Counter(rows["_change_type"].to_pylist())
    expected = {"insert": news, "update_preimage": updates, "update_postimage": updates}
    if found != expected:
        raise RuntimeError(f"readers find {dict(found)}, not {expected}")


def main() -> None:
    """Measure, and keep the figures in `bench/results/change_feed.json`."""
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
        save("change_feed", found)


if __name__ == "__main__":
    main()
