"""A thousand small batches with maintenance on: what a full read costs then, and how files, log and folder grow.

`python -m bench.many_batches [--rows 1000000] [--batches 1000] [--batch 1000]`. Half of each batch updates random keys.
All passes are in one process, as `watch` runs them, and maintenance comes every so many batches. Old files and log
entries are kept for minutes here, not days, so that what is kept can be seen to level out.

In the end the target is read whole, all columns, by DuckDB as ordertrail reads it, by delta-rs' QueryBuilder and by
Polars: in turns, each in a fresh process, as it is and as a copy of it that has just been compacted.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from bench import tables
from bench.report import peak_mb, save, timed
from ordertrail import Pipeline, load_config
from ordertrail.config import Config, Maintenance
from ordertrail.delta.debt import Compaction, debt_of
from ordertrail.delta.log import DeltaLog
from ordertrail.delta.snapshot import read_snapshot
from ordertrail.keep.maintain import maintain, plan_maintenance
from ordertrail.startup import share_arenas

READERS: Mapping[str, str] = {
    "ordertrail": """
import duckdb
from ordertrail.delta.table import Table, scan_sql
from ordertrail.rules.tables import target_columns
from ordertrail import load_config
config = load_config(sys.argv[1])
columns = target_columns(config.contract)
connection = duckdb.connect()
began = time.perf_counter()
snapshot = Table(config.table_path(config.tables.target), columns).snapshot()
found = connection.sql(f"SELECT * EXCLUDE (_pos) FROM {scan_sql(connection, snapshot, columns)}").to_arrow_table()
print(time.perf_counter() - began, found.num_rows)
""",
    "delta_rs": """
import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder
began = time.perf_counter()
found = pa.table(QueryBuilder().register("t", DeltaTable(sys.argv[2])).execute("SELECT * FROM t").read_all())
print(time.perf_counter() - began, found.num_rows)
""",
    "polars": """
import polars
began = time.perf_counter()
found = polars.scan_delta(sys.argv[2]).collect()
print(time.perf_counter() - began, found.height)
""",
}
EVERY = Maintenance().max_small_files + 1
"""A batch adds a file: with so many `watch` maintains the table."""
TIGHT = Maintenance(max_small_files=1, max_deleted_share=0.0, retention_h=0.0, log_retention_h=0.0)
"""Limits by which nothing is left to compact."""


def main() -> None:
    """Measure, and keep the figures in `bench/results/many_batches.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the target before the first batch")
    parser.add_argument("--batches", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=1000, help="rows of a batch")
    parser.add_argument("--every", type=int, default=EVERY, help="batches from one maintenance to the next")
    parser.add_argument("--retention", type=float, default=0.05, help="hours that old files and log entries stay")
    parser.add_argument("--rounds", type=int, default=15, help="of full reads")
    options = parser.parse_args()
    share_arenas()
    with tempfile.TemporaryDirectory(prefix="ordertrail-bench-") as scratch:
        base = Path(scratch)
        tables.build(base, {"ordertrail"}, options.rows, ascending=False)
        folder = base / "ordertrail"
        limits = Maintenance(retention_h=options.retention, log_retention_h=options.retention)
        config = replace(load_config(folder / "ordertrail.toml"), maintenance=limits)
        began = time.perf_counter()
        samples = list(_load(config, options.rows, options.batches, options.batch, options.every))
        figures: dict[str, object] = {
            "rows_before": options.rows,
            "batches": options.batches,
            "batch_rows": options.batch,
            "maintained_every_batches": options.every,
            "retention_h": options.retention,
            "seconds": round(time.perf_counter() - began, 1),
            "peak_mb": round(peak_mb(os.getpid())),
            "full_read": _compare(config, base, options.rounds),
            "over_time": samples,
        }
    save("many_batches", figures)


def _load(config: Config, rows: int, batches: int, batch_rows: int, every: int) -> Iterator[dict[str, object]]:
    """Load the batches; the state of the tables now and then."""
    pick = np.random.default_rng(7)
    updates = batch_rows // 2
    passes_s: list[float] = []
    upkeep_s: list[float] = []
    for number in range(batches):
        first = rows + number * (batch_rows - updates)
        news = range(first, first + batch_rows - updates)
        tables.batch(config.source / tables.batch_name(number), pick, rows, news, updates, ascending=False)
        began = time.perf_counter()
        report = Pipeline(config).run()
        passes_s.append(time.perf_counter() - began)
        if (report.rows.inserted, report.rows.updated) != (batch_rows - updates, updates):
            raise RuntimeError(f"batch {number} came out as {report.rows}")
        # Not after the last one: the target is read when it is worn the most.
        if (number + 1) % every == 0 and number + 1 < batches:
            began = time.perf_counter()
            maintain(config)
            upkeep_s.append(time.perf_counter() - began)
        if (number + 1) % max(1, batches // 20) == 0 or number == 0:
            sample = {"batches": number + 1, **_timings(passes_s, upkeep_s), **_state(config)}
            print(json.dumps(sample), flush=True)
            yield sample
            passes_s, upkeep_s = [], []


def _timings(passes_s: Sequence[float], upkeep_s: Sequence[float]) -> dict[str, object]:
    return {
        "pass_s": {"median": round(statistics.median(passes_s), 3), "max": round(max(passes_s), 3)},
        "maintenance_s": round(statistics.fmean(upkeep_s), 3) if upkeep_s else None,
    }


def _state(config: Config) -> dict[str, object]:
    """Files, log entries and bytes of the target, of history, and of all there is in the warehouse."""
    found: dict[str, object] = {}
    for name in (config.tables.target, config.tables.history):
        root = config.table_path(name)
        snapshot = read_snapshot(DeltaLog(root))
        debt = debt_of(snapshot, config.maintenance)
        files = [path for path in root.rglob("*") if path.is_file()]
        found[name] = {
            "live_files": debt.files,
            "small_files": debt.small_files,
            "deleted_share": round(debt.deleted_share, 4),
            "live_bytes": sum(file.size_bytes for file in snapshot.files.values()),
            "data_files_in_folder": sum(1 for path in files if "_delta_log" not in path.parts),
            "log_entries": sum(1 for path in files if path.parent.name == "_delta_log"),
            "folder_bytes": sum(path.stat().st_size for path in files),
        }
    everything = [path for path in config.warehouse.rglob("*") if path.is_file()]
    found["warehouse"] = {"files": len(everything), "bytes": sum(path.stat().st_size for path in everything)}
    return found


def _compare(config: Config, base: Path, rounds: int) -> dict[str, object]:
    """Seconds of full reads of the target, worn and freshly compacted."""
    fresh = base / "fresh"
    tables.copy(config.source.parent, fresh)
    compacted = replace(load_config(fresh / "ordertrail.toml"), maintenance=TIGHT)
    while any(isinstance(step, Compaction) for step in plan_maintenance(compacted).steps):
        maintain(compacted)
    places = {"worn": config, "fresh": compacted}
    logs = {which: DeltaLog(place.table_path(place.tables.target)) for which, place in places.items()}
    files = {which: len(read_snapshot(log).files) for which, log in logs.items()}
    seconds: dict[tuple[str, str], list[float]] = {(name, which): [] for name in READERS for which in places}
    rows: set[int] = set()
    for _ in range(rounds):
        for name, which in seconds:
            took_s, found = _read(READERS[name], places[which])
            seconds[name, which].append(took_s)
            rows.add(found)
    if len(rows) > 1:
        raise RuntimeError(f"readers do not agree on the number of rows: {sorted(rows)}")
    shutil.rmtree(fresh)
    result: dict[str, object] = {"rows": rows.pop(), "live_files": files}
    for name in READERS:
        worn_s, fresh_s = (statistics.median(seconds[name, which]) for which in places)
        result[name] = {
            "worn_s": round(worn_s, 3),
            "fresh_s": round(fresh_s, 3),
            "worn_to_fresh": round(worn_s / fresh_s, 2),
            "rounds_s": {which: [round(one, 3) for one in seconds[name, which]] for which in places},
        }
    return result


def _read(code: str, config: Config) -> tuple[float, int]:
    toml = config.source.parent / "ordertrail.toml"
    run = timed("import sys, time" + code, [str(toml), str(config.table_path(config.tables.target))])
    took_s, rows = run.output.split()[-2:]
    return float(took_s), int(rows)


if __name__ == "__main__":
    main()
