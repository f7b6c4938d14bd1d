"""The tables that `bench.upsert` measures on: built once for a size, copied by links, compared at the end.

A table is a folder. Kinds: `ordertrail`, a pipeline with its warehouse; `delta`, a plain Delta table, for delta-rs and
Spark; `duckdb`, a database file; `parquet`, one file, to compare with.
"""

from __future__ import annotations

import os
import shutil
from datetime import date, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder, write_deltalake

from bench.feed import batch_file, big_file
from bench.first_load import CONFIG
from bench.peers import COLUMN_TYPES, TABLE, read_csv_sql
from bench.report import timed
from ordertrail import load_config
from ordertrail.delta.table import Table, scan_sql
from ordertrail.rules.tables import target_columns

PART_ROWS = 10_000_000
"""A bigger table is loaded from several files, so that no step needs memory or disk for the whole."""

LINKED_BYTES = 1 << 20
"""Data files of at least this size are linked: nobody writes into one that is there."""

_MOST_DAYS = 300

_RUN = "import sys; from ordertrail import Pipeline, load_config; Pipeline(load_config(sys.argv[1])).run()"


def build(folder: Path, kinds: set[str], rows: int, *, ascending: bool) -> None:
    """Build the tables of some kinds that are not there yet, all with the same rows.

    Args:
        folder: Of all tables of this size; a mark in it names each finished one.
        kinds: Which.
        rows: Of each table.
        ascending: Whether keys rise with the rows, or are spread at random.
    """
    wanted = sorted(kind for kind in kinds if not (folder / f"{kind}.done").exists())
    for kind in wanted:
        shutil.rmtree(folder / kind, ignore_errors=True)
        (folder / kind).mkdir(parents=True)
    for number, first in enumerate(range(0, rows, PART_ROWS) if wanted else ()):
        day = f"2026_10_{1 + number:02d}"
        feed = folder / f"order_tracking_{day}.csv"
        big_file(feed, min(PART_ROWS, rows - first), first=first, ascending=ascending)
        for kind in wanted:
            _ADD[kind](folder / kind, feed)
        feed.unlink()
    for kind in wanted:
        (folder / f"{kind}.done").touch()


def copy(table: Path, to: Path) -> None:
    """Copy a table: its data files are linked, all that could be written into is copied."""
    for path in sorted(table.rglob("*")):
        place = to / path.relative_to(table)
        if path.is_dir():
            place.mkdir(parents=True, exist_ok=True)
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".parquet" and path.stat().st_size >= LINKED_BYTES:
            os.link(path, place)
        else:
            shutil.copy2(path, place)


def batch(path: Path, pick: np.random.Generator, rows: int, news: range, updates: int, *, ascending: bool) -> None:
    """Write one batch.

    Args:
        path: As `batch_file` wants it.
        pick: What the choice of keys depends on.
        rows: Of the table when it was built; these are updated.
        news: Shipments that are new.
        updates: How many shipments of the table to update: drawn at random, or neighbours if `ascending`.
        ascending: Keys rise with the rows, and the batch's rows with them.
    """
    if ascending:
        first = int(pick.integers(0, rows - updates + 1))
        old = np.arange(first, first + updates, dtype=np.int64)
        shipments = np.concatenate([old, np.arange(news.start, news.stop, dtype=np.int64)])
    else:
        old = pick.choice(rows, updates, replace=False)
        shipments = pick.permutation(np.concatenate([old, np.arange(news.start, news.stop, dtype=np.int64)]))
    batch_file(path, shipments, int(pick.integers(1 << 31)), ascending=ascending)


def drop_old_files(table: Path) -> None:
    """Take away the data files of a Delta table's earlier versions; on no clock, to spare the disk."""
    live = {os.path.realpath(uri.removeprefix("file://")) for uri in DeltaTable(table).file_uris()}
    for path in table.glob("*.parquet"):
        if os.path.realpath(path) not in live:
            path.unlink()


def fingerprint(kind: str, table: Path) -> tuple[int, int]:
    """`fingerprint_of` a table."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
        return fingerprint_of(connection, relation(kind, table, connection))


def fingerprint_of(connection: duckdb.DuckDBPyConnection, rows: str) -> tuple[int, int]:
    """The number of some rows, and a sum of hashes of their cells in the contract's columns; `rows` is SQL."""
    cells = ", ".join(f"CAST({name} AS VARCHAR)" for name in COLUMN_TYPES)
    # A time that is kept as text is the same time.
    cells = cells.replace(
        "CAST(last_update_timestamp AS VARCHAR)", "epoch_us(CAST(last_update_timestamp AS TIMESTAMPTZ))"
    )
    sql = f"SELECT count(*), coalesce(sum(CAST(hash({cells}) AS HUGEINT)), 0) FROM {rows}"
    count, total = connection.execute(sql).fetchall()[0]
    return int(count), int(total)


def relation(kind: str, table: Path, connection: duckdb.DuckDBPyConnection) -> str:
    """SQL of a table's rows, for a connection whose time zone is UTC; a reader of them is read once."""
    if kind == "ordertrail":
        config = load_config(table / "ordertrail.toml")
        columns = target_columns(config.contract)
        return scan_sql(connection, Table(config.table_path(config.tables.target), columns).snapshot(), columns)
    if kind == "delta":
        connection.register("rows", _reader(table))
        return "rows"
    if kind == "duckdb":
        connection.execute(f"ATTACH IF NOT EXISTS '{table / 'orders.duckdb'}' AS kept (READ_ONLY)")
        return f"kept.{TABLE}"
    return f"read_parquet('{table}')"


def _reader(table: Path) -> pa.RecordBatchReader:
    names = ", ".join(COLUMN_TYPES)
    query = QueryBuilder().register("t", DeltaTable(table))
    return pa.RecordBatchReader.from_stream(query.execute(f"SELECT {names} FROM t"))


def _add_to_ordertrail(table: Path, feed: Path) -> None:
    (table / "in").mkdir(exist_ok=True)
    config = table / "ordertrail.toml"
    config.write_text(CONFIG.replace('name = "orders"', 'name = "orders"\nsettle_s = 0.0'), encoding="utf-8")
    os.link(feed, table / "in" / feed.name)
    timed(_RUN, [str(config)])
    # The vendors' files are of no use to a later pass; the archive's marker is.
    for archived in (table / "archive").rglob("*.csv"):
        archived.unlink()


def _add_to_delta(table: Path, feed: Path) -> None:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
        reader = connection.sql(f"FROM {read_csv_sql(feed)}").to_arrow_reader(1 << 17)
        write_deltalake(table, reader, mode="append")


def _add_to_duckdb(table: Path, feed: Path) -> None:
    columns = ", ".join(f"{name} {sql_type}" for name, sql_type in COLUMN_TYPES.items())
    with duckdb.connect(str(table / "orders.duckdb")) as connection:
        connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
        connection.execute(f"CREATE TABLE IF NOT EXISTS {TABLE} ({columns})")
        connection.execute(f"INSERT INTO {TABLE} FROM {read_csv_sql(feed)}").fetchall()


_ADD = {"ordertrail": _add_to_ordertrail, "delta": _add_to_delta, "duckdb": _add_to_duckdb}


def batch_name(number: int) -> str:
    """File name of a batch: it sorts after the one before and after the table's files, by day and then by number.

    A file whose name says a day a year ahead would be held.
    """
    day = date(2026, 11, 1) + timedelta(days=min(number, _MOST_DAYS))
    return f"order_tracking_{day:%Y_%m_%d}_{number:06d}.csv"
