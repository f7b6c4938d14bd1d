"""ordertrail's engine `spark` against the notebooks' own code, on Spark sessions that are warm.

`python -m bench.spark_engine [--sizes 1m,10m] [--rounds 3]`. In turns, each on its own copy of the same table, each
with the same batches of 100,000 rows, half of them updates:

- `engine`: a whole pass, from the file to the archive, in a session as ordertrail begins it;
- `engine_by_name`: the same, where a catalog keeps the tables, in folders of this machine;
- `engine_elsewhere`: the same by name, where all that is read and written goes through Spark, as with tables in an
  object store (the folders are here; the engine is told that it may not read them);
- `notebooks_defaults`: the notebooks' code with the defaults of Spark and Delta;
- `notebooks_same`: the notebooks' code in a session tuned for small work, as ordertrail's is.

`whole_s` is from the CSV to the last commit, for `engine` to the archive too. The first two rounds are on no clock, for
Java compiles what runs often. In the end all tables must hold the same rows.

Then the kernel inside Spark: a first pass over many files, parsed by executors, with one core and with two.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from bench import spark, tables
from bench.feed import day_files
from bench.report import save
from bench.upsert import NOT_RACY_S, Case, sizes

CONTENDERS = {
    "engine": ("ordertrail", "engine", "engine"),
    "engine_by_name": ("ordertrail", "named", "engine"),
    "engine_elsewhere": ("ordertrail", "elsewhere", "engine"),
    "notebooks_defaults": ("delta", "notebooks", "defaults"),
    "notebooks_same": ("delta", "notebooks", "tuned"),
}
"""By name: the kind of table, the way to load, the session."""

WARM_ROUNDS = 2

KERNEL_FILES, KERNEL_ROWS = 40, 25_000
_CONFIG = """[pipeline]
name = "orders"
source = "in"
archive = "archive"
warehouse = "tables"
settle_s = 0.0
engine = "spark"

[spark]
driver_max_mb = 0
"""


def measure(work: Path, rows: int, rounds: int) -> dict[str, object]:
    """Measure one size.

    Raises:
        RuntimeError: The tables are not the same in the end.
    """
    case = Case(rows, 100_000, 50, "random")
    base, folder = work / f"base-{rows}", work / f"case-{rows}"
    tables.build(base, {kind for kind, _, _ in CONTENDERS.values()}, rows, ascending=False)
    for name, (kind, _, _) in CONTENDERS.items():
        tables.copy(base / kind, folder / name)
    sessions = {name: spark.WarmSpark(work, session) for name, (_, _, session) in CONTENDERS.items()}
    found: dict[str, list[dict[str, object]]] = {name: [] for name in CONTENDERS}
    try:
        for number in range(WARM_ROUNDS + rounds):
            csv = case.write_batch(folder, number)
            for name, (kind, way, _) in CONTENDERS.items():
                table = folder / name
                if kind == "ordertrail":
                    shutil.copy2(csv, table / "in" / csv.name)
                    time.sleep(NOT_RACY_S)
                os.sync()
                took = sessions[name].load(way, table, csv)
                print(f"{rows:>11,} rows, round {number}, {name}: {took['whole_s']:.2f} s", flush=True)
                if number >= WARM_ROUNDS:
                    found[name].append(took)
    finally:
        for session in sessions.values():
            session.close()
    prints = {name: tables.fingerprint(kind, folder / name) for name, (kind, _, _) in CONTENDERS.items()}
    shutil.rmtree(folder)
    if len(set(prints.values())) > 1:
        raise RuntimeError(f"the tables are not the same: {prints}")
    return _figures(case, found)


def _figures(case: Case, found: dict[str, list[dict[str, object]]]) -> dict[str, object]:
    medians = {name: statistics.median(float(str(one["whole_s"])) for one in ones) for name, ones in found.items()}
    ratios = {
        f"{ours}_to_{name}": round(medians[ours] / median, 2)
        for ours in ("engine", "engine_by_name", "engine_elsewhere")
        for name, median in medians.items()
        if not name.startswith("engine")
    }
    rounds = {name: [_rounded(one) for one in ones] for name, ones in found.items()}
    whole = {name: round(median, 2) for name, median in medians.items()}
    return {"rows": case.rows, "batch_rows": case.batch_rows, "whole_s": whole, **ratios, "rounds": rounds}


def _rounded(one: dict[str, object]) -> dict[str, object]:
    return {key: round(value, 3) if isinstance(value, float) else value for key, value in one.items()}


def kernel(work: Path, cores: Sequence[int]) -> list[dict[str, object]]:
    """The stage step of a first pass whose files the executors parse, with so many cores; the second pass counts."""
    figures: list[dict[str, object]] = []
    for count in cores:
        session = spark.WarmSpark(work, "engine", f"local[{count}]")
        try:
            for warm in (False, True):
                folder = work / f"kernel-{count}-{warm}"
                (folder / "in").mkdir(parents=True)
                (folder / "ordertrail.toml").write_text(_CONFIG, encoding="utf-8")
                day_files(folder / "in", KERNEL_FILES, KERNEL_ROWS)
                took = session.load("stage", folder, folder / "in")
                shutil.rmtree(folder)
        finally:
            session.close()
        steps = took["steps_s"]
        assert isinstance(steps, dict)
        stage_s = float(steps["stage"])
        rows = KERNEL_FILES * KERNEL_ROWS
        one = {"cores": count, "files": KERNEL_FILES, "rows": rows, "stage_s": round(stage_s, 2)}
        figures.append({**one, "rows_per_s_and_core": round(rows / stage_s / count)})
        print(figures[-1], flush=True)
    return figures


def main() -> None:
    """Measure, and keep the figures in `bench/results/spark_engine.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=sizes, default=[1_000_000, 10_000_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, help="a folder to keep the built tables in, for the next command")
    options = parser.parse_args()
    with spark.workplace(options.work) as work:
        cases = [measure(work, rows, options.rounds) for rows in options.sizes]
        save("spark_engine", {"cases": cases, "kernel": kernel(work, (1, 2))})


if __name__ == "__main__":
    main()
