"""`ordertrail adopt`: a table that was there before is taken over, its rows kept, and the first merge is right."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from ordertrail.config import SparkSettings
from ordertrail.engines.spark_adopt import adopt
from ordertrail.errors import ForeignChangeError, UsageError
from tests.feeds import cells, csv_bytes, dated
from tests.harness import House, check_books, check_readers, open_house
from tests.spark.session import Spark, at_path

pytestmark = pytest.mark.spark

COLUMNS = (
    "order_num STRING, tracking_num STRING, pck_recieved_date DATE, package_deliver_date DATE, status STRING, "
    "address STRING, last_update_timestamp TIMESTAMP, their_own STRING"
)
NIGHT = "TIMESTAMP'2026-11-20 08:00:00+00:00'"


@pytest.fixture
def theirs(tmp_path: Path, spark: Spark) -> House:
    """A target of the notebooks: no audit columns, one column of its owner's, two rows."""
    house = open_house(tmp_path, engine="spark", spark=SparkSettings())
    table = at_path(house.table_path("target"))
    spark.run(f"CREATE TABLE {table} ({COLUMNS}) USING delta")
    spark.run(
        f"INSERT INTO {table} VALUES ('1', 'A', NULL, NULL, 'IN_TRANSIT', 'old', {NIGHT}, 'x'), "
        f"('2', 'B', NULL, NULL, 'DELIVERED', 'old', {NIGHT}, 'y')"
    )
    return house


def test_the_first_merge_after_it_is_right(theirs: House, spark: Spark) -> None:
    with pytest.raises(ForeignChangeError, match="ordertrail adopt"):
        theirs.run()
    found = adopt(theirs.config)
    assert (found.rows, len(found.columns_added)) == (2, 10)
    late, early = "2026-11-21 08:00:00", "2026-11-19 08:00:00"
    rows = [cells("A", late, address="new"), cells("B", early, address="late"), cells("C", late)]
    theirs.drop(dated(21), csv_bytes(rows))
    report = theirs.run()
    assert (report.rows.updated, report.rows.stale, report.rows.inserted) == (1, 1, 1)
    target = {row["tracking_num"]: row for row in theirs.rows("target")}
    assert {key: (row["address"], row["_revision"]) for key, row in target.items()} == {
        "A": ("new", 2), "B": ("old", 1), "C": ("X", 1),
    }  # fmt: skip
    assert target["B"]["last_update_timestamp"] == datetime(2026, 11, 20, 8, tzinfo=UTC)
    kept = spark.select(f"SELECT tracking_num, their_own FROM {at_path(theirs.table_path('target'))}")
    assert {(row["tracking_num"], row["their_own"]) for row in kept} == {("A", "x"), ("B", "y"), ("C", None)}
    assert {(row["_batch"], row["_outcome"]) for row in theirs.rows("history")} == {
        (0, "inserted"), (1, "updated"), (1, "stale"), (1, "inserted"),
    }  # fmt: skip
    check_books(theirs)
    check_readers(theirs)
    with pytest.raises(UsageError, match="already"):
        adopt(theirs.config)


def test_a_row_without_an_event_time_is_refused_and_nothing_changes(theirs: House, spark: Spark) -> None:
    spark.run(f"INSERT INTO {at_path(theirs.table_path('target'))} (tracking_num) VALUES ('C')")
    before = theirs.version()
    with pytest.raises(UsageError, match="1 rows of orders_target lack"):
        adopt(theirs.config)
    assert theirs.version() == before
