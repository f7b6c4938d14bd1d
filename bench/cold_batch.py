"""The first batch after a first load, beside delta-rs' merge: no index of the keys is there yet, and none is warm.

`python -m bench.cold_batch [--rows 10m] [--batch 100k] [--rounds 5]`. A round copies the tables that a first load made,
and brings two batches in, each contender in a process of its own, timed from outside: the first is the cold one, the
second shows what a warm index makes of it. In the end both tables must hold the same rows.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench import tables
from bench.report import save
from bench.upsert import CONTENDERS, NOT_RACY_S, Case, process, sizes

NAMES = ("ordertrail", "delta_rs_merge")
TURNS = ("cold", "warm")

Found = dict[str, dict[str, list[dict[str, object]]]]


def measure(work: Path, rows: int, batch_rows: int, rounds: int) -> dict[str, object]:
    """All rounds.

    Args:
        work: For the tables; those of the first load are kept in it.
        rows: Of the first load.
        batch_rows: Of each batch, half of them updates of random keys.
        rounds: How many.

    Returns:
        The figures, with ratios of medians to ordertrail's.

    Raises:
        RuntimeError: A contender failed, or the tables are not the same in the end.
    """
    case = Case(rows, batch_rows, 50, "random")
    base = work / f"base-{rows}-random"
    tables.build(base, {CONTENDERS[name].kind for name in NAMES}, rows, ascending=False)
    found: Found = {turn: {name: [] for name in NAMES} for turn in TURNS}
    for number in range(rounds):
        folder = work / "round"
        shutil.rmtree(folder, ignore_errors=True)
        for name in NAMES:
            tables.copy(base / CONTENDERS[name].kind, folder / name)
        for step, turn in enumerate(TURNS):
            csv = case.write_batch(folder, 1 + 2 * number + step)
            for name in NAMES if number % 2 == 0 else reversed(NAMES):
                one = _turn(name, folder / name, csv)
                if one["updated"] != case.updates:
                    raise RuntimeError(f"{name} updated {one['updated']} rows, not {case.updates}")
                found[turn][name].append(one)
                print(f"round {number}, {turn}, {name}: {one['whole_s']:.2f} s", flush=True)
        prints = {name: tables.fingerprint(CONTENDERS[name].kind, folder / name) for name in NAMES}
        if len(set(prints.values())) > 1:
            raise RuntimeError(f"the tables are not the same: {prints}")
    return {"rows": rows, "batch_rows": batch_rows, "update_share": 50, "keys": "random", **figures(found)}


def figures(found: Mapping[str, Mapping[str, Sequence[Mapping[str, object]]]]) -> dict[str, object]:
    """Medians of the rounds, and their ratios: delta-rs to ordertrail, and ordertrail's cold batch to its warm one."""
    shown: dict[str, object] = {}
    for turn, by_name in found.items():
        shown[turn] = {name: _entry(runs) for name, runs in by_name.items()}
        shown[f"{turn}_delta_rs_to_ordertrail"] = round(
            _median(by_name["delta_rs_merge"], "whole_s") / _median(by_name["ordertrail"], "whole_s"), 2
        )
    cold, warm = (_median(found[turn]["ordertrail"], "whole_s") for turn in TURNS)
    return shown | {"cold_to_warm": round(cold / warm, 2)}


def _entry(runs: Sequence[Mapping[str, object]]) -> dict[str, object]:
    keys = [key for key in ("whole_s", "load_s", "pass_s", "cpu_s") if key in runs[0]]
    return {
        **{f"median_{key}": _median(runs, key) for key in keys},
        "peak_mb": round(max(float(str(run["peak_mb"])) for run in runs)),
        "whole_s": [round(float(str(run["whole_s"])), 3) for run in runs],
    }


def _median(runs: Sequence[Mapping[str, object]], key: str) -> float:
    return round(statistics.median(float(str(run[key])) for run in runs), 3)


def _turn(name: str, table: Path, csv: Path) -> dict[str, object]:
    if CONTENDERS[name].kind == "ordertrail":
        shutil.copy2(csv, table / "in" / csv.name)
        time.sleep(NOT_RACY_S)
    os.sync()  # what the one before left to write is not on this one's clock
    return process(name, table, csv)


def main() -> None:
    """Measure, and keep the figures in `bench/results/cold_batch.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=sizes, default=[10_000_000], help="of the first load: 10m")
    parser.add_argument("--batch", type=sizes, default=[100_000], help="rows of a batch: 100k")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", type=Path, help="a folder to keep the built tables in, for the next command")
    parser.add_argument("--try", dest="only_try", action="store_true", help="keep no figures")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ordertrail-bench-") as scratch:
        work: Path = options.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        found = measure(work.resolve(), options.rows[0], options.batch[0], options.rounds)
    if options.only_try:
        print(json.dumps(found, indent=2))
    else:
        save("cold_batch", found)


if __name__ == "__main__":
    main()
