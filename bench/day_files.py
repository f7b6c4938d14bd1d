"""A thousand day files, 1M rows: at once, and in 50 passes in shuffled order; both must give the oracle's target.

`python -m bench.day_files [--files 1000] [--passes 50]`.
"""

from __future__ import annotations

import argparse
import random
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import duckdb
import pyarrow as pa

from bench.feed import COLUMNS, day_files, expected_target
from bench.report import save
from ordertrail import Pipeline
from ordertrail.config import Config, parse_config
from ordertrail.delta.table import Table, scan_sql
from ordertrail.rules.tables import target_columns

CONFIG = """[pipeline]
name = "orders"
source = "in"
archive = "archive"
warehouse = "tables"
settle_s = 0.0
"""


def main() -> None:
    """Measure, compare, and keep the figures in `bench/results/day_files.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--passes", type=int, default=50)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ordertrail-bench-") as folder:
        base = Path(folder)
        (base / "feed").mkdir()
        paths = day_files(base / "feed", options.files)
        expected = expected_target(base / "feed")
        once_s, once = _load(base / "once", [list(paths)])
        shuffled = list(paths)
        random.Random(7).shuffle(shuffled)
        passes = [shuffled[i :: options.passes] for i in range(options.passes)]
        passes_s, many = _load(base / "passes", passes)
        figures: dict[str, object] = {
            "files": options.files,
            "rows_parsed": sum(1 for path in paths for _ in path.open("rb")) - len(paths),
            "shipments": expected.num_rows,
            "at_once_s": round(once_s, 2),
            "shuffled_passes": options.passes,
            "shuffled_passes_s": round(passes_s, 2),
            "at_once_equals_oracle": _same(once, expected),
            "shuffled_equals_oracle": _same(many, expected),
        }
    save("day_files", figures)
    if not (figures["at_once_equals_oracle"] and figures["shuffled_equals_oracle"]):
        raise SystemExit("the target is not the oracle's")


def _load(base: Path, passes: Sequence[Sequence[Path]]) -> tuple[float, pa.Table]:
    config = parse_config(CONFIG, base=base, environ={})
    config.source.mkdir(parents=True)
    seconds = 0.0
    for paths in passes:
        for path in paths:
            shutil.copy2(path, config.source / path.name)
        began = time.perf_counter()
        report = Pipeline(config).run()
        seconds += time.perf_counter() - began
        if len(report.deliveries) != len(paths) or any(config.source.iterdir()):
            raise RuntimeError("a file was left out")
    return seconds, _target(config)


def _target(config: Config) -> pa.Table:
    columns = target_columns(config.contract)
    snapshot = Table(config.table_path(config.tables.target), columns).snapshot()
    connection = duckdb.connect()
    try:
        scan = scan_sql(connection, snapshot, columns)
        return connection.sql(f"SELECT {', '.join(COLUMNS)} FROM {scan}").to_arrow_table()
    finally:
        connection.close()


def _same(found: pa.Table, expected: pa.Table) -> bool:
    """Whether two targets hold the same rows, whatever their order."""
    connection = duckdb.connect()
    try:
        connection.register("found", found)
        connection.register("expected", expected)
        names = ", ".join(c if c != "last_update_timestamp" else f"epoch_us({c}) AS {c}" for c in COLUMNS)
        left, right = f"SELECT {names} FROM found", f"SELECT {names} FROM expected"
        different = f"SELECT count(*) FROM (({left} EXCEPT ALL {right}) UNION ALL ({right} EXCEPT ALL {left}))"
        return bool(found.num_rows == expected.num_rows and connection.execute(different).fetchall()[0][0] == 0)
    finally:
        connection.close()


if __name__ == "__main__":
    main()
