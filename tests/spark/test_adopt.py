"""`ordertrail adopt`: a table that was there before is taken over, its rows kept, and the first merge is right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from ordertrail.config import SparkSettings
from ordertrail.engines.spark.adopt import NEWEST, adopt, survey
from ordertrail.engines.spark.tables import SparkTable
from ordertrail.errors import ForeignChangeError, UnsupportedTableError, UsageError
from tests.feeds import cells, csv_bytes, dated
from tests.harness import House, check_books, check_readers, open_house
from tests.spark.session import Spark, at_path, target

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
    assert report.warnings == (), "that the rows were written again is no reset of somebody's"
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
    with pytest.raises(UsageError, match="1 rows of orders_target lack") as refused:
        adopt(theirs.config)
    assert theirs.version() == before
    spark.run("DELETE" + refused.value.hint.rpartition("DELETE")[2])
    assert adopt(theirs.config).rows == 2


NO_PASS_WRITES_TO = {
    "partitions": (COLUMNS, "PARTITIONED BY (status)"),
    "CHECK": (COLUMNS, "", "ALTER TABLE {0} ADD CONSTRAINT named CHECK (status <> 'LOST')"),
    "a generated column": (f"{COLUMNS}, day DATE GENERATED ALWAYS AS (CAST(last_update_timestamp AS DATE))", ""),
    "an identity column": (f"{COLUMNS}, id BIGINT GENERATED ALWAYS AS IDENTITY", ""),
    "append only": (COLUMNS, "TBLPROPERTIES ('delta.appendOnly' = 'true')"),
    "column mapping": (COLUMNS, "TBLPROPERTIES ('delta.columnMapping.mode' = 'name')"),
    "row tracking": (COLUMNS, "TBLPROPERTIES ('delta.enableRowTracking' = 'true')"),
}


@pytest.mark.parametrize("feature", NO_PASS_WRITES_TO)
def test_a_table_in_a_folder_that_no_pass_writes_to_is_not_touched(tmp_path: Path, spark: Spark, feature: str) -> None:
    """All checks come before the first write: no property is set, no column added, no other table made."""
    house = open_house(tmp_path, engine="spark", spark=SparkSettings())
    table = at_path(house.table_path("target"))
    columns, options, *more = NO_PASS_WRITES_TO[feature]
    spark.run(f"CREATE TABLE {table} ({columns}) USING delta {options}")
    for statement in more:
        spark.run(statement.format(table))
    before = house.version()
    with pytest.raises(UnsupportedTableError, match="was not touched"):
        adopt(house.config)
    assert house.version() == before
    assert [path.name for path in house.table_path("target").parent.iterdir()] == ["orders_target"]


def test_hints_are_followed_until_the_table_is_taken_over(tmp_path: Path, spark: Spark) -> None:
    """A column in other case is named so in the contract; times without a zone and numbers are written anew."""
    house = open_house(tmp_path, engine="spark", spark=SparkSettings())
    columns = COLUMNS.replace("address", "Address").replace("tracking_num STRING", "tracking_num BIGINT")
    columns = columns.replace("last_update_timestamp TIMESTAMP", "last_update_timestamp TIMESTAMP_NTZ")
    spark.run(f"CREATE TABLE {target(house)} ({columns}) USING delta")
    spark.run(
        f"INSERT INTO {target(house)} (tracking_num, Address, last_update_timestamp) "
        "VALUES (7, 'old', TIMESTAMP_NTZ'2026-11-20 08:00:00')"
    )
    with pytest.raises(UsageError, match="tracking_num of orders_target is bigint, not string") as refused:
        adopt(house.config)
    spark.run(statement(refused.value.hint))
    with pytest.raises(UsageError, match="has the column Address, which the contract calls address") as refused:
        adopt(house.config)
    assert 'name = "Address"' in refused.value.hint
    contract = house.config.contract
    known = tuple(replace(c, name="Address") if c.name == "address" else c for c in contract.columns)
    house.turn(contract=replace(contract, columns=known))
    with pytest.raises(UsageError, match="last_update_timestamp of orders_target is timestamp_ntz") as refused:
        adopt(house.config)
    assert "SET TIME ZONE" in refused.value.hint
    spark.run(statement(refused.value.hint))
    assert adopt(house.config).rows == 1
    house.drop(dated(21), csv_bytes([cells("8", "2026-11-21 08:00:00", address="new")]))
    assert house.run().rows.inserted == 1
    rows = {row["tracking_num"]: (row["Address"], row["last_update_timestamp"]) for row in house.rows("target")}
    assert rows == {
        "7": ("old", datetime(2026, 11, 20, 8, tzinfo=UTC)), "8": ("new", datetime(2026, 11, 21, 8, tzinfo=UTC)),
    }  # fmt: skip


def statement(hint: str) -> str:
    """The statement that a hint names."""
    return f"CREATE OR REPLACE{hint.partition('CREATE OR REPLACE')[2].partition('; or')[0]}"


def test_a_column_that_is_never_null_is_refused_and_the_hint_works(tmp_path: Path, spark: Spark) -> None:
    """One pass of the embedded engine would leave rows without it, which Spark and delta-rs then cannot read."""
    house = open_house(tmp_path, engine="spark", spark=SparkSettings())
    table = at_path(house.table_path("target"))
    columns = COLUMNS.replace("status STRING", "status STRING NOT NULL").replace("own STRING", "own STRING NOT NULL")
    spark.run(f"CREATE TABLE {table} ({columns}) USING delta")
    spark.run(f"INSERT INTO {table} VALUES ('1', 'A', NULL, NULL, 'IN_TRANSIT', 'old', {NIGHT}, 'x')")
    before = house.version()
    with pytest.raises(UsageError, match="their_own of orders_target is NOT NULL") as caught:
        adopt(house.config)
    assert "the column status of orders_target is NOT NULL" in caught.value.message
    assert "set required = true for status in [contract]" in caught.value.hint
    assert "ALTER COLUMN their_own DROP NOT NULL" in caught.value.hint
    assert house.version() == before
    spark.run(f"ALTER TABLE {table} ALTER COLUMN their_own DROP NOT NULL")
    required = (replace(c, required=c.required or c.name == "status") for c in house.config.contract.columns)
    house.turn(contract=replace(house.config.contract, columns=tuple(required)))
    adopt(house.config)
    house.turn(engine="embedded", max_reject_share=0.9)
    late = "2026-11-21 08:00:00"
    house.drop(dated(21), csv_bytes([cells("A", late), cells("B", late), cells("C", late, status="")]))
    assert house.run().rows.rejected == 1
    kept = spark.select(f"SELECT tracking_num, their_own FROM {table}")
    assert {(row["tracking_num"], row["their_own"]) for row in kept} == {("A", "x"), ("B", None)}
    check_readers(house)
    check_books(house)


DOUBLED = (
    "('1', 'A', NULL, NULL, 'DELIVERED', 'newest', TIMESTAMP'2026-11-20 09:00:00+00:00', 'won')",
    "('1', 'A', NULL, NULL, 'IN_TRANSIT', 'older', TIMESTAMP'2026-11-19 09:00:00+00:00', 'lost')",
    "('3', 'D', NULL, NULL, 'PICKED_UP', 'one time', TIMESTAMP'2026-11-20 09:00:00+00:00', 'lost')",
    "('3', 'D', NULL, NULL, 'DELIVERED', 'one time', TIMESTAMP'2026-11-20 09:00:00+00:00', 'won')",
    "('3', 'D', NULL, NULL, 'DELIVERED', 'one time', TIMESTAMP'2026-11-20 09:00:00+00:00', 'won')",
)
"""Of A the later time wins; of D, all of one time, the higher status, which is there twice."""


class CutError(Exception):
    """The driver dies."""


@contextmanager
def dying_after(writes: int) -> Iterator[None]:
    """Within the block the driver dies as soon as so many tables were appended to or replaced."""
    left = writes

    def dying(write: Callable[..., None]) -> Callable[..., None]:
        def wrapped(table: SparkTable, rows: Any, told: Any) -> None:
            nonlocal left
            write(table, rows, told)
            left -= 1
            if not left:
                raise CutError

        return wrapped

    with pytest.MonkeyPatch.context() as patch:
        for name in ("append", "overwrite"):
            patch.setattr(SparkTable, name, dying(getattr(SparkTable, name)))
        yield


@pytest.mark.slow
def test_doubled_keys_are_refused_or_reduced_whenever_it_is_cut_short(theirs: House, spark: Spark) -> None:
    table = at_path(theirs.table_path("target"))
    spark.run(f"INSERT INTO {table} VALUES {', '.join(DOUBLED)}")
    before = theirs.version()
    found = survey(theirs.config)
    assert (found.doubled.keys, found.doubled.rows, sorted(found.doubled.examples)) == (2, 4, ["A", "D"])
    assert "2 keys of orders_target are there more than once (4 rows too many)" in found.problems[0].message
    with pytest.raises(UsageError, match="2 keys of orders_target") as refused:
        adopt(theirs.config)
    looked = refused.value.hint.partition("To look at them: ")[2]
    assert {tuple(row.values()) for row in spark.select(looked)} == {("A", 3), ("D", 3)}
    assert survey(theirs.config, doubled=NEWEST).rows == 3
    assert theirs.version() == before, "nothing was written yet"
    # After each of the four writes; the second attempt does the first one again, which Delta skips.
    for doubled, writes in ((NEWEST, 1), ("refuse", 2), ("refuse", 1), ("refuse", 1)):
        with dying_after(writes), pytest.raises(CutError):
            adopt(theirs.config, doubled=doubled)
    done = adopt(theirs.config)
    assert (done.rows, done.before) == (3, before)
    target = {row["tracking_num"]: row for row in theirs.rows("target")}
    assert {key: (row["status"], row["address"]) for key, row in target.items()} == {
        "A": ("DELIVERED", "newest"), "B": ("DELIVERED", "old"), "D": ("DELIVERED", "one time"),
    }  # fmt: skip
    kept = spark.select(f"SELECT tracking_num, their_own FROM {table}")
    assert {(row["tracking_num"], row["their_own"]) for row in kept} == {("A", "won"), ("B", "y"), ("D", "won")}
    outcomes = sorted((row["tracking_num"], row["_outcome"]) for row in theirs.rows("history"))
    assert outcomes == [
        ("A", "inserted"), ("A", "superseded"), ("A", "superseded"), ("B", "inserted"), ("D", "duplicate"),
        ("D", "inserted"), ("D", "superseded"),
    ]  # fmt: skip
    differing = sorted(tuple(row.values()) for row in spark.select(done.compare))
    older = "status, address, last_update_timestamp"
    assert differing == [("A", older), ("A", older), ("D", "status")], "the rows that are in the history alone"
    theirs.drop(dated(21), csv_bytes([cells("A", "2026-11-19 12:00:00"), cells("D", "2026-11-21 08:00:00")]))
    report = theirs.run()
    assert (report.rows.stale, report.rows.updated, report.warnings) == (1, 1, ())
    check_books(theirs)
    # And back: restored beside its other tables it is refused, without them it is adopted again.
    spark.run(done.back[0])
    with pytest.raises(UsageError, match="adopted before and restored since"):
        adopt(theirs.config, doubled=NEWEST)
    for statement in done.back[1:]:
        spark.run(statement)


def test_a_dry_run_tells_all_that_stands_in_the_way(tmp_path: Path, spark: Spark) -> None:
    house = open_house(tmp_path, engine="spark", spark=SparkSettings())
    columns = COLUMNS.replace("address STRING, ", "").replace("tracking_num STRING", "tracking_num BIGINT")
    spark.run(f"CREATE TABLE {target(house)} ({columns}) USING delta PARTITIONED BY (status)")
    found = survey(house.config)
    told = [problem.message for problem in found.problems]
    assert [next(word for word in ("partition", "bigint", "no column address") if word in one) for one in told] == [
        "partition", "bigint", "no column address",
    ]  # fmt: skip
    assert "lpad(CAST(`tracking_num` AS STRING), 10, '0')" in found.problems[1].hint
    assert not found.adopted
