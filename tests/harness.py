"""A whole pipeline in a folder of a test's own: drop files, run passes, read every table back with every reader.

What a test says about a pipeline after some passes it says through `House`; what must hold after any passes
whatsoever is in `check_books`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import duckdb
import polars as pl
import polars_deltalake
import pyarrow as pa
from deltalake import DeltaTable, QueryBuilder
from msgspec.structs import replace

from ordertrail.config import Config, parse_config
from ordertrail.delta.log import DeltaLog
from ordertrail.delta.snapshot import read_snapshot
from ordertrail.delta.table import scan_sql
from ordertrail.look.status import Reader
from ordertrail.markers import MARKER
from ordertrail.model import ROW_OUTCOMES, Outcome, Probe, RunReport, no_probe
from ordertrail.pipeline import Pipeline
from ordertrail.rules.tables import (
    DELIVERIES,
    REJECTS,
    TableColumn,
    history_columns,
    stage_columns,
    target_columns,
)
from tests.feeds import DAY_ONE, FeedFile
from tests.oracle import Row, keyed

NOON_NS = int(DAY_ONE.timestamp()) * 10**9 + 12 * 3600 * 10**9
"""Modification time of files whose test does not care: noon of the first day of the feeds."""

CLOCKS = frozenset(
    {
        "_inserted_at",
        "_updated_at",
        "_loaded_at",
        "rejected_at",
        "staged_at",
        "loaded_at",
        "discovered_at",
        "changed_at",
    }
)
"""Columns with audit times: every pipeline has its own."""

Read = Callable[["House", str, int | None], list[Row]]


@dataclass(slots=True)
class House:
    """A pipeline and its folders.

    Attributes:
        config: As parsed; `replace` it to change a setting between passes.
        foreign: Somebody else writes to the target in this test: `check_books` then leaves it out.
    """

    config: Config
    foreign: bool = field(default=False)

    # -- what vendors and passes do -------------------------------------------------------------------------

    def drop(self, path: str, content: str | bytes, mtime_ns: int = NOON_NS) -> Path:
        """Lay a file into the source folder, as a vendor does: whole, with its modification time."""
        file = self.config.source / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        os.utime(file, ns=(mtime_ns, mtime_ns))
        return file

    def drop_all(self, files: Sequence[FeedFile]) -> None:
        """Lay the files of a feed into the source folder."""
        for file in files:
            self.drop(file.path, file.content, file.mtime_ns)

    def turn(self, **changes: Any) -> None:
        """Change fields of the config between two passes, such as the engine."""
        self.config = replace(self.config, **changes)

    def run(self, probe: Probe = no_probe) -> RunReport:
        """One pass."""
        return self.pipeline(probe).run()

    def stage(self) -> RunReport:
        """The first notebook."""
        return self.pipeline().stage()

    def load(self) -> RunReport:
        """The second notebook."""
        return self.pipeline().load()

    def pipeline(self, probe: Probe = no_probe) -> Pipeline:
        """The pipeline of the config."""
        return Pipeline(self.config, probe=probe)

    # -- what is there afterwards ---------------------------------------------------------------------------

    def target(self) -> dict[tuple[Any, ...], Row]:
        """The contract columns of each key's latest state, as `oracle.judge` gives them; fails if a key is there twice.

        They are those of the target or, where that keeps all rows, of the view `orders_current`.
        """
        rows = self.current() if self.config.appends else self.rows("target")
        return keyed(rows, self.config.contract)

    def current(self) -> list[Row]:
        """The rows of the view `orders_current`."""
        # By the folders, also of tables that a catalog keeps.
        with Reader(replace(self.config, engine="embedded")) as reader:
            return reader.query(f"FROM {self.config.current}").dicts()  # type: ignore[return-value]

    def kept(self) -> Counter[tuple[object, ...]]:
        """How often the target has each row of a delivery that counts: the contract's columns and `_rescued`."""
        counting = {row["delivery_id"] for row in self.rows("deliveries") if row["state"] == "loaded"}
        names = (*self.config.contract.names, "_rescued")
        rows = self.rows("target")
        return Counter(tuple(row[name] for name in names) for row in rows if row["_delivery_id"] in counting)

    def rows(self, table: str, version: int | None = None) -> list[Row]:
        """All rows of `stage`, `target`, `history`, `rejects` or `deliveries`, in no particular order."""
        return read_delta_rs(self, table, version)

    def delivery(self, file_name: str) -> Row:
        """The row of `orders_deliveries` of the newest delivery with this file name."""
        found = [row for row in self.rows("deliveries") if row["file_name"] == file_name]
        return max(found, key=lambda row: str(row["delivery_id"]))

    def outcomes(self) -> dict[tuple[str, int], str]:
        """`_outcome` of history by file name and file row; a file name that came twice must not matter."""
        return {(r["_file_name"], r["_file_row"]): r["_outcome"] for r in self.rows("history")}  # type: ignore[misc]

    def table_path(self, table: str) -> Path:
        """The folder of a table, by its word; also of one with a name, where the catalog keeps it there."""
        return replace(self.config, engine="embedded").table_path(getattr(self.config.tables, table))

    def version(self, table: str = "target") -> int:
        """The newest version of a table."""
        return DeltaTable(self.table_path(table)).version()

    def actions(self, table: str, version: int) -> list[dict[str, Any]]:
        """The actions of one commit of a table, as they stand in its log."""
        entry = self.table_path(table) / "_delta_log" / f"{version:020d}.json"
        return [json.loads(line) for line in entry.read_text().splitlines()]

    def left(self) -> list[str]:
        """Paths of all that is in the source folder, hidden files too, but for the pipeline's marker."""
        source = self.config.source
        found = (path for path in source.rglob("*") if not path.is_dir() and path.name != MARKER)
        return sorted(str(path.relative_to(source)) for path in found)

    def archived(self) -> dict[str, bytes]:
        """Content of every file in the archive but for what is ours (marker, notes), by its path below it."""
        root = self.config.archive
        found = (path for path in sorted(root.rglob("*")) if path.is_file() and not path.name.startswith(MARKER))
        return {str(path.relative_to(root)): path.read_bytes() for path in found}


def open_house(root: Path, toml: str = "", engine: str = "embedded", **changes: Any) -> House:
    """Make a pipeline in a folder.

    Args:
        root: Holds source, archive and warehouse.
        toml: Further lines of `ordertrail.toml`; they begin inside the section `[pipeline]`.
        engine: Of the pipeline.
        changes: Fields of the parsed `Config` to replace.

    Returns:
        The house, its source folder made. Files count as complete at once (`settle_s = 0`).
    """
    head = f'[pipeline]\nsource = "source"\narchive = "archive"\nwarehouse = "warehouse"\nengine = "{engine}"\n'
    config = parse_config(f"{head}settle_s = 0\nthreads = 1\n{toml}", base=root, environ={})
    config.source.mkdir(parents=True, exist_ok=True)
    return House(replace(config, **changes))


def copied(house: House, folder: Path) -> House:
    """A copy of a pipeline in another folder, to go on with."""
    shutil.copytree(house.config.source.parent, folder)
    return House(replace(house.config, **{name: folder / name for name in ("source", "archive", "warehouse")}))


@contextmanager
def without_fsync() -> Iterator[None]:
    """Let `fsync` do nothing, for tests of what is computed and not of what survives; halves the time of a pass."""
    with mock.patch("os.fsync", return_value=None):
        yield


# --- readers -------------------------------------------------------------------------------------------------------


def read_delta_rs(house: House, table: str, version: int | None = None) -> list[Row]:
    """With delta-rs' own query engine."""
    found = QueryBuilder().register("t", DeltaTable(house.table_path(table), version=version))
    return _python_rows(pa.table(found.execute("SELECT * FROM t")), columns_of(house, table))


def read_polars(house: House, table: str, version: int | None = None) -> list[Row]:
    """With Polars."""
    found = pl.scan_delta(str(house.table_path(table)), version=version).collect()
    return _python_rows(found.to_arrow(), columns_of(house, table))


def read_duckdb(house: House, table: str, version: int | None = None) -> list[Row]:
    """With DuckDB through our snapshot, as `ordertrail query` does."""
    columns = columns_of(house, table)
    con = _reading()
    relation = scan_sql(con, read_snapshot(DeltaLog(house.table_path(table)), version), columns)
    return _python_rows(con.sql(f"FROM {relation}").to_arrow_table(), columns)


@cache
def _reading() -> duckdb.DuckDBPyConnection:
    """A database of the readers' own, one for all tests: to begin one takes longer than to read with it."""
    con = duckdb.connect(config={"threads": 1})
    con.execute("SET TimeZone = 'UTC'")
    con.execute("SET enable_external_file_cache = false")  # tests damage files
    return con


def read_kernel(house: House, table: str, version: int | None = None) -> list[Row]:
    """With delta-kernel, whose plugin for Polars shares no code with delta-rs' reader."""
    found = polars_deltalake.scan_delta(str(house.table_path(table)), version=version).collect()
    return _python_rows(found.to_arrow(), columns_of(house, table))


READERS: Mapping[str, Read] = {
    "delta-rs": read_delta_rs, "Polars": read_polars, "DuckDB": read_duckdb, "delta-kernel": read_kernel
}  # fmt: skip


def columns_of(house: House, table: str) -> tuple[TableColumn, ...]:
    """The columns of a table."""
    contract = house.config.contract
    match table:
        case "stage":
            return stage_columns(contract)
        case "target":
            return target_columns(contract)
        case "history":
            return history_columns(contract)
        case "rejects":
            return REJECTS
        case _:
            return DELIVERIES


def _python_rows(found: pa.Table, columns: Sequence[TableColumn]) -> list[Row]:
    rows: list[Row] = found.select([column.name for column in columns]).to_pylist()
    return rows


def bag(rows: Sequence[Row]) -> Counter[tuple[tuple[str, object], ...]]:
    """Rows without their order, repeats counted."""
    return Counter(tuple(sorted(row.items())) for row in rows)


def check_readers(house: House) -> None:
    """Every reader gives the same rows of every table that others read (P9)."""
    for table in ("target", "history", "rejects", "deliveries"):
        if not (house.table_path(table) / "_delta_log").exists():
            continue
        first, *others = ((name, bag(read(house, table, None))) for name, read in READERS.items())
        for name, rows in others:
            assert rows == first[1], f"{name} reads {table} differently from {first[0]}"


# --- what must hold after any passes -------------------------------------------------------------------------------


def check_books(house: House) -> None:
    """One row a key, every row accounted for, and every row of the target found in the history where it says.

    Of a house where a foreign writer was, only the deliveries and the history are looked at.
    """
    if not (house.table_path("deliveries") / "_delta_log").exists():
        return
    history, deliveries = house.rows("history"), house.rows("deliveries")
    by_outcome = Counter((row["_delivery_id"], row["_outcome"]) for row in history)
    for delivery in deliveries:
        counts = {outcome: delivery[f"rows_{outcome}"] or 0 for outcome in Outcome}
        assert delivery["rows_parsed"] == sum(counts.values()), f"P3 does not hold: {delivery}"  # type: ignore[arg-type]
        if delivery["state"] not in ("loaded", "undone", "replayed"):
            assert not any(by_outcome[delivery["delivery_id"], o] for o in Outcome), f"rows of {delivery} landed"
            continue
        for outcome in set(ROW_OUTCOMES) - {Outcome.REJECTED}:
            found = by_outcome[delivery["delivery_id"], str(outcome)]
            assert found == counts[outcome], f"history has {found} rows {outcome} of {delivery}"
    assert {row["_delivery_id"] for row in history} <= {row["delivery_id"] for row in deliveries}
    corrected = any(delivery["state"] == "correction" for delivery in deliveries)
    if house.config.appends:
        _check_appended(house, history)
    elif not house.foreign:
        _check_origins(house, history) if corrected else _check_target(house, history)


def _check_appended(house: House, history: Sequence[Row]) -> None:
    """Of a target that keeps all rows: each is from the history, once, as it was written the first time."""
    places = {(row["_delivery_id"], row["_file_row"]): row for row in history}
    target = house.rows("target")
    assert len({(row["_delivery_id"], row["_file_row"]) for row in target}) == len(target)
    names = ("_vendor", "_file_name", *house.config.contract.names, "_rescued", "_row_hash")
    for row in target:
        origin = places[row["_delivery_id"], row["_file_row"]]
        assert [row[name] for name in names] == [origin[name] for name in names], f"{row} is not as in {origin}"
        assert row["_revision"] == 1
    assert {row["_outcome"] for row in history} <= {"inserted", "duplicate"}


def _check_origins(house: House, history: Sequence[Row]) -> None:
    """Where corrections were made: one row a key, each from the history; whether the right one, a rebuild tells."""
    target = house.rows("target")
    keyed(target, house.config.contract)
    names = ("_delivery_id", "_file_row", "_vendor", "_file_name", *house.config.contract.key)
    places = {tuple(row[name] for name in names) for row in history}
    assert {tuple(row[name] for name in names) for row in target} <= places


def _check_target(house: House, history: Sequence[Row]) -> None:
    target = house.rows("target")
    keyed(target, house.config.contract)
    key = house.config.contract.key
    written = [row for row in history if row["_outcome"] in ("inserted", "updated")]
    revisions = Counter(tuple(row[name] for name in key) for row in written)
    places = {(row["_delivery_id"], row["_file_row"]): row for row in written}
    assert set(revisions) == {tuple(row[name] for name in key) for row in target}
    for row in target:
        assert row["_revision"] == revisions[tuple(row[name] for name in key)], f"revision of {row}"
        origin = places[row["_delivery_id"], row["_file_row"]]
        audit = ("_vendor", "_file_name", "_batch", "_inserted_at", "_updated_at", "_revision", *key)
        assert [row[name] for name in audit] == [origin[name] for name in audit], f"{row} is not as in {origin}"
