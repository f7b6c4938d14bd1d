"""How Spark can bring weighed rows into the target: by `MERGE`, as the engine does, or by Delta 4.4's `replaceUsing`.

`python -m bench.spark_replace [--rows 10m] [--batch 100k] [--rounds 3]`. Into copies of one target with deletion
vectors, in turns, in one warm session as ordertrail begins it: rows that are weighed already, half of them new versions
of random rows, half with new keys.

- `merge`: with the slots of the batch's keys, see `engines.spark.pruning`;
- `merge_all`: without them, so that all keys of the target are joined;
- `replace_using`: an overwriting write that deletes what has the same keys.

The first two rounds are on no clock. In the end all targets must hold the same rows. No guard is in the way: what the
engine's `MERGE` refuses, a row that somebody changed meanwhile, is not measured here.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import pyarrow as pa

from bench import spark, tables
from bench.report import save
from bench.upsert import sizes
from ordertrail import load_config
from ordertrail.delta.table import Table, scan_sql
from ordertrail.engines.spark.pruning import pruning_of
from ordertrail.rules.tables import target_columns

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

WARM_ROUNDS = 2
WAYS = ("merge", "merge_all", "replace_using")


def measure(work: Path, rows: int, batch: int, rounds: int) -> dict[str, object]:
    """All ways in turns.

    Raises:
        RuntimeError: The targets are not the same in the end.
    """
    base, folder = work / f"base-{rows}-random", work / f"replace-{rows}"
    tables.build(base, {"ordertrail"}, rows, ascending=False)
    for way in WAYS:
        tables.copy(base / "ordertrail", folder / way)
    session = spark.started("engine")
    took: dict[str, list[float]] = {way: [] for way in WAYS}
    ways: dict[str, Callable[[DataFrame, Path], None]] = {
        "merge": lambda found, target: _merge(session, found, target, pruned=True),
        "merge_all": lambda found, target: _merge(session, found, target, pruned=False),
        "replace_using": _replace,
    }
    for number in range(WARM_ROUNDS + rounds):
        path = folder / f"batch-{number}.parquet"
        _weighed(folder / WAYS[0], path, batch, number)
        for way, bring in ways.items():
            os.sync()
            began = time.perf_counter()
            bring(session.read.parquet(str(path)), _target(folder / way))
            took_s = time.perf_counter() - began
            print(f"round {number}, {way}: {took_s:.2f} s", flush=True)
            if number >= WARM_ROUNDS:
                took[way].append(round(took_s, 3))
    session.stop()
    prints = {way: tables.fingerprint("ordertrail", folder / way) for way in WAYS}
    shutil.rmtree(folder)
    if len(set(prints.values())) > 1:
        raise RuntimeError(f"the targets are not the same: {prints}")
    medians = {way: round(statistics.median(ones), 2) for way, ones in took.items()}
    ratios = {f"{way}_to_merge": round(medians[way] / medians["merge"], 2) for way in WAYS[1:]}
    return {"rows": rows, "batch_rows": batch, "median_s": medians, **ratios, "rounds_s": took}


def _target(folder: Path) -> Path:
    config = load_config(folder / "ordertrail.toml")
    return config.table_path(config.tables.target)


def _weighed(folder: Path, path: Path, batch: int, number: int) -> None:
    """Write rows that are weighed: random ones of the target as they become, and as many with new keys."""
    config = load_config(folder / "ordertrail.toml")
    columns = target_columns(config.contract)
    with duckdb.connect() as con:
        con.execute(f"SET TimeZone = 'UTC'; SET threads = 2; SELECT setseed({0.1 + number / 100})")
        rows = scan_sql(con, Table(_target(folder), columns).snapshot(), columns)
        listed = ", ".join(f'"{column.name}"' for column in columns)
        con.execute(
            f"CREATE TABLE picked AS SELECT {listed} FROM {rows} USING SAMPLE {batch} ROWS (reservoir, {number + 1})"
        )
        newer = "last_update_timestamp + INTERVAL 1 DAY AS last_update_timestamp, _revision + 1 AS _revision"
        new = f"'N{number}-' || tracking_num AS tracking_num"
        half = batch // 2
        con.execute(
            f"COPY (SELECT * REPLACE ({newer}) FROM (FROM picked LIMIT {half}) UNION ALL "
            f"SELECT * REPLACE ({new}) FROM (FROM picked OFFSET {half})) TO '{path}' (FORMAT parquet)"
        )


def _merge(session: SparkSession, found: DataFrame, target: Path, *, pruned: bool) -> None:
    found.createOrReplaceTempView("weighed")
    same = "t.tracking_num = s.tracking_num"
    if pruned:
        pruning = pruning_of("tracking_num", (row[0] for row in found.select("tracking_num").collect()))
        assert pruning is not None
        slots, taken = pruning.slots, np.zeros(pruning.slots, dtype=bool)
        taken[list(pruning.taken)] = True
        value = pa.table({"value": pa.ListArray.from_arrays(pa.array([0, slots], pa.int32()), pa.array(taken))})
        session.createDataFrame(value, schema="value ARRAY<BOOLEAN>").createOrReplaceTempView("slots")
        session.sql("DECLARE OR REPLACE VARIABLE taken ARRAY<BOOLEAN>")
        session.sql("SET VARIABLE taken = (SELECT value FROM slots)")
        same += f" AND element_at(taken, CAST(pmod(crc32(CAST(t.tracking_num AS BINARY)), {slots}) AS INT) + 1)"
    rest = "WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *"
    session.sql(f"MERGE INTO delta.`{target}` t USING weighed s ON {same} {rest}").collect()


def _replace(found: DataFrame, target: Path) -> None:
    found.write.format("delta").mode("overwrite").option("replaceUsing", "tracking_num").save(str(target))


def main() -> None:
    """Measure, and keep the figures in `bench/results/spark_replace.json`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=sizes, default=[10_000_000])
    parser.add_argument("--batch", type=sizes, default=[100_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, help="a folder to keep the built tables in, for the next command")
    options = parser.parse_args()
    with spark.workplace(options.work) as work:
        save("spark_replace", measure(work, options.rows[0], options.batch[0], options.rounds))


if __name__ == "__main__":
    main()
