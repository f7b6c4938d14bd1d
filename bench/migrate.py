"""Another contract for 10M rows: filling a column and changing a type, beside a rebuild of the same tables.

`python -m bench.migrate [--rows 10000000] [--rounds 3]`. The contract lacks `address`, so that it lies in `_rescued` of
every row. Each round works on a copy of the tables and times whole processes: a batch of 100,000 rows, a `rebuild` that
finds nothing to do, one of a target that was lost, which writes all rows as a migration does, `migrate --apply` that
fills `address`, one that gives a date the type string, two batches, and a pass that adds a column without filling it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench import tables
from bench.feed import big_file
from bench.report import Timed, save, summary, timed_command
from ordertrail.config import DEFAULT_CONTRACT, parse_config

BATCH_ROWS = 100_000
_HEAD = """[pipeline]
name = "orders"
settle_s = 0.0
source = "in"
archive = "archive"
warehouse = "tables"
"""


def config_text(columns: dict[str, str]) -> str:
    """A config with these columns, each with its type."""
    return _HEAD + "".join(
        f'[[contract.columns]]\nname = "{name}"\ntype = "{kind}"\n' for name, kind in columns.items()
    )


ALL = {column.name: column.type for column in DEFAULT_CONTRACT.columns}
WITHOUT = {name: kind for name, kind in ALL.items() if name != "address"}


def command(table: Path, *words: str) -> Timed:
    """One command as a process of its own."""
    return timed_command(
        [sys.executable, "-m", "ordertrail", *words, "--json", "--config", str(table / "ordertrail.toml")]
    )


def build(folder: Path, rows: int) -> Path:
    """A pipeline with so many rows, whose addresses are rescued."""
    table = folder / "orders"
    (table / "in").mkdir(parents=True)
    (table / "ordertrail.toml").write_text(config_text(WITHOUT))
    big_file(table / "in" / "order_tracking_2026_10_01.csv", rows, ascending=False)
    command(table, "run")
    for archived in (table / "archive").rglob("*.csv"):
        archived.unlink()
    return table


def measure(folder: Path, rows: int, rounds: int) -> dict[str, object]:
    """All steps, on a copy of the tables each round.

    Raises:
        RuntimeError: A process failed, or a migration did not do what it should.
    """
    built = build(folder, rows)
    found: dict[str, list[Timed]] = {}
    for number in range(rounds):
        table = folder / f"round-{number}"
        tables.copy(built, table)
        for name, run in steps(table, number, rows).items():
            found.setdefault(name, []).append(run)
            print(f"round {number}: {name} {run.wall_s:.2f} s, {run.peak_mb:.0f} MB", flush=True)
    return {
        "rows": rows,
        **{name: summary(runs) for name, runs in found.items()},
        "fill_to_rebuild": ratio(found["fill"], found["rebuild"]),
        "type_to_rebuild": ratio(found["type"], found["rebuild"]),
        "batch_after_to_before": ratio(found["batch_after"], found["batch_before"]),
    }


def steps(table: Path, number: int, rows: int) -> dict[str, Timed]:
    """One round."""
    pick = np.random.default_rng(number)
    found: dict[str, Timed] = {}

    def turn(columns: dict[str, str]) -> None:
        (table / "ordertrail.toml").write_text(config_text(columns))

    def batch(part: int) -> Timed:
        first = rows + part * BATCH_ROWS
        name = tables.batch_name(part)
        news = range(first, first + BATCH_ROWS // 2)
        tables.batch(table / "in" / name, pick, rows, news, BATCH_ROWS // 2, ascending=False)
        return command(table, "run")

    def migrate(*kinds: str) -> Timed:
        done = command(table, "migrate", "--apply")
        said = json.loads(done.output)
        if not said["applied"] or [one["step"] for one in said["steps"]] != list(kinds):
            raise RuntimeError(f"the migration did something else: {said}")
        return done

    batch(1)  # indexes the keys
    found["batch_before"] = batch(2)
    found["rebuild_sound"] = command(table, "rebuild")
    shutil.rmtree(parse_config(config_text(WITHOUT), base=table).table_path("orders_target"))
    found["rebuild"] = command(table, "rebuild")
    turn(ALL)
    found["fill"] = migrate("add", "fill")
    turn({**ALL, "pck_recieved_date": "string"})
    found["type"] = migrate("type")
    found["first_batch_after"] = batch(3)
    found["batch_after"] = batch(4)
    turn({**ALL, "pck_recieved_date": "string", "depot": "string"})
    found["add"] = command(table, "run")
    return found


def ratio(ours: Sequence[Timed], theirs: Sequence[Timed]) -> float:
    """The median of the ratios of the pairs."""
    return round(statistics.median(a.wall_s / b.wall_s for a, b in zip(ours, theirs, strict=True)), 2)


def main() -> None:
    """Measure, and keep the figures in `bench/results/migrate.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--try", dest="only_try", action="store_true", help="keep no figures")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ordertrail-bench-") as folder:
        figures = measure(Path(folder), options.rows, options.rounds)
    if options.only_try:
        print(json.dumps(figures, indent=2))
    else:
        save("migrate", figures)


if __name__ == "__main__":
    main()
