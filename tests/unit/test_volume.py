"""How many rows a file may have: what earlier files teach, which cuts are noticed, and how few good files are held."""

from __future__ import annotations

import hashlib
import io
import math
import pickle
import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import pyarrow as pa
import pytest
from msgspec.structs import replace

from ordertrail.engines.spark.books import CatalogBooks
from ordertrail.engines.spark.work import SparkPass
from ordertrail.errors import QuarantineError
from ordertrail.model import Claims, FileIdentity, SenderManifest, Vendor
from ordertrail.parse.reader import DeliveryReader
from ordertrail.rules.planning import Candidate, bounded, wrong_file, wrong_rows
from ordertrail.rules.shares import Shares
from ordertrail.rules.volume import LEAST, RECENT, Volume, bounds_of
from tests.feeds import TIMES, cells, csv_bytes
from tests.oracle import default_contract

LEARN = Volume(learn=True)
FEEDS: dict[str, Callable[[random.Random, int], float]] = {
    "steady": lambda rng, _: rng.gauss(1000, 30),
    "scattered": lambda rng, _: rng.gauss(1000, 50),
    "small": lambda rng, _: rng.gauss(60, 2),
    "growing": lambda rng, day: rng.gauss(1000, 30) * 1.003**day,
    "free on sundays": lambda rng, day: rng.gauss(1000 if day % 7 < 6 else 600, 20),
    "anything": lambda rng, _: math.exp(rng.gauss(7, 0.3)),
}
NOTICED = {"steady": 0.95, "scattered": 0.95, "small": 0.95, "growing": 0.95}
"""The share of cuts above 20 % that must be held; of feeds that are not listed nobody can tell."""


@pytest.mark.parametrize("feed", FEEDS)
def test_what_is_learned_holds_cut_files_and_hardly_ever_a_good_one(feed: str) -> None:
    rng = random.Random(feed)
    good = cut = 0
    judged = 2000
    rows = [max(1, round(FEEDS[feed](rng, day))) for day in range(judged + RECENT)]
    for day in range(RECENT, len(rows)):
        bounds = bounds_of(LEARN, rows[day - RECENT : day])
        assert bounds is not None
        good += bounds.outside(rows[day]) is not None
        cut += bounds.outside(int(rows[day] * (1 - rng.uniform(0.2, 1)))) is not None
    assert good <= judged // 1000
    assert cut >= NOTICED.get(feed, 0) * judged


def test_no_verdict_with_too_few() -> None:
    assert bounds_of(LEARN, [1000] * (LEAST - 1)) is None
    bounds = bounds_of(LEARN, [1000] * LEAST)
    assert bounds is not None
    assert (bounds.least, bounds.most, bounds.outside(850), bounds.outside(2000)) == (850, 2000, None, None)
    assert (
        bounds.outside(849) == "it has 849 rows, fewer than the 850 to 2,000 that the last 10 files teach (expect_rows)"
    )
    assert "2,001 rows, more than" in str(bounds.outside(2001))


def test_what_the_config_says_needs_no_history() -> None:
    bounds = bounds_of(Volume(100, 1000), [])
    assert bounds is not None
    assert [bounds.outside(rows) is None for rows in (99, 100, 1000, 1001)] == [False, True, True, False]
    assert bounds.outside(99) == "it has 99 rows, fewer than the 100 to 1,000 that expect_rows allows"


def test_one_odd_file_teaches_nothing() -> None:
    usual, odd = bounds_of(LEARN, [1000] * 20), bounds_of(LEARN, [1000] * 19 + [3])
    assert usual == odd


def candidate(vendor: str, data: bytes, sender: SenderManifest | None = None) -> Candidate:
    identity = FileIdentity(1, 2, len(data), 0, 0)
    sha256 = hashlib.sha256(data).hexdigest()
    return Candidate(0, "000001-00000-aa", Vendor(vendor), "a.csv", "a.csv", identity, sha256, 0, "h", sender=sender)


def test_only_vendors_of_the_batch_that_learn_are_asked_for() -> None:
    asked: list[object] = []

    def recent(vendors: object) -> dict[str, tuple[int, ...]]:
        asked.append(vendors)
        return {"learns": (1000,) * 20}

    volumes = [("learns", LEARN), ("says", Volume(1, 2)), ("absent", LEARN), ("new", LEARN)]
    names = ("learns", "says", "new", "other")
    shares = [("learns", Shares(new=0.5)), ("other", Shares(new=0.5)), ("absent", Shares(stale=0.5))]
    found = bounded([candidate(name, b"") for name in names], volumes, shares, recent)
    assert [one.bounds and one.bounds.least for one in found] == [850, 1, None, None]
    # Of a vendor without a loaded file nothing is judged: all that it brings is new.
    assert [one.shares for one in found] == [Shares(new=0.5), None, None, None]
    assert asked == [["learns", "new", "other"]]
    assert bounded([candidate("says", b"")], volumes[1:2], shares, recent)[0].bounds is not None
    assert len(asked) == 1
    reject = wrong_rows(found[1], 3)
    assert reject is not None
    assert (reject.rule, reject.file_row) == ("expect_rows", None)
    assert reject.reason.startswith("it has 3 rows, more than the 1 to 2 that expect_rows allows; ask the vendor")
    assert "ordertrail release 000001-00000-aa" in reject.reason


FILE = csv_bytes([cells(f"{number:05d}", TIMES[number % 4]) for number in range(40)])
CUTS = sorted(random.Random(1).sample(range(1, len(FILE)), 1000))


def test_a_thousand_cuts() -> None:
    """With a manifest all are held; without one those inside of a row, where every file has a final newline."""
    claims = Claims(rows=40, size_bytes=len(FILE), sha256=hashlib.sha256(FILE).hexdigest())
    sender = SenderManifest("a.csv.done", FileIdentity(1, 2, 3, 4, 5), "", claims)
    vendor, contract = Vendor("acme", final_newline=True), default_contract()
    header = FILE.index(b"\n") + 1
    unseen = 0
    for end in CUTS:
        data = FILE[:end]
        assert wrong_file(candidate("acme", data, sender)) is not None
        by_rows = replace(sender, claims=Claims(rows=40))
        lines = max(data.count(b"\n") - 1, 0)
        assert wrong_rows(candidate("acme", data, by_rows), lines) is not None
        if end < header:
            continue
        reader = DeliveryReader(io.BytesIO(data), vendor, contract)
        reader.header()
        if data.endswith(b"\n"):
            assert sum(block.parsed for block in reader.blocks()) == lines
            unseen += 1
        else:
            with pytest.raises(QuarantineError, match="has no line end: the file was cut off"):
                list(reader.blocks())
    assert 0 < unseen <= 40


def test_a_final_newline_is_asked_for_only_where_it_is_said_and_nobody_released_the_file() -> None:
    contract = default_contract()
    for vendor, trailers in ((Vendor("acme"), True), (Vendor("acme", final_newline=True), False)):
        reader = DeliveryReader(io.BytesIO(FILE[:-1]), vendor, contract, trailers=trailers)
        reader.header()
        assert sum(block.parsed for block in reader.blocks()) == 40


def test_spark_tells_the_same_recent_rows_and_its_executors_get_the_bounds() -> None:
    states = [*["loaded"] * 25, "held", "loaded"]
    ledger = pa.table(
        {
            "delivery_id": [f"{number:06d}-00000-aa" for number in reversed(range(len(states)))],
            "vendor": [*["acme"] * 26, "blue"],
            "state": states,
            "rows_parsed": list(range(len(states))),
        }
    )
    books = CatalogBooks(cast(SparkPass, SimpleNamespace(deliveries=lambda: ledger)))
    assert books.recent_rows(["acme", "new"]) == {"acme": tuple(range(RECENT)), "new": ()}
    sender = SenderManifest("a.done", FileIdentity(1, 2, 3, 4, 5), "", Claims(rows=3))
    one = replace(candidate("acme", b"x", sender), bounds=bounds_of(Volume(1, 2), ()))
    assert pickle.loads(pickle.dumps(one)) == one
