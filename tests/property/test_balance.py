"""P3: every row is accounted for, per delivery, in the report and in the tables."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from ordertrail.model import Outcome, RowCounts, RunReport
from tests.feeds import FEED_LIMITS, FEED_VENDORS, FeedFile
from tests.harness import House, bag, check_books, open_house, without_fsync
from tests.oracle import Accepted, FileVerdict, Row, default_contract, judge_file
from tests.property.test_order import FEEDS, Arrival, arrivals

pytestmark = [pytest.mark.property, pytest.mark.slow]


@settings(max_examples=FEEDS)
@given(arrivals(absent=True))
def test_every_row_of_every_delivery_is_accounted_for(arrival: Arrival) -> None:
    """P3: counts balance, and are those of the oracle; history holds every accepted row, rejects every other."""
    with tempfile.TemporaryDirectory() as folder, without_fsync():
        house = open_house(Path(folder), vendors=FEED_VENDORS, **FEED_LIMITS)
        for files in arrival[1]:
            house.drop_all(files)
            check_pass(house, files, house.run())
        check_books(house)


def check_pass(house: House, files: tuple[FeedFile, ...], report: RunReport) -> None:
    """The pass that took `files`: each became one delivery, all of whose rows are where they belong."""
    assert report.skipped == ()
    assert report.rows == sum((d.rows for d in report.deliveries), RowCounts())
    tables = {row["delivery_id"]: row for row in house.rows("deliveries")}
    reports = {(tables[d.delivery_id]["path"]): d for d in report.deliveries}
    assert sorted(map(str, reports)) == sorted(file.path for file in files)
    for file in files:
        found = reports[file.path]
        row = tables[found.delivery_id]
        assert found.rows.balanced
        assert found.rows == RowCounts(*(row[f"rows_{name}"] for name in ("parsed", *Outcome)))  # type: ignore[arg-type]
        assert (row["state"], row["batch"]) == (str(found.state), report.batch)
        verdict, accepted = judge_file(file, default_contract(), FEED_VENDORS, *FEED_LIMITS.values())
        check_delivery(house, row, verdict, accepted)


def check_delivery(house: House, row: Row, verdict: FileVerdict, accepted: list[Accepted]) -> None:
    history = [r for r in house.rows("history") if r["_delivery_id"] == row["delivery_id"]]
    rejects = [r for r in house.rows("rejects") if r["delivery_id"] == row["delivery_id"]]
    assert row["rows_parsed"] == verdict.parsed
    if row["state"] == "duplicate":
        assert (row["rows_duplicate"], history, rejects) == (verdict.parsed, [], [])
        twins = [r for r in house.rows("deliveries") if (r["state"], *twin(r)[0]) == ("loaded", *twin(row)[0])]
        assert any(twin(r)[1] >= twin(row)[1] for r in twins), "the same bytes are not loaded in an order not lower"
        return
    assert (row["state"], row["rows_rejected"]) == (verdict.state, verdict.rejected)
    names = default_contract().names
    assert bag([{name: r[name] for name in names} for r in history]) == bag([a.values for a in accepted])
    assert sorted(r["_file_row"] for r in history) == sorted(a.order[-1] for a in accepted)  # type: ignore[type-var]
    found = Counter((r["file_row"], r["column"]) for r in rejects)
    assert found == Counter((file_row, column) for file_row, column, _ in verdict.rejects)
    assert all(r["raw"] is not None and r["reason"] for r in rejects)


def twin(row: Row) -> tuple[tuple[object, ...], tuple[Any, ...]]:
    """What makes two deliveries the same bytes of the same vendor, and a delivery's order among those."""
    return (row["vendor"], row["sha256"]), (row["file_key"], row["path"], row["modified_at"])
