"""The first load of one big file, whole, against DuckDB's bare typed `COPY ... TO parquet` of the same file.

`python -m bench.first_load [--rows 10000000] [--rounds 3]`. The two run in turns, each in a fresh process, timed from
outside. Ours parses, checks, stages, loads target and history, records and archives.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from bench.feed import big_file
from bench.report import Timed, save, summary, timed

NAME = "order_tracking_2026_11_23.csv"
CONFIG = """[pipeline]
name = "orders"
source = "in"
archive = "archive"
warehouse = "tables"
"""
OURS = """
import sys
from ordertrail import Pipeline, load_config
report = Pipeline(load_config(sys.argv[1])).run()
print(report.rows.inserted, report.seconds["total"], report.seconds)
"""
BARE = """
import sys, time, duckdb
connection = duckdb.connect()
connection.execute("SET enable_progress_bar = false").fetchall()
types = {"order_num": "VARCHAR", "tracking_num": "VARCHAR", "pck_recieved_date": "DATE", "package_deliver_date": "DATE",
         "status": "VARCHAR", "address": "VARCHAR", "last_update_timestamp": "TIMESTAMP"}
scan = f"read_csv('{sys.argv[1]}', header = true, columns = {types})"
began = time.perf_counter()
rows = connection.execute(f"COPY (SELECT * FROM {scan}) TO '{sys.argv[2]}' (FORMAT parquet)").fetchall()[0][0]
print(rows, time.perf_counter() - began)
connection.close()
"""
NOT_RACY_S = 3.0
"""A file younger than 2 s when it is found is hashed once more when it is archived; vendors' big files are older."""


def main() -> None:
    """Measure, and keep the figures in `bench/results/first_load.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ordertrail-bench-") as folder:
        base = Path(folder)
        feed = base / NAME
        big_file(feed, options.rows)
        bare: list[Timed] = []
        ours: list[Timed] = []
        for _ in range(options.rounds):
            bare.append(timed(BARE, [str(feed), str(base / "bare.parquet")]))
            ours.append(_load(base, feed, options.rows))
            shutil.rmtree(base / "run")
        figures = {
            "rows": options.rows,
            "file_bytes": feed.stat().st_size,
            "bare_copy": {**summary(bare), "copy_s": [round(_work_s(run), 2) for run in bare]},
            "ordertrail_run": {
                **summary(ours),
                "pass_s": [round(_work_s(run), 2) for run in ours],
                "steps": ours[-1].output.strip(),
            },
        }
    work = statistics.median(map(_work_s, ours)) / statistics.median(map(_work_s, bare))
    process = statistics.median(run.wall_s for run in ours) / statistics.median(run.wall_s for run in bare)
    ratios = {"ratio_of_medians_pass_to_copy": round(work, 2), "ratio_of_medians_whole_processes": round(process, 2)}
    save("first_load", {**figures, **ratios})


def _work_s(run: Timed) -> float:
    """Seconds of the pass, or of the COPY, as the process took them: without the start of Python and its imports."""
    return float(run.output.split()[1])


def _load(base: Path, feed: Path, rows: int) -> Timed:
    run = base / "run"
    (run / "in").mkdir(parents=True)
    shutil.copyfile(feed, run / "in" / NAME)  # a link would be archived by a copy
    (run / "ordertrail.toml").write_text(CONFIG, encoding="utf-8")
    time.sleep(NOT_RACY_S)
    found = timed(OURS, [str(run / "ordertrail.toml")])
    if not found.output.startswith(f"{rows} "):
        raise RuntimeError(f"not all rows were inserted: {found.output}")
    return found


if __name__ == "__main__":
    main()
