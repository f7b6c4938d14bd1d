"""A target with constraints of its owner's, by name: rows it refuses are rejects, and no file waits behind them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from ordertrail.config import SparkSettings, Tables
from ordertrail.engines.spark.adopt import adopt
from ordertrail.errors import TableError
from ordertrail.model import RowCounts
from tests.feeds import NO_ADDRESS, cells, csv_bytes, dated
from tests.harness import House, open_house, without_fsync
from tests.spark.engines import by_name, name_of
from tests.spark.session import CATALOG, Spark
from tests.spark.test_adopt import COLUMNS

pytestmark = [pytest.mark.spark, pytest.mark.timeout(900)]

VENDORS = """
[[vendors]]
name = "acme"
files = "acme/*.csv"

[[vendors]]
name = "blue"
files = "blue/*.csv"
absent = ["address"]
"""
EARLY, LATE = "2026-11-20 08:00:00", "2026-11-21 08:00:00"


@pytest.fixture
def theirs(tmp_path: Path, spark: Spark) -> Iterator[House]:
    """A partitioned target with CHECKs, which only Spark writes to; it has one row."""
    names = [f"{kind}_{uuid.uuid4().hex[:8]}" for kind in ("stage", "target", "history", "rejects", "deliveries")]
    with without_fsync():
        house = open_house(tmp_path, VENDORS, engine="spark", tables=Tables(*names), spark=SparkSettings("three-level"))
        table = name_of(house, "target")
        spark.run(f"CREATE TABLE {table} ({COLUMNS}) USING delta PARTITIONED BY (status)")
        spark.run(f"ALTER TABLE {table} ADD CONSTRAINT named CHECK (status <> 'LOST')")
        spark.run(f"ALTER TABLE {table} ADD CONSTRAINT numbered CHECK (order_num IS NOT NULL)")
        spark.run(f"ALTER TABLE {table} ADD CONSTRAINT placed CHECK (address <> 'nowhere')")
        spark.run(f"INSERT INTO {table} VALUES ('1', 'A', NULL, NULL, 'PICKED_UP', 'old', TIMESTAMP'{EARLY}', 'x')")
        yield house
    for name in names:
        spark.run(f"DROP TABLE IF EXISTS {CATALOG}.default.{name}")


@pytest.mark.slow
def test_rows_that_the_target_refuses_are_rejects_and_hold_nothing_up(theirs: House, spark: Spark) -> None:
    read = by_name(spark)
    assert adopt(theirs.config).rows == 1
    rows = [cells("A", LATE, "DELIVERED"), cells("B", LATE, "LOST"), ("", *cells("C", LATE)[1:]), cells("D", LATE)]
    rows.append(cells("E", LATE, ""))  # NULL <> 'LOST' is not true, and Delta refuses that too
    theirs.drop(f"acme/{dated(21)}", csv_bytes(rows))
    found = theirs.run()
    assert found.rows == RowCounts(parsed=5, inserted=1, updated=1, rejected=3)
    assert [(one.state, one.rows.rejected) for one in found.deliveries] == [("loaded", 3)]
    rejects = {row["file_row"]: (row["column"], row["value"], row["rule"]) for row in read(theirs, "rejects")}
    assert rejects == {
        2: ("status", "LOST", "constraint"), 3: ("order_num", None, "constraint"), 5: ("status", None, "constraint"),
    }  # fmt: skip
    reasons = [str(row["reason"]) for row in read(theirs, "rejects")]
    assert any("its constraint named is (status <> 'LOST')" in reason for reason in reasons)

    # This vendor sends no address: the target's own one counts, and there is nothing to judge here.
    theirs.drop(f"blue/{dated(22)}", csv_bytes([cells("A", "2026-11-21 09:00:00", "RETURNED")], NO_ADDRESS))
    theirs.drop(f"acme/{dated(22)}", csv_bytes([cells("F", LATE, "LOST", "nowhere"), cells("G", LATE)]))
    # Nor is there where it is about a column of the owner's: Delta refuses the batch, and says which constraint it is.
    table = name_of(theirs, "target")
    spark.run(f"UPDATE {table} SET their_own = 'y'")
    spark.run(f"ALTER TABLE {table} ADD CONSTRAINT mine CHECK (their_own = 'y')")
    with pytest.raises(
        TableError, match=r"the table refuses a row: \[DELTA_VIOLATE_CONSTRAINT.* mine .*their_own"
    ) as told:
        theirs.run()
    assert "take the constraint off" in told.value.hint
    spark.run(f"ALTER TABLE {table} DROP CONSTRAINT mine")
    found = theirs.run()
    assert found.recovered
    assert found.rows == RowCounts(parsed=3, inserted=1, updated=1, rejected=1)
    assert {(row["rule"], row["column"]) for row in read(theirs, "rejects") if row["batch"] == 2} == {
        ("constraint", "status"), ("constraint", "address"),
    }  # fmt: skip
    target = {row["tracking_num"]: (row["status"], row["address"]) for row in read(theirs, "target")}
    assert target["A"] == ("RETURNED", "X")
    assert set(target) == {"A", "D", "G"}
