"""P1 to P3 of whole pipelines: any feed, however it arrives, is told as the oracle tells it, and can be told again."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from hypothesis import given, settings

from ordertrail.keep.rebuild import Differences, rebuild
from ordertrail.model import Outcome, RowCounts, RunReport
from tests.depth import share
from tests.feeds import FEED_LIMITS, FEED_VENDORS, FeedFile
from tests.harness import House, bag, check_books, open_house, without_fsync
from tests.oracle import Accepted, FileVerdict, Row, default_contract, judge_file
from tests.property.test_order import FEEDS, Arrival, arrivals, check_target

pytestmark = [pytest.mark.property, pytest.mark.slow]

TABLES = ("target", "history", "rejects", "deliveries")


@settings(max_examples=share(FEEDS))
@given(arrivals(absent=True))
def test_any_arrival_is_as_the_oracle_says_and_is_built_again_as_it_was(arrival: Arrival) -> None:
    """One house for all that is asked of it: it is the passes that cost, and not the questions.

    P2: order, batches and repeats do not matter to the target, also when a vendor lacks a column. P3: every row of
    every delivery is accounted for. P1: a rebuild makes of history, or of archived files, what the batches made.
    """
    files, batches = arrival
    with tempfile.TemporaryDirectory() as folder, without_fsync():
        house = open_house(Path(folder), vendors=FEED_VENDORS, **FEED_LIMITS)
        for batch in batches:
            house.drop_all(batch)
            check_pass(house, batch, house.run())
        check_target(house, files)
        check_rebuilds(house)


# -- P3: every row is accounted for, in the report and in the tables --------------------------------------------------


def check_pass(house: House, files: Sequence[FeedFile], report: RunReport) -> None:
    """The pass that took `files`: each became one delivery, all of whose rows are where they belong.

    Counts balance, and are those of the oracle; history holds every accepted row, rejects every other.
    """
    assert report.skipped == ()
    assert report.rows == sum((d.rows for d in report.deliveries), RowCounts())
    deliveries, history, rejects = (house.rows(table) for table in ("deliveries", "history", "rejects"))
    tables = {row["delivery_id"]: row for row in deliveries}
    reports = {(tables[d.delivery_id]["path"]): d for d in report.deliveries}
    assert sorted(map(str, reports)) == sorted(file.path for file in files)
    for file in files:
        found = reports[file.path]
        row = tables[found.delivery_id]
        assert found.rows.balanced
        assert found.rows == RowCounts(*(row[f"rows_{name}"] for name in ("parsed", *Outcome)))  # type: ignore[arg-type]
        assert (row["state"], row["batch"]) == (str(found.state), report.batch)
        verdict, accepted = judge_file(file, default_contract(), FEED_VENDORS, *FEED_LIMITS.values())
        in_history = [one for one in history if one["_delivery_id"] == row["delivery_id"]]
        in_rejects = [one for one in rejects if one["delivery_id"] == row["delivery_id"]]
        if row["state"] == "duplicate":
            assert (row["rows_duplicate"], in_history, in_rejects) == (verdict.parsed, [], [])
            check_duplicate(row, deliveries)
        else:
            check_delivery(row, verdict, accepted, in_history, in_rejects)
        assert row["rows_parsed"] == verdict.parsed


def check_delivery(
    row: Row, verdict: FileVerdict, accepted: list[Accepted], history: list[Row], rejects: list[Row]
) -> None:
    """A delivery's rows in history and rejects are those that the oracle accepts and refuses."""
    assert (row["state"], row["rows_rejected"]) == (verdict.state, verdict.rejected)
    names = default_contract().names
    assert bag([{name: r[name] for name in names} for r in history]) == bag([a.values for a in accepted])
    assert sorted(r["_file_row"] for r in history) == sorted(abs(a.order[-1]) for a in accepted)  # type: ignore[type-var]
    found = Counter((r["file_row"], r["column"]) for r in rejects)
    assert found == Counter((file_row, column) for file_row, column, _ in verdict.rejects)
    assert all(r["raw"] is not None and r["reason"] for r in rejects)


def check_duplicate(row: Row, deliveries: list[Row]) -> None:
    """The same bytes of the same vendor are loaded, in an order that is not lower."""
    twins = [one for one in deliveries if (one["state"], *twin(one)[0]) == ("loaded", *twin(row)[0])]
    assert any(twin(one)[1] >= twin(row)[1] for one in twins)


def twin(row: Row) -> tuple[tuple[object, ...], tuple[Any, ...]]:
    """What makes two deliveries the same bytes of the same vendor, and a delivery's order among those."""
    return (row["vendor"], row["sha256"]), (row["file_key"], row["path"], row["modified_at"])


# -- P1: it can be told again -----------------------------------------------------------------------------------------


def check_rebuilds(house: House) -> None:
    """Every column, the audit columns too, as the batches left it: out of the history, then out of archived files."""
    before = {table: bag(house.rows(table)) for table in TABLES}
    assert rebuild(house.config, dry_run=True).differences == Differences(0, 0, 0, 0)
    DeltaTable(house.table_path("target")).delete()
    assert rebuild(house.config).rows == before["target"].total()
    assert bag(house.rows("target")) == before["target"]
    assert house.run().warnings == ()
    check_books(house)
    for table in ("target", "history", "rejects"):
        shutil.rmtree(house.table_path(table))
    rebuild(house.config, from_archive=True)
    assert {table: bag(house.rows(table)) for table in TABLES} == before
    assert house.run().warnings == ()
