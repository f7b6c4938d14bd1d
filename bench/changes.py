"""`ordertrail changes`: the time and the peak memory of a million changes, as a process.

`python -m bench.changes [--rows 1000000] [--batches 10] [--batch 100000] [--rounds 3]`. The target is loaded in parts;
then come the batches, each half new shipments and half updates of random ones. All their changes are written as JSON
lines (to a pipe that a reader empties), as CSV likewise, and as a Parquet file; also the net difference and the changes
of the newest batch alone, which must not cost what all do. Each is a fresh process, timed from outside, in turns.

What the lines add up to must be the target: rows and a sum of hashes of their cells.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import duckdb
import numpy as np

from bench import tables
from bench.feed import COLUMNS
from bench.report import Timed, save, summary, timed, timed_command

_REST = tuple(name for name in COLUMNS if name != "tracking_num")
_RUN = "import sys; from ordertrail import Pipeline, load_config; print(Pipeline(load_config(sys.argv[1])).run().batch)"
_TO_PIPE = """
import subprocess, sys
command = [sys.executable, "-m", "ordertrail", "changes", *sys.argv[1:]]
size, last = 0, b""
with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
    while data := process.stdout.read1(1 << 20):
        size, last = size + len(data), data
assert process.returncode == 0
print(size)
"""


def prepare(folder: Path, rows: int, batches: int, batch: int) -> tuple[Path, int]:
    """Build the target and load the batches.

    Args:
        folder: For all files.
        rows: Of the target before them.
        batches: How many.
        batch: Rows of each.

    Returns:
        The config file, and the first of these batches.
    """
    tables.build(folder, {"ordertrail"}, rows, ascending=False)
    table = folder / "ordertrail"
    config = table / "ordertrail.toml"
    half, first = batch // 2, 0
    for number in range(1, batches + 1):
        news = range(rows + (number - 1) * half, rows + number * half)
        path = table / "in" / tables.batch_name(number)
        tables.batch(path, np.random.default_rng(number), rows, news, half, ascending=False)
        loaded = int(timed(_RUN, [str(config)]).output)
        first = first or loaded
    return config, first


def check(folder: Path, config: Path) -> int:
    """Replay all changes from empty and compare them with the target; returns how many changes there were.

    Raises:
        RuntimeError: They are not the target.
    """
    out = folder / "all.parquet"
    command = [
        sys.executable,
        "-m",
        "ordertrail",
        "changes",
        "-o",
        str(out),
        "--force",
        "--json",
        "--config",
        str(config),
    ]
    done = json.loads(timed_command(command).output)
    names = ", ".join(("tracking_num", *(f"after_{name} AS {name}" for name in _REST)))
    newest = (
        f"SELECT {names} FROM (SELECT *, row_number() OVER (PARTITION BY tracking_num ORDER BY _batch DESC) AS place "
        f"FROM read_parquet('{out}')) WHERE place = 1 AND _change <> 'delete'"
    )
    rows = folder / "replayed.parquet"
    listed = ", ".join(COLUMNS)
    duckdb.connect().execute(f"COPY (SELECT {listed} FROM ({newest})) TO '{rows}' (FORMAT parquet)")
    if tables.fingerprint("parquet", rows) != tables.fingerprint("ordertrail", config.parent):
        raise RuntimeError("the changes do not add up to the target")
    out.unlink()
    rows.unlink()
    return int(done["changes"])


def measure(folder: Path, rows: int, batches: int, batch: int, rounds: int) -> dict[str, object]:
    """All ways in turns.

    Raises:
        RuntimeError: The changes are wrong.
    """
    config, first = prepare(folder, rows, batches, batch)
    all_changes = check(folder, config)
    given = ["--from-batch", str(first), "--config", str(config)]
    newest = ["--from-batch", str(first + batches - 1), "--config", str(config)]
    out = folder / "changes.parquet"
    ways = {
        "jsonl": lambda: timed(_TO_PIPE, given),
        "csv": lambda: timed(_TO_PIPE, [*given, "--format", "csv"]),
        "parquet": lambda: _command([*given, "-o", str(out), "--force"]),
        "net_jsonl": lambda: timed(_TO_PIPE, [*given, "--net"]),
        "newest_batch_jsonl": lambda: timed(_TO_PIPE, newest),
    }
    found: dict[str, list[Timed]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, turn in ways.items():
            found[name].append(turn())
            print(f"round {number}, {name}: {found[name][-1].wall_s:.2f} s", flush=True)
    return {
        "target_rows": rows + batches * (batch // 2),
        "changes": batches * batch,
        "changes_from_empty": all_changes,
        **{name: summary(runs) for name, runs in found.items()},
    }


def _command(words: list[str]) -> Timed:
    return timed_command([sys.executable, "-m", "ordertrail", "changes", *words])


def main() -> None:
    """Measure, and keep the figures in `bench/results/changes.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--batches", type=int, default=10)
    parser.add_argument("--batch", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--try", dest="only_try", action="store_true", help="keep no figures")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ordertrail-bench-") as folder:
        figures = measure(Path(folder), options.rows, options.batches, options.batch, options.rounds)
    if options.only_try:
        print(json.dumps(figures, indent=2))
    else:
        save("changes", figures)


if __name__ == "__main__":
    main()
