"""P2: the same set of files, in any order, any batching, with any repeats, gives the same target rows.

`test_arrivals.py` holds it of any feed; here are the traps that have names. `tests/spark/test_rules.py` has them for
Spark.
"""

from __future__ import annotations

import csv
import json
import os
import tempfile
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from ordertrail.keep.rebuild import Differences, rebuild
from ordertrail.look.verify import verify
from ordertrail.model import Vendor
from tests.depth import share
from tests.feeds import (
    FEED_LIMITS,
    FEED_VENDORS,
    LAYOUTS,
    NO_ADDRESS,
    TIE_TIME,
    Batches,
    FeedFile,
    batchings,
    cells,
    csv_bytes,
    dated,
    feeds,
)
from tests.harness import NOON_NS, House, check_books, open_house, without_fsync
from tests.oracle import Key, Row, RowOrder, default_contract, judge, judge_file, judge_rounds

pytestmark = [pytest.mark.property, pytest.mark.slow]

EXTRA = next(layout.extra for layout in LAYOUTS if layout.extra is not None)
Arrival = tuple[tuple[FeedFile, ...], Batches]
FEEDS = int(os.environ.get("FEEDS", "25"))
"""Feeds that whole pipelines are tried on: each is several passes, and a look by every reader. `FEEDS=400` for more."""


@st.composite
def arrivals(draw: st.DrawFn, *, absent: bool = False) -> Arrival:
    """A feed, and a way for it to arrive."""
    files = draw(feeds(absent=absent))
    return files, draw(batchings(files))


def load(root: Path, batches: Batches, vendors: tuple[Vendor, ...] = FEED_VENDORS) -> House:
    """A house where the batches came one after the other."""
    house = open_house(root, vendors=vendors, **FEED_LIMITS)
    for files in batches:
        house.drop_all(files)
        house.run()
    return house


def expected_target(files: Sequence[FeedFile]) -> dict[Key, Row]:
    """The oracle's target, with `_rescued` of each key's newest row."""
    newest: dict[Key, tuple[RowOrder, str | None]] = {}
    for file in files:
        verdict, rows = judge_file(file, default_contract(), FEED_VENDORS, *FEED_LIMITS.values())
        if verdict.state != "loaded":
            continue
        header = next(csv.reader([file.content.decode().splitlines()[0]]))
        rescued = json.dumps({EXTRA: EXTRA}, separators=(",", ":")) if EXTRA in header else None
        for row in rows:
            key = (row.values["tracking_num"],)
            if key not in newest or newest[key][0] < row.order:
                newest[key] = row.order, rescued
    target = judge(files, None, FEED_VENDORS, **FEED_LIMITS).target
    return {key: {**row, "_rescued": newest[key][1]} for key, row in target.items()}


def check_target(house: House, files: Sequence[FeedFile]) -> None:
    """The target is the oracle's, all files are taken and the books are right."""
    target = house.target()
    for row in house.rows("target"):
        target[(row["tracking_num"],)]["_rescued"] = row["_rescued"]
    assert target == expected_target(files)
    assert house.left() == []
    check_books(house)


REREAD_AS = (("LOST", "DELIVERED"), ("IN_TRANSIT", "PICKED_UP"), ("DELIVERED", "EXCEPTION"))
"""A change of `status_map` that gives some statuses a higher rank, some a lower one."""


@settings(max_examples=share(FEEDS // 4))
@given(arrivals(), st.booleans())
def test_the_same_files_again_under_another_profile(arrival: Arrival, absent: bool) -> None:
    """The order is total: where all else is equal, the later reading of a file wins, and a rebuild gives the same."""
    files, batches = arrival
    changed = tuple(replace(vendor, status_map=REREAD_AS) for vendor in FEED_VENDORS)
    before = FEED_VENDORS if absent else tuple(replace(vendor, absent=()) for vendor in FEED_VENDORS)
    with tempfile.TemporaryDirectory() as folder, without_fsync():
        house = load(Path(folder), batches, vendors=before)
        house.turn(vendors=changed)
        for again in reversed(batches):
            house.drop_all(again)
            house.run()
        expected = judge_rounds([(files, before), (files, changed)], **FEED_LIMITS)
        assert house.target() == expected
        check_books(house)
        wrong = [check for check in verify(house.config).checks if not check.ok]
        assert wrong == []
        assert rebuild(house.config, dry_run=True).differences == Differences(0, 0, 0, 0)


X, Y = csv_bytes([cells("007", TIE_TIME, address="X")]), csv_bytes([cells("007", TIE_TIME, address="Y")])
X_AND_MORE = csv_bytes([cells("007", TIE_TIME, address="X"), cells("Z", TIE_TIME)])


ORDERS = list(permutations(range(3)))
DAYS_APART = [dated(20), dated(21), dated(22)]
ONE_DAY = [dated(20, part) for part in ("_a", "_b", "_c")]


@pytest.mark.series
@pytest.mark.parametrize("names", [DAYS_APART, ONE_DAY], ids=["days apart", "one day"])
@pytest.mark.parametrize("last", [X, X_AND_MORE], ids=["the same bytes again", "other bytes"])
@pytest.mark.parametrize("order", ORDERS, ids=lambda order: "".join(map(str, order)))
def test_there_and_back_again_in_every_order(
    tmp_path: Path, order: tuple[int, ...], last: bytes, names: list[str]
) -> None:
    """P2: file 1 says X, file 2 says Y, file 3 says X again, all of one time: X in any order, one file a batch."""
    files = [FeedFile(f"acme/{name}", content, NOON_NS) for name, content in zip(names, (X, Y, last), strict=True)]
    with without_fsync():
        house = load(tmp_path, tuple((files[n],) for n in order))
    assert house.target()["007",]["address"] == "X"
    check_books(house)


def test_a_file_that_lacks_a_column_and_says_the_same_changes_nothing(tmp_path: Path) -> None:
    """Its row comes later in the order, but together with the one before it is what the target has."""
    row = cells("007", TIE_TIME)
    contents = csv_bytes([row]), csv_bytes([row], NO_ADDRESS)
    files = [FeedFile(f"blue/{dated(day)}", c, NOON_NS) for day, c in zip((20, 21), contents, strict=True)]
    with without_fsync():
        house = load(tmp_path, tuple((file,) for file in files))
    assert house.outcomes() == {(dated(20), 1): "inserted", (dated(21), 1): "stale"}
    check_books(house)
    assert rebuild(house.config, dry_run=True).differences == Differences(0, 0, 0, 0)
