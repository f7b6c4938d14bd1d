"""Who is late by the tables: what counts as a file that came, and eight weeks of three vendors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from msgspec.structs import replace

from ordertrail.arrow import arrow_schema
from ordertrail.config import Config, parse_config, template
from ordertrail.look import document
from ordertrail.look.arrivals import NEEDED, Came, arrivals_of, came_by_vendor, late_vendors, owed_by
from ordertrail.look.open_items import Facts, OpenItem, Waiting, open_items
from ordertrail.look.standing import in_catalog
from ordertrail.model import State
from ordertrail.rules.tables import DELIVERIES

CHICAGO = ZoneInfo("America/Chicago")
KOLKATA = ZoneInfo("Asia/Kolkata")
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
TYPES = {column.name: column.type for column in DELIVERIES}
VENDORS = """
[[vendors]]
name = "acme"
files = "acme/*.csv"
timezone = "America/Chicago"
expect_by = "07:30"
expect_days = ["mon", "tue", "wed", "thu", "fri"]
expect_holidays = [2026-11-26]

[[vendors]]
name = "blue"
files = "blue/*.csv"
expect_every = "4h"
expect_grace = "10m"

[[vendors]]
name = "cargo"
files = "cargo/*.csv"
timezone = "Asia/Kolkata"
expect = "learn"
"""


@pytest.fixture(scope="module")
def config() -> Config:
    return parse_config(template() + VENDORS, base=Path("/srv/orders"), environ={})


Delivery = tuple[str, datetime, str, str | None]
"""Vendor, when it was discovered, state, and what took its place."""


def table(rows: Sequence[Delivery]) -> pa.Table:
    columns = {
        "vendor": [row[0] for row in rows],
        "discovered_at": [row[1] for row in rows],
        "replayed_by": [row[3] for row in rows],
        "delivery_id": [f"id-{number}" for number in range(len(rows))],
        "file_name": [f"file_{number}.csv" for number in range(len(rows))],
    }
    return pa.table(columns, schema=arrow_schema((name, TYPES[name]) for name in columns))


def came(rows: Sequence[Delivery], waiting: Sequence[Waiting] = (), now: datetime = NOW) -> dict[str, Came]:
    found = table(rows)
    asked: set[str] = set()

    def read(names: Sequence[str]) -> pa.Table:
        asked.update(names)
        return found.select(list(names))

    result = came_by_vendor(read, waiting, now=now, back=timedelta(days=61))
    assert asked <= set(NEEDED)
    return result


# --- what came ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [state for state in State if state not in (State.CORRECTION, State.MIGRATION)])
def test_a_file_came_whatever_became_of_it(state: State) -> None:
    assert came([("acme", NOW, state, None)]) == {"acme": Came((NOW,), "file_0.csv", 1)}


def test_what_no_vendor_sent_did_not_come() -> None:
    """A correction and a migration have no file; a file that was read again, or given by a person, is not a new one."""
    rows: list[Delivery] = [
        ("acme", NOW - timedelta(days=2), "replayed", "id-2"),
        ("", NOW, "correction", None),
        ("acme", NOW - timedelta(days=1), "loaded", None),
        ("", NOW, "migration", None),
        ("acme", NOW - timedelta(days=3), "loaded", None),
    ]
    assert came(rows) == {"acme": Came((NOW - timedelta(days=3), NOW - timedelta(days=2)), "file_0.csv", 2)}
    assert came([]) == {}


def test_a_vendor_that_is_silent_for_long_is_known_by_all_its_files() -> None:
    """Only what is too old for a verdict is left out, and only of vendors that sent anything since."""
    old = [NOW - timedelta(days=number) for number in (400, 300)]
    rows: list[Delivery] = [(vendor, at, "loaded", None) for at in old for vendor in ("acme", "blue")]
    rows.append(("blue", NOW - timedelta(days=1), "loaded", None))
    assert came(rows) == {
        "acme": Came(tuple(old), "file_2.csv", 2),
        "blue": Came((NOW - timedelta(days=1),), "file_4.csv", 3),
    }


def test_a_file_that_waits_came_when_it_was_complete() -> None:
    rows: list[Delivery] = [("acme", NOW - timedelta(hours=2), "loaded", None)]
    for since, times in {
        NOW - timedelta(hours=1): (NOW - timedelta(hours=2), NOW - timedelta(hours=1)),
        NOW - timedelta(hours=3): (NOW - timedelta(hours=3), NOW - timedelta(hours=2)),
        NOW + timedelta(hours=1): (NOW - timedelta(hours=2), NOW),  # another clock's
        None: (NOW - timedelta(hours=2), NOW),
    }.items():
        found = came(
            rows, [Waiting("acme/new.csv", "acme", "waits", since), Waiting("x.csv", None, "no vendor", since)]
        )
        last = "file_0.csv" if since == NOW - timedelta(hours=3) else "acme/new.csv"
        assert found == {"acme": Came(times, last, 2)}
    assert came([], [Waiting("b.csv", "blue", "waits")]) == {"blue": Came((NOW,), "b.csv", 1)}


# --- eight weeks -------------------------------------------------------------------------------------------------

FIRST = date(2026, 10, 12)
BEGAN = datetime(2026, 10, 12, tzinfo=UTC)
STEP = timedelta(minutes=15)
SILENT = date(2026, 12, 2)
"""The Wednesday on which nobody sends anything, until the evening."""

HOLIDAY = date(2026, 11, 26)


def arrivals() -> Iterator[tuple[str, datetime]]:
    """Eight weeks of three vendors, over the night in which America's clock is set back, then one silent day.

    `acme` sends on workdays about 07:10 in Chicago, but for the holiday. `blue` sends every four hours. `cargo` sends
    about 18:00 in Kolkata, and nobody told us; on the holiday it sends nothing either.
    """
    for number in range(56):
        day = FIRST + timedelta(days=number)
        jitter = timedelta(minutes=(number * 7) % 19)
        if day.weekday() < 5 and day not in (SILENT, HOLIDAY):
            yield "acme", datetime(day.year, day.month, day.day, 7, 5, tzinfo=CHICAGO).astimezone(UTC) + jitter
        for hour in range(0, 24, 4):
            if day != SILENT:
                yield "blue", datetime(day.year, day.month, day.day, hour, tzinfo=UTC) + jitter / 3
        if day not in (SILENT, HOLIDAY):
            yield "cargo", datetime(day.year, day.month, day.day, 17, 50, tzinfo=KOLKATA).astimezone(UTC) + jitter


def test_eight_weeks_of_three_vendors(config: Config) -> None:
    """No false alarm; the silent day is found within 15 minutes of each vendor's time, and the file closes it."""
    # The holiday is told to ordertrail for both of those that keep it.
    expectations = tuple((name, replace(one, holidays=frozenset({HOLIDAY}))) for name, one in config.expectations)
    config = replace(config, expectations=expectations)
    feed = sorted(arrivals(), key=lambda one: one[1])
    opened: dict[str, tuple[datetime, datetime]] = {}
    closed: dict[str, datetime] = {}
    now, sent, found = BEGAN, 0, dict[str, Came]()
    while now < BEGAN + timedelta(days=56):
        while sent < len(feed) and feed[sent][1] <= now:
            vendor, at = feed[sent]
            found[vendor] = Came((*(found[vendor].times if vendor in found else ()), at), "orders.csv", 1)
            sent += 1
        items = open_items(config, Facts(late=late_vendors(owed_by(config, found, now), now)), now)
        told = {item.key: item for item in items}
        assert all(item.kind == "late" for item in items)
        for key, item in told.items():
            assert item.since is not None
            opened.setdefault(key, (now, item.since))
        for key in opened.keys() - told.keys():
            closed.setdefault(key, now)
        assert all(key in told or key in closed for key in opened)
        now += STEP
    silent = datetime(2026, 12, 2, tzinfo=UTC)
    # acme by 07:30 in Chicago; blue four hours after 20:06 of the day before; cargo an hour after its usual time
    due = {"acme": timedelta(hours=13, minutes=30), "blue": timedelta(minutes=6), "cargo": timedelta(hours=12.5 + 1)}
    assert opened.keys() == closed.keys() == {f"vendor:{name}:late" for name in due}
    for name, length in due.items():
        when, since = opened[f"vendor:{name}:late"]
        assert abs(since - (silent + length)) <= timedelta(minutes=30)
        assert timedelta(0) <= when - since <= STEP
        nexts = next(at for vendor, at in feed if vendor == name and at > since)
        assert timedelta(0) <= closed[f"vendor:{name}:late"] - nexts <= STEP
    assert opened["vendor:acme:late"][0] <= silent + due["acme"] + timedelta(minutes=15)


# --- the read model ----------------------------------------------------------------------------------------------


def test_what_came_of_every_vendor(config: Config) -> None:
    now = datetime(2026, 12, 2, 15, tzinfo=UTC)
    rows: list[Delivery] = [(vendor, at, "loaded", None) for vendor, at in arrivals() if at <= now]
    acme, blue, cargo = arrivals_of(config, came(rows, now=now), now, days=8)
    assert [one.vendor for one in (acme, blue, cargo)] == ["acme", "blue", "cargo"]
    assert acme.expectation == "by 07:30 America/Chicago on mon, tue, wed, thu, fri"
    assert (blue.expectation, cargo.expectation) == ("every 4h", "as learned from its last 8 weeks")
    assert acme.next_expected == datetime(2026, 12, 2, 13, 30, tzinfo=UTC)
    assert acme.late_from == acme.late_since == datetime(2026, 12, 2, 13, 40, tzinfo=UTC)
    states = [one.state for one in acme.days]
    assert states == ["in_time", "not_expected", "in_time", *["not_expected"] * 2, "in_time", "in_time", "missing"]
    assert [one.files for one in blue.days] == [6, 6, 6, 6, 6, 6, 6, 0]
    assert acme.files == sum(row[0] == "acme" for row in rows)
    assert (acme.last_at, acme.last_file) == (max(row[1] for row in rows if row[0] == "acme"), acme.last_file)
    unseen = arrivals_of(config, came(rows, now=now), now, days=1, judged=False)
    assert [one.late_since for one in unseen] == [None] * 3
    told = document.arrivals((acme,))["vendors"][0]  # type: ignore[index, call-overload]
    assert told["late_since"] == "2026-12-02T13:40:00Z"  # type: ignore[index, call-overload]
    last = {"day": "2026-12-02", "state": "missing", "files": 0, "first": None, "last": None}
    assert told["days"][-1] == last  # type: ignore[index, call-overload]


def test_a_vendor_of_whom_nothing_is_known(config: Config) -> None:
    plain = replace(config, expectations=())
    (one, *_) = arrivals_of(plain, {}, NOW, days=2)
    assert (one.expectation, one.next_expected, one.late_since, one.last_at, one.last_file) == (
        "",
        None,
        None,
        None,
        "",
    )
    assert [day.state for day in one.days] == ["not_expected"] * 2
    assert late_vendors(owed_by(plain, {}, NOW), NOW) == ()


def test_a_vendor_that_never_sent_is_late_when_others_sent_before(config: Config) -> None:
    others = {"blue": Came((NOW - timedelta(days=1),), "b.csv", 1)}
    now = datetime(2026, 11, 23, 13, 40, tzinfo=UTC)
    found = late_vendors(owed_by(config, others, now), now)
    assert [one.vendor for one in found] == ["acme", "blue"]
    assert (found[0].last_at, found[0].last_file) == (None, "")
    assert late_vendors(owed_by(config, {}, now), now) == ()


def test_an_item_is_the_same_while_it_is_open(config: Config) -> None:
    """What was missed first stays what is told: an incident keeps its beginning."""
    late: list[OpenItem] = []
    for day in (23, 24, 25, 27, 30):
        now = datetime(2026, 11, day, 18, tzinfo=UTC)
        found = {"acme": Came((datetime(2026, 11, 20, 13, tzinfo=UTC),), "a.csv", 1)}
        late += open_items(config, Facts(late=late_vendors(owed_by(config, found, now), now)), now)
    assert len({(one.key, one.since, one.text) for one in late}) == 1
    assert len(late) == 5


def test_tables_by_name_are_judged_by_the_columns_that_spark_reads(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = pytest.importorskip("ordertrail.engines.spark.reading")
    source = tmp_path / "source"
    source.mkdir()
    asked: list[str] = []

    def deliveries(_: Config, __: object, names: Sequence[str]) -> pa.Table:
        asked.extend(names)
        row = {"vendor": "blue", "discovered_at": datetime.now(UTC) - timedelta(days=1), "state": "loaded", "batch": 1}
        row |= {"delivery_id": "id-0", "file_name": "b.csv"}
        return pa.table(
            {name: [row.get(name)] for name in names}, schema=arrow_schema((name, TYPES[name]) for name in names)
        )

    monkeypatch.setattr(reading, "deliveries_of", deliveries)
    found = in_catalog(replace(config, source=source, warehouse=tmp_path, archive=tmp_path / "archive"), None)
    assert {*NEEDED} <= {*asked}
    assert len(asked) == len({*asked})
    (blue,) = [item for item in found if item.key == "vendor:blue:late"]
    assert "the last one, b.csv, came " in blue.text
