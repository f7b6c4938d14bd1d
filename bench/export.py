"""`ordertrail export` of the target, against DuckDB's own `COPY` of the same rows.

`python -m bench.export [--rows 10000000] [--rounds 5]`. The target is loaded in parts, then a batch of 100,000 rows
brings 50,000 of them up to date, so deletion vectors mark rows of it. The contenders run in turns, each as a fresh
process, timed from outside:

- `ordertrail export target`, to Parquet and to CSV;
- DuckDB's `COPY` of a Parquet file with the same rows, to Parquet and to CSV, with times in its own words.

The two Parquet files must hold the same rows, and the CSV files as many. A workbook of 100,000 of the rows is timed
beside them, without a peer.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bench import tables
from bench.report import Timed, save, summary, timed, timed_command

BATCH_ROWS = 100_000
SHEET_ROWS = 100_000
COPY = """
import sys, duckdb
con = duckdb.connect()
con.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
options = "FORMAT parquet" if sys.argv[2].endswith(".parquet") else "FORMAT csv, HEADER true"
print(con.execute(f"COPY (FROM read_parquet('{sys.argv[1]}')) TO '{sys.argv[2]}' ({options})").fetchall()[0][0])
"""
_RUN = "import sys; from ordertrail import Pipeline, load_config; print(Pipeline(load_config(sys.argv[1])).run().rows)"


def prepare(folder: Path, rows: int) -> Path:
    """Build the target, with rows that a deletion vector marks.

    Args:
        folder: For all files.
        rows: Of the target before the batch.

    Returns:
        The config file.
    """
    tables.build(folder, {"ordertrail"}, rows, ascending=False)
    table = folder / "ordertrail"
    news = range(rows, rows + BATCH_ROWS // 2)
    updates = BATCH_ROWS // 2
    batch = table / "in" / tables.batch_name(1)
    tables.batch(batch, np.random.default_rng(1), rows, news, updates, ascending=False)
    config = table / "ordertrail.toml"
    timed(_RUN, [str(config)])
    return config


def export(config: Path, out: Path, *more: str) -> Timed:
    """One export as a process of its own, its rows in `output`."""
    words = ["export", "target", "-o", str(out), "--force", "--json", "--config", str(config), *more]
    found = timed_command([sys.executable, "-m", "ordertrail", *words])
    return Timed(found.wall_s, found.cpu_s, found.peak_mb, str(json.loads(found.output)["rows"]))


def measure(folder: Path, rows: int, rounds: int) -> dict[str, object]:
    """All contenders in turns.

    Raises:
        RuntimeError: A contender failed, or wrote other rows.
    """
    config = prepare(folder, rows)
    same = folder / "same.parquet"
    wanted = export(config, same).output
    found: dict[str, list[Timed]] = {}
    for number in range(rounds):
        for ending in (".parquet", ".csv"):
            ours, theirs = folder / f"ours{ending}", folder / f"theirs{ending}"
            turns = {
                f"ordertrail_export{ending.replace('.', '_')}": lambda out=ours: export(config, out),
                f"duckdb_copy{ending.replace('.', '_')}": lambda out=theirs: timed(COPY, [str(same), str(out)]),
            }
            for name, turn in turns.items():
                found.setdefault(name, []).append(turn())
                print(f"round {number}, {name}: {found[name][-1].wall_s:.2f} s", flush=True)
                if found[name][-1].output.strip() != wanted:
                    raise RuntimeError(f"{name} wrote {found[name][-1].output}, not {wanted} rows")
            if ending == ".parquet" and number == 0:
                _compare(ours, theirs, folder / "ordertrail")
            ours.unlink()
            theirs.unlink()
    sheet = export(config, folder / "sheet.xlsx", "--where", f"_batch = 1 AND _file_row <= {SHEET_ROWS}")
    return {
        "rows": int(wanted),
        "rows_marked": BATCH_ROWS // 2,
        **{name: summary(runs) for name, runs in found.items()},
        **{f"ratio_{ending}": _ratios(found, ending) for ending in ("parquet", "csv")},
        "workbook": {"rows": int(sheet.output), "wall_s": round(sheet.wall_s, 2), "peak_mb": round(sheet.peak_mb)},
    }


def _compare(ours: Path, theirs: Path, table: Path) -> None:
    prints = {tables.fingerprint("parquet", ours), tables.fingerprint("parquet", theirs)}
    prints.add(tables.fingerprint("ordertrail", table))
    if len(prints) != 1:
        raise RuntimeError(f"the files and the target do not hold the same rows: {prints}")


def _ratios(found: Mapping[str, Sequence[Timed]], ending: str) -> dict[str, object]:
    """How long ours takes, as a multiple of DuckDB's turn beside it."""
    pairs = zip(found[f"ordertrail_export_{ending}"], found[f"duckdb_copy_{ending}"], strict=True)
    ratios = [ours.wall_s / theirs.wall_s for ours, theirs in pairs]
    return {"median_of_pairs": round(statistics.median(ratios), 2), "pairs": [round(ratio, 2) for ratio in ratios]}


def main() -> None:
    """Measure, and keep the figures in `bench/results/export.json`."""
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
        save("export", figures)


if __name__ == "__main__":
    main()
