"""The ways to bring a batch into a table that `bench.upsert` compares; each runs in a process of its own.

A way gets the table's place and the batch's CSV, does the work, and prints one JSON object: the seconds of the work
that changes the table (`load_s`), without the start of Python, its imports and the reading of the CSV, and what it
knows besides. The peers get the batch typed by DuckDB, in memory, before that clock starts. They check nothing, keep
no history, and archive nothing.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

COLUMN_TYPES = {
    "order_num": "VARCHAR",
    "tracking_num": "VARCHAR",
    "pck_recieved_date": "DATE",
    "package_deliver_date": "DATE",
    "status": "VARCHAR",
    "address": "VARCHAR",
    "last_update_timestamp": "TIMESTAMPTZ",
}
SAME_KEY = "t.tracking_num = s.tracking_num"
TABLE = "orders_target"

Figures = dict[str, object]


def read_csv_sql(path: Path) -> str:
    """DuckDB's typed reader of a batch; the session's time zone must be UTC."""
    quoted = str(path).replace("'", "''")
    return f"read_csv('{quoted}', header = true, columns = {COLUMN_TYPES})"


def merge_sql(table: str, batch: str) -> str:
    """DuckDB's `MERGE` of a batch by the key; both are SQL."""
    sets = ", ".join(f"{name} = s.{name}" for name in COLUMN_TYPES)
    values = ", ".join(f"s.{name}" for name in COLUMN_TYPES)
    return (
        f"MERGE INTO {table} AS t USING {batch} AS s ON {SAME_KEY} WHEN MATCHED THEN UPDATE SET {sets} "
        f"WHEN NOT MATCHED THEN INSERT ({', '.join(COLUMN_TYPES)}) VALUES ({values})"
    )


def delta_rs_merge(table: Path, csv: Path) -> Figures:
    """delta-rs `merge`: update what matches, insert the rest."""
    from deltalake import DeltaTable

    rows = _typed(csv)
    began = time.perf_counter()
    # A source that is not streamed lets delta-rs leave out files by their least and greatest keys.
    merge = DeltaTable(table).merge(rows, SAME_KEY, source_alias="s", target_alias="t", streamed_exec=False)
    found = merge.when_matched_update_all().when_not_matched_insert_all().execute()
    took_s = time.perf_counter() - began
    updated, inserted = found["num_target_rows_updated"], found["num_target_rows_inserted"]
    return {"load_s": took_s, "inserted": inserted, "updated": updated}


def delta_rs_notebooks(table: Path, csv: Path) -> Figures:
    """The notebooks' own way on delta-rs: delete the keys that match, then append the batch; two commits."""
    from deltalake import DeltaTable, write_deltalake

    rows = _typed(csv)
    began = time.perf_counter()
    merge = DeltaTable(table).merge(rows, SAME_KEY, source_alias="s", target_alias="t", streamed_exec=False)
    deleted = merge.when_matched_delete().execute()["num_target_rows_deleted"]
    write_deltalake(table, rows, mode="append")
    took_s = time.perf_counter() - began
    return {"load_s": took_s, "inserted": rows.num_rows - deleted, "updated": deleted}


def polars_merge(table: Path, csv: Path) -> Figures:
    """Polars' `write_delta` with `mode="merge"`: delta-rs does the work."""
    import polars as pl

    rows = pl.from_arrow(_typed(csv))
    assert isinstance(rows, pl.DataFrame)
    began = time.perf_counter()
    options = {"predicate": SAME_KEY, "source_alias": "s", "target_alias": "t"}
    merge = rows.write_delta(str(table), mode="merge", delta_merge_options=options)
    found = merge.when_matched_update_all().when_not_matched_insert_all().execute()
    took_s = time.perf_counter() - began
    updated, inserted = found["num_target_rows_updated"], found["num_target_rows_inserted"]
    return {"load_s": took_s, "inserted": inserted, "updated": updated}


def duckdb_merge(table: Path, csv: Path) -> Figures:
    """DuckDB's MERGE into a table of its own database file, with the checkpoint that brings it there. Not Delta."""
    import duckdb

    with duckdb.connect(str(table / "orders.duckdb")) as connection:
        connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
        before = connection.execute(f"SELECT count(*) FROM {TABLE}").fetchall()[0][0]
        rows = connection.execute(f"CREATE TEMP TABLE batch AS FROM {read_csv_sql(csv)}").fetchall()[0][0]
        began = time.perf_counter()
        connection.execute(merge_sql(TABLE, "batch")).fetchall()
        connection.execute("CHECKPOINT").fetchall()
        took_s = time.perf_counter() - began
        after = connection.execute(f"SELECT count(*) FROM {TABLE}").fetchall()[0][0]
    return {"load_s": took_s, "inserted": after - before, "updated": rows - (after - before)}


def spark_merge(table: Path, csv: Path) -> Figures:
    """Spark in a process of its own, session start included: CSV to stage, then MERGE."""
    from bench.spark import alone

    return alone("merge", table, csv)


def spark_notebooks(table: Path, csv: Path) -> Figures:
    """Spark in a process of its own, session start included: CSV to stage, delete the matches, append."""
    from bench.spark import alone

    return alone("notebooks", table, csv)


WAYS: Mapping[str, Callable[[Path, Path], Figures]] = {
    "delta_rs_merge": delta_rs_merge,
    "delta_rs_notebooks": delta_rs_notebooks,
    "polars_merge": polars_merge,
    "duckdb_merge": duckdb_merge,
    "spark_merge_process": spark_merge,
    "spark_notebooks_process": spark_notebooks,
}


def main() -> None:
    """Run a way: its name, the table's folder, the batch's CSV."""
    name, table, csv = sys.argv[1:4]
    print(json.dumps(WAYS[name](Path(table), Path(csv))))


def _typed(csv: Path) -> pa.Table:
    import duckdb

    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return connection.sql(f"FROM {read_csv_sql(csv)}").to_arrow_table()


if __name__ == "__main__":
    main()
