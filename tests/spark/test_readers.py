"""P9: Spark reads each table, at every version, as delta-rs, Polars and DuckDB do; with the same types."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from msgspec.structs import replace

from ordertrail.config import Maintenance
from ordertrail.keep.maintain import maintain
from ordertrail.keep.rebuild import rebuild
from ordertrail.model import Column
from tests.contract.test_row_scenarios import TYPED, TYPED_HEAD, TYPES
from tests.feeds import HEADER, TIMES, cells, csv_bytes, dated
from tests.harness import READERS, House, bag, open_house, without_fsync
from tests.migrated import Migrated, delta_name
from tests.spark.session import Spark, at_path, check_spark

pytestmark = pytest.mark.spark

TABLES = ("target", "history", "rejects", "deliveries")

GOOD = [cells(key, TIMES[0], address='Main "St", 1\nMünchen') for key in ("007", "B", "C", "D", "E")]


def test_every_version_reads_the_same(house: House, spark: Spark) -> None:
    """First load with a reject, updates and inserts, a batch that changes no row, a file of no good row."""
    batches = [
        (dated(20), [*GOOD, cells("", TIMES[0])]),
        (dated(21), [cells("007", TIMES[3], "", ""), cells("NEW", TIMES[2])]),
        (dated(22), GOOD),
        (dated(22, "_bad"), [cells("", TIMES[0])]),
        (
            dated(22, "_all"),
            [cells(key, "2026-11-21 09:00:00", address="moved") for key in ("007", "B", "C", "D", "E", "NEW")],
        ),
    ]
    for name, rows in batches:
        house.drop(name, csv_bytes(rows))
        house.run()
    versions = range(house.version() + 1)
    for version, rows in spark.read_versions(house, "target", versions).items():
        expected = bag(house.rows("target", version))
        assert bag(rows) == expected, f"version {version}"
        for name, read in READERS.items():
            assert bag(read(house, "target", version)) == expected, f"version {version} by {name}"
    check_spark(house, spark, TABLES)
    assert len(house.rows("target")) == 6


def test_columns_that_the_contract_and_others_added_are_read(house: House, spark: Spark) -> None:
    """Old files lack the contract's new column; what Spark wrote into columns of its own stays through our writers."""
    house.drop(dated(20), csv_bytes(GOOD))
    house.run()
    target = at_path(house.table_path("target"))
    spark.run(f"ALTER TABLE {target} ADD COLUMNS (shelf STRING, box STRUCT<width: INT, tags: ARRAY<STRING>>)")
    box = "named_struct('width', 3, 'tags', array('x', 'y'))"
    spark.run(f"UPDATE {target} SET shelf = 'north', box = {box} WHERE tracking_num IN ('007', 'B')")
    contract = house.config.contract
    house.turn(contract=replace(contract, columns=(*contract.columns, Column("weight", "decimal(9,3)"))))
    lines = [",".join((*cells(key, TIMES[3]), "1.5")) for key in ("007", "C", "NEW")]
    house.drop(dated(21), "\n".join([",".join((*HEADER, "weight")), *lines]))
    house.run()
    query = f"SELECT tracking_num, weight, shelf, box.width, box.tags[1] AS tag FROM {target} ORDER BY tracking_num"
    heavy, theirs, nobodys = (Decimal("1.500"),), ("north", 3, "y"), (None, None, None)
    expected = [
        ("007", *heavy, *theirs), ("B", None, *theirs), ("C", *heavy, *nobodys), ("D", None, *nobodys),
        ("E", None, *nobodys), ("NEW", *heavy, *nobodys),
    ]  # fmt: skip
    assert [tuple(row.values()) for row in spark.select(query)] == expected
    check_spark(house, spark, TABLES)
    rebuild(house.config)
    assert [tuple(row.values()) for row in spark.select(query)] == expected


def test_values_and_types_come_back_as_they_were_sent(tmp_path: Path, spark: Spark) -> None:
    """Every type of a contract is Spark's type of its name, and keeps its value; times are instants in UTC."""
    with without_fsync():
        house = open_house(tmp_path, TYPES)
        house.drop(
            "a_20261120.csv", f"{TYPED_HEAD}{TYPED}2,A1,2026-11-20T08:00:00.123456Z,2026-11-19,,-5,,-0.05,FALSE\n"
        )
        house.run()
    columns = "depot, parcel, seen, day, state, big, weight, price, fragile"
    found = spark.arrow(f"SELECT {columns} FROM {at_path(house.table_path('target'))} ORDER BY depot")
    utc = pa.timestamp("us", "UTC")
    assert found.schema.types == [
        pa.int32(), pa.string(), utc, pa.date32(), pa.string(), pa.int64(), pa.float64(),
        pa.decimal128(8, 2), pa.bool_(),
    ]  # fmt: skip
    day, seen = date(2026, 11, 19), datetime(2026, 11, 20, 8, tzinfo=UTC)
    assert [tuple(row.values()) for row in found.to_pylist()] == [
        (1, "A1", seen, day, "NEW", 2**63 - 1, 31.5, Decimal("12.30"), True),
        (2, "A1", seen.replace(microsecond=123456), day, None, -5, None, Decimal("-0.05"), False),
    ]
    check_spark(house, spark)


def test_maintained_tables_read_the_same(house: House, spark: Spark) -> None:
    """Compaction, clean-up and checkpoints of ours change no row for Spark, nor for a pass that comes after."""
    for number in range(6):
        house.drop(dated(20, f"_{number}"), csv_bytes([cells(key, f"2026-11-20 08:00:0{number}") for key in "ABC"]))
        house.run()
    before = bag(house.rows("target"))
    maintain(replace(house.config, maintenance=Maintenance(max_small_files=1, max_deleted_share=0.1)))
    assert len(DeltaTable(house.table_path("target")).file_uris()) == 1
    check_spark(house, spark, TABLES)
    assert bag(spark.read(house, "target")) == before
    house.drop(dated(21), csv_bytes([cells("A", TIMES[3], address="news")]))
    house.run()
    assert {row["tracking_num"]: row["address"] for row in spark.read(house, "target")} == {
        "A": "news",
        "B": "X",
        "C": "X",
    }


def test_versions_before_between_and_after_migrations_read_as_they_were(tmp_path: Path, spark: Spark) -> None:
    """Each with its own columns and types: added, filled, retyped, renamed, dropped; another key and order."""
    migrated = Migrated(tmp_path)
    assert len(migrated.versions) == 14
    for version in migrated.versions.values():
        found = spark.arrow(f"SELECT * FROM {at_path(migrated.root(version.table))} VERSION AS OF {version.number}")
        types = {name: delta_name(kind) for name, kind in zip(found.column_names, found.schema.types, strict=True)}
        assert types == version.types, (version.table, version.number)
        assert bag(found.to_pylist()) == version.rows, (version.table, version.number)
