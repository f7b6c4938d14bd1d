"""P9: Spark writes to the target between passes. What it wrote counts like any row, and the next pass is right.

`house` has every reader look at the end of each test.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from deltalake import DeltaTable

from ordertrail.model import Outcome
from tests.feeds import TIMES, cells, csv_bytes, dated
from tests.harness import House, bag
from tests.spark.session import Spark, target

pytestmark = pytest.mark.spark

EARLY, LATE, LATER = TIMES[0], TIMES[3], "2026-11-21 08:00:01"


@pytest.fixture
def loaded(house: House) -> House:
    """A to F of the 20th and the 21st, in two files of which the first has three vectors, one after the other."""
    load(house, dated(20), *(cells(key, EARLY, address="vendor") for key in "ABCDEF"))
    for number, key in enumerate("DEF"):
        load(house, dated(21, f"_{number}"), cells(key, LATE, address="vendor"))
    house.foreign = True
    return house


def load(house: House, name: str, *rows: tuple[str, ...]) -> dict[Outcome, int]:
    """A vendor's file and a pass; the outcomes of its rows."""
    house.drop(name, csv_bytes(rows))
    found = house.run().rows
    return {outcome: count for outcome in Outcome if (count := getattr(found, outcome))}


def addresses(house: House) -> dict[str, object]:
    """Address by tracking number; fails when a key is there twice."""
    return {str(key): row["address"] for (key,), row in house.target().items()}


def live_vectors(house: House) -> list[str]:
    """Where the vectors of the live files are, as the log says."""
    found: dict[str, str] = {}
    for version in range(house.version() + 1):
        actions = house.actions("target", version)
        for action in actions:
            if "remove" in action:
                found.pop(action["remove"]["path"], None)
        for add in (action["add"] for action in actions if "add" in action):
            found[add["path"]] = add.get("deletionVector", {}).get("pathOrInlineDv", "")
    return [place for place in found.values() if place]


# --- rows ----------------------------------------------------------------------------------------------------------


def test_rows_that_spark_updated(loaded: House, spark: Spark) -> None:
    """A correction by hand that moved the event time holds against what is older; a vendor's re-send wins else."""
    spark.run(
        f"UPDATE {target(loaded)} SET address = 'foreign', "
        f"last_update_timestamp = if(tracking_num = 'A', TIMESTAMP '{LATE}Z', last_update_timestamp) "
        "WHERE tracking_num IN ('A', 'B', 'D')"
    )
    assert addresses(loaded) == dict(
        zip("ABCDEF", ["foreign", "foreign", "vendor", "foreign", "vendor", "vendor"], strict=True)
    )
    rows = [
        cells("A", TIMES[1], address="older"),
        cells("B", EARLY, address="vendor"),
        cells("D", LATER, address="news"),
    ]
    assert load(loaded, dated(22), *rows) == {Outcome.STALE: 1, Outcome.UPDATED: 2}
    assert addresses(loaded) == dict(
        zip("ABCDEF", ["foreign", "vendor", "vendor", "news", "vendor", "vendor"], strict=True)
    )


def test_rows_that_spark_deleted_on_top_of_our_vectors(loaded: House, spark: Spark) -> None:
    """Spark adds to our vectors in place; the next pass adds to Spark's, and a deleted row comes back when sent."""
    assert live_vectors(loaded)
    spark.run(f"DELETE FROM {target(loaded)} WHERE tracking_num IN ('A', 'B', 'E')")
    assert set(addresses(loaded)) == set("CDF")
    rows = [cells("A", LATE, address="back"), cells("C", LATE, address="news")]
    assert load(loaded, dated(22), *rows) == {Outcome.INSERTED: 1, Outcome.UPDATED: 1}
    assert addresses(loaded) == {"A": "back", "C": "news", "D": "vendor", "F": "vendor"}


def test_rows_that_spark_merged_and_inserted(loaded: House, spark: Spark) -> None:
    """New rows of nobody's follow the order; a key that an INSERT doubled is there once after its next update."""
    new = "SELECT * EXCEPT (tracking_num, address, _delivery_id, _file_row), k AS tracking_num, 'foreign' AS address, "
    new += f"NULL AS _delivery_id, NULL AS _file_row FROM {target(loaded)} JOIN (VALUES ('B'), ('N'), ('M')) v(k) "
    spark.run(
        f"MERGE INTO {target(loaded)} t USING ({new} WHERE tracking_num = 'A') s ON t.tracking_num = s.tracking_num "
        "WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *"
    )
    spark.run(f"INSERT INTO {target(loaded)} SELECT * FROM {target(loaded)} WHERE tracking_num IN ('C', 'D')")
    assert len(loaded.rows("target")) == 10
    rows = [cells("N", "2026-11-20 07:00:00"), cells("M", EARLY, address="tie")]
    rows += [cells("C", LATE, address="news"), cells("D", LATE, address="vendor")]
    assert load(loaded, dated(22), *rows) == {Outcome.STALE: 1, Outcome.UPDATED: 2, Outcome.UNCHANGED: 1}
    expected = {"A": "vendor", "B": "foreign", "C": "news", "N": "foreign", "M": "tie"}
    assert addresses(loaded) == {**expected, **dict.fromkeys("DEF", "vendor")}


# --- files ---------------------------------------------------------------------------------------------------------


def spark_vacuum(house: House, spark: Spark) -> None:
    spark.run(f"VACUUM {target(house)} RETAIN 0 HOURS")


def delta_rs_vacuum(house: House, spark: Spark) -> None:
    DeltaTable(house.table_path("target")).vacuum(0, dry_run=False, enforce_retention_duration=False, full=True)


def optimize(house: House, spark: Spark) -> None:
    spark.run(f"OPTIMIZE {target(house)}")


def optimize_and_vacuum(house: House, spark: Spark) -> None:
    optimize(house, spark)
    spark_vacuum(house, spark)
    delta_rs_vacuum(house, spark)


@pytest.mark.parametrize("tidy", [spark_vacuum, delta_rs_vacuum, optimize, optimize_and_vacuum])
def test_a_target_that_others_tidied_up_goes_on(
    loaded: House, spark: Spark, tidy: Callable[[House, Spark], None]
) -> None:
    """Live vectors of ours survive the sweeps of others; no row changes, and the next pass is right."""
    before = bag(loaded.rows("target"))
    assert live_vectors(loaded)
    tidy(loaded, spark)
    assert bag(loaded.rows("target")) == before
    assert bool(live_vectors(loaded)) == (tidy in (spark_vacuum, delta_rs_vacuum))
    rows = [cells("A", LATE, address="news"), cells("D", LATER, address="news"), cells("N", LATE)]
    assert load(loaded, dated(22), *rows) == {Outcome.INSERTED: 1, Outcome.UPDATED: 2}
    assert addresses(loaded) == {**dict.fromkeys("BCEF", "vendor"), "A": "news", "D": "news", "N": "X"}


def test_a_target_whose_vectors_spark_switched_off_goes_on(loaded: House, spark: Spark) -> None:
    """Where the table's owner wants no vectors, a pass writes the touched files again."""
    spark.run(f"ALTER TABLE {target(loaded)} SET TBLPROPERTIES ('delta.enableDeletionVectors' = 'false')")
    before = len(live_vectors(loaded))
    assert load(loaded, dated(22), cells("A", LATE, address="news")) == {Outcome.UPDATED: 1}
    assert len(live_vectors(loaded)) < before
    assert addresses(loaded) == {**dict.fromkeys("BCDEF", "vendor"), "A": "news"}


# --- what a person must hear of ------------------------------------------------------------------------------------


def restore(house: House) -> str:
    return f"RESTORE TABLE {target(house)} TO VERSION AS OF 1"


def overwrite(house: House) -> str:
    return f"INSERT OVERWRITE {target(house)} SELECT * FROM {target(house)} WHERE tracking_num IN ('A', 'D')"


@pytest.mark.parametrize("reset", [restore, overwrite])
def test_a_reset_by_spark_is_noticed(loaded: House, spark: Spark, reset: Callable[[House], str]) -> None:
    """RESTORE and INSERT OVERWRITE take rows away that the history has: exit code 3, and the pass goes on."""
    spark.run(reset(loaded))
    report = loaded.run()
    assert report.needs_person
    operation = "RESTORE" if reset is restore else "WRITE"
    assert any(f"is a foreign {operation}" in warning for warning in report.warnings)
    rows = [cells("D", LATER, address="news"), cells("F", LATER, address="news")]
    if reset is restore:
        assert load(loaded, dated(22), *rows) == {Outcome.UPDATED: 2}
        assert addresses(loaded) == {**dict.fromkeys("ABCE", "vendor"), "D": "news", "F": "news"}
    else:
        assert load(loaded, dated(22), *rows) == {Outcome.UPDATED: 1, Outcome.INSERTED: 1}
        assert addresses(loaded) == {"A": "vendor", "D": "news", "F": "news"}
