"""P9 of migrations: others read target and history at every version before, between and after them.

What each version holds was kept when it was the newest. Spark reads the same tables in `tests/spark/test_readers.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable, QueryBuilder

from ordertrail.delta.log import DeltaLog
from ordertrail.delta.snapshot import read_snapshot
from ordertrail.delta.table import scan_sql
from ordertrail.look.verify import verify
from ordertrail.rules.schema import declared_columns
from ordertrail.rules.tables import TableColumn
from tests.harness import bag
from tests.migrated import STEPS, TABLES, Migrated, delta_name, footers, types_of

_INSTALL = """.venv/bin/python -c 'import duckdb; duckdb.execute("INSTALL delta")'"""

ReadVersion = Callable[[Path, int], pa.Table]


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Migrated:
    return Migrated(tmp_path_factory.mktemp("migrated"))


def delta_rs(root: Path, version: int) -> pa.Table:
    return pa.table(QueryBuilder().register("t", DeltaTable(root, version=version)).execute("SELECT * FROM t"))


def polars_scans(root: Path, version: int) -> pa.Table:
    return pl.scan_delta(str(root), version=version).collect().to_arrow()


def polars_reads(root: Path, version: int) -> pa.Table:
    return pl.read_delta(str(root), version=version).to_arrow()


def ours(root: Path, version: int) -> pa.Table:
    snapshot = read_snapshot(DeltaLog(root), version)
    columns = [TableColumn(one.name, one.type, "") for one in declared_columns(snapshot.metadata.schema_string)]
    with duckdb.connect(config={"threads": 1}) as con:
        con.execute("SET TimeZone = 'UTC'")
        return con.sql(f"SELECT * EXCLUDE _pos FROM {scan_sql(con, snapshot, columns)}").to_arrow_table()


@pytest.fixture(scope="module")
def extension() -> Iterator[ReadVersion]:
    """DuckDB's own reader of Delta tables. It is no part of DuckDB: it is fetched once, from DuckDB's server."""
    with duckdb.connect(config={"threads": 1, "autoinstall_known_extensions": False}) as con:
        try:
            con.execute("LOAD delta")
        except duckdb.Error:
            pytest.skip(f"DuckDB's extension delta is not here; to have it: {_INSTALL}")
        con.execute("SET TimeZone = 'UTC'")

        def read(root: Path, version: int) -> pa.Table:
            con.execute(f"ATTACH '{root}' AS seen (TYPE delta, VERSION {version})")
            try:
                return pa.table(con.execute("FROM seen").fetch_arrow_table())
            finally:
                con.execute("DETACH seen")

        yield read


def check(migrated: Migrated, read: ReadVersion) -> None:
    """A reader gives the rows and types of every version that were there when it was the newest."""
    for version in migrated.versions.values():
        found = read(migrated.root(version.table), version.number)
        assert dict(zip(found.column_names, map(_delta_type, found.schema.types), strict=True)) == version.types
        assert bag(found.to_pylist()) == version.rows, (version.table, version.number)


def _delta_type(kind: pa.DataType) -> str:
    """Delta's name of the type; readers differ in how they lay out text, and in how they write UTC."""
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "string"
    return "timestamp" if pa.types.is_timestamp(kind) and kind.tz else delta_name(kind)


def test_the_story_has_every_step_and_every_version(migrated: Migrated) -> None:
    assert migrated.steps == STEPS
    for table in TABLES:
        kept = [number for name, number in migrated.versions if name == table]
        assert kept == list(range(migrated.house.version(table) + 1)) == list(range(7))
    assert verify(migrated.house.config).ok


@pytest.mark.parametrize("read", [delta_rs, polars_scans, polars_reads, ours])
def test_every_version_reads_as_it_was(migrated: Migrated, read: ReadVersion) -> None:
    check(migrated, read)


def test_every_version_reads_as_it_was_by_the_extension_of_duckdb(migrated: Migrated, extension: ReadVersion) -> None:
    check(migrated, extension)


@pytest.mark.parametrize("read", [delta_rs, polars_scans, polars_reads, ours])
def test_what_readers_find_before_between_and_after(migrated: Migrated, read: ReadVersion) -> None:
    """In words, whatever delta-rs read at the time: versions 2, 4 and 6 of the target end the three contracts."""
    root = migrated.root("target")

    def values(version: int, *names: str) -> list[tuple[object, ...]]:
        found = read(root, version).select(["tracking_num", "depot", *names]).to_pylist()
        return sorted((tuple(row.values()) for row in found), key=lambda row: row[:2])  # type: ignore[arg-type]

    assert values(2, "status", "qty", "note") == [
        ("K1", "N", "DONE", "10", "d"),
        ("K2", "N", "NEW", "2", "b"),
        ("K3", "N", "NEW", "12 pcs", "e"),
    ]
    assert values(4, "state", "qty", "weight", "fragile") == [
        ("K1", "N", "DONE", 10, Decimal("2.50"), None),
        ("K1", "S", "DONE", 13, Decimal("5.00"), None),
        ("K2", "N", "NEW", 2, None, None),
        ("K3", "N", "NEW", None, Decimal("4.00"), None),
        ("K4", "N", "NEW", None, Decimal("6.00"), None),
    ]
    assert values(6, "state", "qty", "weight") == [
        ("K1", "S", "DONE", 13.0, Decimal("5.00")),
        ("K2", "N", "DONE", 14.0, Decimal("7.25")),
        ("K3", "N", "NEW", None, Decimal("4.00")),
        ("K4", "N", "NEW", None, Decimal("6.00")),
    ]
    rescued = {row["tracking_num"]: row["_rescued"] for row in read(root, 4).to_pylist()}
    assert (rescued["K2"], rescued["K3"]) == ('{"Weight":"heavy"}', '{"qty":"12 pcs"}')


def test_footers_declare_the_types_of_every_version_that_reads_them(migrated: Migrated) -> None:
    """No reader has to cast. A file lacks a column only when it came after the column left the contract."""
    for table in TABLES:
        for version in range(migrated.house.version(table) + 1):
            declared = types_of(DeltaTable(migrated.root(table), version=version))
            for name, footer in footers(migrated.root(table), version).items():
                there = {column: kind for column, kind in footer.items() if column in declared}
                lacks = declared.keys() - there.keys()
                assert lacks <= ({"note", "fragile"} if table == "history" else set()), (table, version, name)
                assert there == {column: declared[column] for column in there}, (table, version, name)


def test_no_migration_asks_more_of_readers(migrated: Migrated) -> None:
    for table in TABLES:
        protocols = Counter(
            str(DeltaTable(migrated.root(table), version=version).protocol())
            for version in range(migrated.house.version(table) + 1)
        )
        assert len(protocols) == 1, protocols
