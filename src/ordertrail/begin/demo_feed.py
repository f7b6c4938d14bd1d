"""The vendor files of `ordertrail demo`: messy on purpose, the way real feeds are, and always the same.

Three vendors send four days of updates up to the day before `today`:

- `acme`, one file a day with the day's updates: other header spellings, an unknown column, an exact copy of a file,
  late scans, rows that cannot become shipments, an empty file one day;
- `blue-freight`, a German partner with cumulative files: semicolons, cp1252, own headers and dates;
- `zip`, exports without a date in their name: pipes, own status words, a file that lacks a required column.

Nothing here touches a disk or a clock.
"""

from __future__ import annotations

import csv
import io
import random
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from msgspec import Struct
from msgspec.structs import replace

DEMO_SHOWCASE = "1Z999AA10123456784"
"""Tracking number of the shipment with the richest timeline."""

_WRONG_ADDRESS = "1450 Lakeshore Drive, Chicago, IL 60601"
_RIGHT_ADDRESS = "1450 Lakeshore Drive, Apt 7, Chicago, IL 60610"

DEMO_DAYS = 4
"""Days with updates; the last is the day before `today`."""

_CHICAGO = ZoneInfo("America/Chicago")
_BERLIN = ZoneInfo("Europe/Berlin")
_COLUMNS = (
    "order_num",
    "tracking_num",
    "pck_recieved_date",
    "package_deliver_date",
    "status",
    "address",
    "last_update_timestamp",
)
_ACME_OTHER_HEADER = ("Order Num", "TrackingNo", "pck_received_date", *_COLUMNS[3:])
_BLUE_HEADER = (
    "Auftrag",
    "Sendungsnummer",
    "Abholdatum",
    "Zustelldatum",
    "Status",
    "Empfängeradresse",
    "Letzte Änderung",
)
_JOURNEY = ("ORDER_PLACED", "LABEL_CREATED", "PICKED_UP", "IN_TRANSIT", "IN_TRANSIT", "OUT_FOR_DELIVERY", "DELIVERED")
_ZIP_WORDS = {
    "ORDER_PLACED": "Order received",
    "LABEL_CREATED": "Label printed",
    "PICKED_UP": "Collected",
    "IN_TRANSIT": "On the road",
    "OUT_FOR_DELIVERY": "With courier",
    "EXCEPTION": "Problem",
    "DELIVERED": "Delivered - Front Door",
}
_US_STREETS = ("Elm Street", "Main Street", "Lakeshore Drive", "5th Avenue", "O'Hare Road", "Peña Boulevard")
_US_CITIES = ("Springfield, IL 62704", "Chicago, IL 60601", "Austin, TX 73301", "Denver, CO 80249", "Boston, MA 02108")
_DE_STREETS = ("Königstraße", "Am Mühlbach", "Schloßallee", "Bahnhofstraße", "Große Bleichen")
_DE_CITIES = ("50667 Köln", "80331 München", "20354 Hamburg", "40213 Düsseldorf", "04109 Leipzig")


class DemoFile(Struct, frozen=True):
    """One vendor file of the demo.

    Attributes:
        path: Below the source folder.
        content: All bytes.
        mtime_ns: Modification time to give it, nanoseconds since 1970; before midnight UTC of `today`.
    """

    path: str
    content: bytes
    mtime_ns: int


class _Update(Struct, frozen=True):
    """What a vendor knows about a shipment at one time; `at` is the vendor's local time."""

    order_num: str
    tracking_num: str
    received: date | None
    delivered: date | None
    status: str
    address: str
    at: datetime


_Cells = Sequence[str]
_Address = Callable[[random.Random], str]


def demo_config_text() -> str:
    """The `ordertrail.toml` for the demo's files: source, archive and warehouse are folders below `data`."""
    return _CONFIG


def demo_files(today: date, seed: int = 7) -> tuple[DemoFile, ...]:
    """Generate the vendor files of the days before `today`.

    Args:
        today: The day the demo is run; no file is dated or written on it or after.
        seed: Other seeds give other shipments; the broken rows and the showcase stay.

    Returns:
        The files in the order they were written, 13 of them with some 420 rows; the same for the same arguments.
    """
    rng = random.Random(seed)
    days = tuple(today - timedelta(days=DEMO_DAYS - n) for n in range(DEMO_DAYS))
    files = (*_acme(rng, days), *_blue(rng, days), *_zip(rng, days))
    return tuple(sorted(files, key=lambda file: (file.mtime_ns, file.path)))


def _acme(rng: random.Random, days: Sequence[date]) -> Iterable[DemoFile]:
    """A file a day with the updates of that day, local time of Chicago."""
    one, two, three, four = days
    updates = [*_journeys(rng, 22, days, _CHICAGO, _ups_number, _us_address), *_showcase(days)]
    daily = {day: [_iso_cells(u) for u in updates if u.at.date() == day] for day in days}
    daily[one][4:4] = [daily[one][3]]  # the same row twice
    daily[two][5:5] = _broken_rows(two)
    late = [
        replace(u, status="LABEL_CREATED", received=None)
        for u in updates
        if u.at.date() == two and u.status == "PICKED_UP"
    ]
    late_cells = [_iso_cells(replace(u, at=u.at - timedelta(minutes=95))) for u in late]
    yield _file(f"acme/order_tracking_{one - timedelta(days=1):%Y_%m_%d}.csv", b"", one - timedelta(days=1))
    yield _file(_acme_name(one), _csv(_COLUMNS, daily[one]), one)
    second = _csv(_ACME_OTHER_HEADER, daily[two])
    yield _file(_acme_name(two), second, two)
    yield _file(f"acme/copy of order_tracking_{two:%Y_%m_%d}.csv", second, three)
    service = [(*cells, "EXPRESS" if n % 4 == 0 else "GROUND") for n, cells in enumerate(daily[three])]
    yield _file(_acme_name(three), _csv((*_COLUMNS, "Service Level"), service), three)
    yield _file(_acme_name(four), _csv(_COLUMNS, daily[four]), four)
    yield _file(
        f"acme/late_scans_{four:%Y_%m_%d}.csv", _csv(_COLUMNS, [*late_cells, *_skipped_hour(four), *_late(days)]), four
    )


def _acme_name(day: date) -> str:
    return f"acme/order_tracking_{day:%Y_%m_%d}.csv"


def _broken_rows(day: date) -> list[_Cells]:
    """Rows that are rejected, each for another rule."""
    at = f"{day:%Y-%m-%d} 11:30:00"
    received = f"{day:%Y-%m-%d}"
    return [
        ("0004711901", "1Z999AA10100000901", "2026-02-30", "", "PICKED_UP", "12 Elm Street, Springfield, IL 62704", at),
        ("0004711902", "1.23E+11", received, "", "PICKED_UP", "14 Elm Street, Springfield, IL 62704", at),
        ("0004711903", "", received, "", "LABEL_CREATED", "16 Elm Street, Springfield, IL 62704", at),
        (
            "0004711904",
            "1Z999AA10100000904",
            received,
            "",
            "PICKED_UP",
            "18 Elm Street",
            " Springfield",
            " IL 62704",
            at,
        ),
    ]


def _skipped_hour(before: date) -> list[_Cells]:
    """An update at 02:30 on the last day that Chicago set its clocks forward at 02:00: there was no such time."""
    march_firsts = (date(before.year - back, 3, 1) for back in (0, 1))
    # The second Sunday of March.
    changes = (first + timedelta(days=(6 - first.weekday()) % 7 + 7) for first in march_firsts)
    change = next(day for day in changes if day < before)
    address = "77 Lakeshore Drive, Chicago, IL 60601"
    return [("0004711905", "1Z999AA10100000905", "", "", "IN_TRANSIT", address, f"{change:%Y-%m-%d} 02:30:00")]


def _showcase(days: Sequence[date]) -> list[_Update]:
    """What `acme` reports about the showcase shipment day by day."""
    one, two, three, four = days
    first = _Update("0000815001", DEMO_SHOWCASE, one, None, "LABEL_CREATED", _WRONG_ADDRESS, _local(one, 9, 12))
    return [
        first,
        replace(first, status="PICKED_UP", at=_local(one, 16, 40)),
        replace(first, status="IN_TRANSIT", at=_local(two, 6, 5)),
        replace(first, status="OUT_FOR_DELIVERY", at=_local(three, 7, 55)),
        replace(first, status="EXCEPTION", at=_local(three, 12, 31)),
        replace(first, status="DELIVERED", delivered=four, address=_RIGHT_ADDRESS, at=_local(four, 14, 20)),
    ]


def _late(days: Sequence[date]) -> list[_Cells]:
    """Rows of the showcase shipment in a late file: an older scan, and the exception again with the right address."""
    wrong = next(u for u in _showcase(days) if u.status == "EXCEPTION")
    scan = replace(wrong, status="IN_TRANSIT", at=_local(days[1], 15, 47))
    return [_iso_cells(scan), _iso_cells(replace(wrong, address=_RIGHT_ADDRESS))]


def _local(day: date, hour: int, minute: int) -> datetime:
    return datetime.combine(day, time(hour, minute), tzinfo=_CHICAGO)


def _blue(rng: random.Random, days: Sequence[date]) -> Iterable[DemoFile]:
    """A cumulative file a day from the second day on; German headers, dates and letters."""
    updates = _journeys(rng, 13, days, _BERLIN, lambda n: f"00340434{n * 7919:010d}", _german_address)
    for day in days[1:]:
        rows = [_german_cells(u) for u in updates if u.at.date() <= day]
        if day == days[-1]:
            rows[7:7] = [(*rows[7][:6], "gestern abend")]
        content = _csv(_BLUE_HEADER, rows, delimiter=";", encoding="cp1252", line_end="\r\n")
        yield _file(f"blue-freight/sendungen_{day:%Y%m%d}.csv", content, day)


def _zip(rng: random.Random, days: Sequence[date]) -> Iterable[DemoFile]:
    """Two exports without a date in the name, and a third that lacks the time of the updates."""
    updates = _journeys(rng, 15, days, _CHICAGO, lambda n: f"ZP{n * 104729:09d}", _office_address)
    courier = _Update("", DEMO_SHOWCASE, None, None, "OUT_FOR_DELIVERY", "", _local(days[-1], 8, 10))
    updates.append(replace(courier, address="1450 Lakeshore Drive, Apt 7\nChicago, IL 60610"))
    middle = days[len(days) // 2]
    rows = {True: [_zip_cells(u) for u in updates if u.at.date() < middle]}
    rows[False] = [_zip_cells(u) for u in updates if u.at.date() >= middle]
    rows[False][2:2] = [(*rows[False][2][:6], f"{days[0].year + 20}-01-01T00:00:00Z")]  # a mistyped year
    no_time = [cells[:6] for cells in rows[False][:12]]
    yield _file("zip/export_a.txt", _csv(_COLUMNS, rows[True], delimiter="|"), days[1])
    yield _file("zip/export_b.txt", _csv(_COLUMNS, rows[False], delimiter="|"), days[-1])
    yield _file("zip/export_new_system.txt", _csv(_COLUMNS[:6], no_time, delimiter="|"), days[-1])


def _journeys(
    rng: random.Random,
    count: int,
    days: Sequence[date],
    zone: ZoneInfo,
    number: Callable[[int], str],
    address: _Address,
) -> list[_Update]:
    """The updates of `count` shipments between 06:00 and 17:00 of the days, by time.

    A few have an exception or an unknown status; some are still on their way at the end.
    """
    updates: list[_Update] = []
    for n in range(1, count + 1):
        at = datetime.combine(days[rng.randrange(len(days) - 1)], time(6, rng.randrange(60), rng.randrange(60)), zone)
        update = _Update(f"{rng.randrange(10**7):010d}", number(n), None, None, "", address(rng), at)
        for status in _JOURNEY:
            if status == "IN_TRANSIT" and rng.random() < 0.12:
                status = rng.choice(("EXCEPTION", "HELD_AT_CUSTOMS"))
            at = _next_working_time(rng, at)
            if at.date() > days[-1]:
                break
            received = at.date() if status == "PICKED_UP" else update.received
            delivered = at.date() if status == "DELIVERED" else None
            update = replace(update, received=received, delivered=delivered, status=status, at=at)
            updates.append(update)
    return sorted(updates, key=lambda u: (u.at, u.tracking_num))


def _next_working_time(rng: random.Random, at: datetime) -> datetime:
    """A time two to nine hours later, or the next morning if that is after 17:00."""
    later = at + timedelta(hours=rng.randint(2, 8), minutes=rng.randrange(60), seconds=rng.randrange(60))
    if later.date() > at.date() or later.hour >= 17:
        morning = time(6 + rng.randrange(3), rng.randrange(60), rng.randrange(60))
        later = datetime.combine(at.date() + timedelta(days=1), morning, at.tzinfo)
    return later


def _ups_number(n: int) -> str:
    return f"1Z999AA1{(n * 7368787) % 10**10:010d}"


def _us_address(rng: random.Random) -> str:
    return f"{rng.randrange(1, 2000)} {rng.choice(_US_STREETS)}, {rng.choice(_US_CITIES)}"


def _office_address(rng: random.Random) -> str:
    """In two lines, sometimes with quotes around the building's name."""
    building = rng.choice(("Suite", 'The "Annex", Floor', "c/o Miller & Sons | Unit"))
    return f"{building} {rng.randrange(1, 60)}\n{_us_address(rng)}"


def _german_address(rng: random.Random) -> str:
    return f"{rng.choice(_DE_STREETS)} {rng.randrange(1, 120)}, {rng.choice(_DE_CITIES)}"


def _iso_cells(update: _Update) -> _Cells:
    return _cells(update, "%Y-%m-%d", update.at.strftime("%Y-%m-%d %H:%M:%S"))


def _german_cells(update: _Update) -> _Cells:
    return _cells(update, "%d.%m.%Y", update.at.strftime("%d.%m.%Y %H:%M:%S"))


def _zip_cells(update: _Update) -> _Cells:
    own = replace(update, status=_ZIP_WORDS.get(update.status, update.status))
    return _cells(own, "%Y-%m-%d", update.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"))


def _cells(update: _Update, day_format: str, at: str) -> _Cells:
    received, delivered = ("" if d is None else d.strftime(day_format) for d in (update.received, update.delivered))
    return (update.order_num, update.tracking_num, received, delivered, update.status, update.address, at)


def _csv(
    header: _Cells, rows: Iterable[_Cells], *, delimiter: str = ",", encoding: str = "utf-8", line_end: str = "\n"
) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, lineterminator=line_end)
    writer.writerow(header)
    writer.writerows(rows)
    return out.getvalue().encode(encoding)


def _file(path: str, content: bytes, day: date) -> DemoFile:
    """A file written ten minutes before midnight UTC: after the day's last update in every vendor's zone."""
    written = datetime.combine(day, time(23, 50), tzinfo=UTC)
    return DemoFile(path, content, int(written.timestamp()) * 10**9)


_CONFIG = """\
# The demo's pipeline: three vendors, no two of them alike. All that is not said here has its default.
[pipeline]
name = "demo"
source = "data/source"
archive = "data/archive"
warehouse = "data/warehouse"
settle_s = 0.0                       # the demo's files are complete when they appear

[[vendors]]
name = "acme"
files = "acme/*.csv"
encoding = "utf-8"
timezone = "America/Chicago"         # of timestamps without an offset
aliases = { tracking_num = ["TrackingNo"], pck_recieved_date = ["pck_received_date"] }

[[vendors]]
name = "blue-freight"
files = "blue-freight/*.csv"
delimiter = ";"
encoding = "cp1252"
timezone = "Europe/Berlin"

[vendors.aliases]
order_num = ["Auftrag"]
tracking_num = ["Sendungsnummer"]
pck_recieved_date = ["Abholdatum"]
package_deliver_date = ["Zustelldatum"]
address = ["Empfängeradresse"]
last_update_timestamp = ["Letzte Änderung"]

[vendors.formats]
pck_recieved_date = ["%d.%m.%Y"]
package_deliver_date = ["%d.%m.%Y"]
last_update_timestamp = ["%d.%m.%Y %H:%M:%S"]

[[vendors]]
name = "zip"
files = "zip/*.txt"
delimiter = "|"
timezone = "America/Chicago"

[vendors.status_map]
"Order received" = "ORDER_PLACED"
"Label printed" = "LABEL_CREATED"
"Collected" = "PICKED_UP"
"On the road" = "IN_TRANSIT"
"With courier" = "OUT_FOR_DELIVERY"
"Problem" = "EXCEPTION"
"Delivered - Front Door" = "DELIVERED"
"""
