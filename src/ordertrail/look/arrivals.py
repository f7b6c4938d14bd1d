"""When the vendors' files came, against when they are expected: who is late, and the days of each vendor.

A file came when a pass first read it (`orders_deliveries.discovered_at`), whatever became of it: one that was
quarantined or held came, too, and is an open item of its own. A file that waits in the source folder came when it was
complete. A file that a correction read again is the same file, and one that a person put in its place is not the
vendor's. A correction and a migration are of no vendor.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from ordertrail.config import Config
from ordertrail.delta.columns import Columns
from ordertrail.rules.cadence import Day, Due, days_of, next_due, remembered
from ordertrail.rules.expectation import Expectation

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "Arrivals",
    "Came",
    "Day",
    "Late",
    "Owed",
    "arrivals_of",
    "came_by_vendor",
    "late_text",
    "late_vendors",
    "owed_by",
]

DAYS = 28
"""How many days of a vendor are told, where nobody asks for more or fewer."""

NEEDED = ("vendor", "discovered_at", "replayed_by", "delivery_id", "file_name")
"""All columns that `came_by_vendor` asks for."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class InSource(Protocol):
    """A file in the source folder; see `ordertrail.look.open_items.Waiting`."""

    @property
    def file_name(self) -> str:
        """Its path below the source."""

    @property
    def vendor(self) -> str | None:
        """The vendor that takes it; None when there is none."""

    @property
    def since(self) -> datetime | None:
        """Since when it waits; aware UTC, None when that is not known."""


class Came(Struct, frozen=True):
    """The files of one vendor.

    Attributes:
        times: When they came; aware UTC, ascending, at least one. Those that are older than any verdict needs may lack.
        last_file: The name of the last one.
        files: How many ever came.
    """

    times: tuple[datetime, ...]
    last_file: str
    files: int


class Late(Struct, frozen=True):
    """A vendor of which a file is missing.

    Attributes:
        vendor: Its name.
        expected: By when the file was expected; aware, in the zone of the expectation.
        since: When the grace after that was over; aware UTC.
        last_at: When its last file came; aware UTC, None when none ever came.
        last_file: The name of that file; "" when none ever came.
    """

    vendor: str
    expected: datetime
    since: datetime
    last_at: datetime | None = None
    last_file: str = ""


class Owed(Struct, frozen=True):
    """The file that a vendor owes next.

    Attributes:
        vendor: Its name.
        expectation: When its files are expected.
        due: By when it is expected; None when nothing can be said.
        came: The files that came; None when none ever did.
    """

    vendor: str
    expectation: Expectation
    due: Due | None
    came: Came | None


class Arrivals(Struct, frozen=True):
    """What came of one vendor, and what is expected. Times are aware UTC.

    Attributes:
        vendor: Its name.
        expectation: What is expected, in plain words, such as `by 07:30 America/Chicago`; "" when nothing is.
        timezone: IANA zone of the days.
        next_expected: By when the next file is expected; in the past while it is missing, None when nothing can be
            said: nothing is expected, no file has come yet, or too few have to learn from.
        late_from: From when on that file is late.
        late_since: Since when the vendor is late; None when it is not.
        last_at: When the last file came; None when none ever came.
        last_file: Its name; "" when none ever came.
        files: How many files ever came.
        days: The last days, oldest first; the last one is today.
    """

    vendor: str
    expectation: str
    timezone: str
    next_expected: datetime | None
    late_from: datetime | None
    late_since: datetime | None
    last_at: datetime | None
    last_file: str
    files: int
    days: tuple[Day, ...]


def came_by_vendor(
    columns: Columns, waiting: Sequence[InSource] = (), *, now: datetime, back: timedelta
) -> dict[str, Came]:
    """The files of every vendor that ever sent one.

    Args:
        columns: Reads the deliveries.
        waiting: The files in the source folder.
        now: Aware UTC; a file that waits since nobody knows when has just come.
        back: How far back files matter of a vendor that sent any since.
    """
    import numpy as np
    import pyarrow as pa

    from ordertrail.arrow import NEVER, coded, integers

    table = columns(NEEDED[:3])
    codes, vendors = coded(table["vendor"])
    times = integers(table["discovered_at"], NEVER)
    new = np.ones(len(times), dtype=bool)
    new[list(_read_again(columns, table))] = False
    counts = np.bincount(codes[new], minlength=len(vendors))
    timed = new & (times != NEVER)
    # Of 100,000 deliveries most are too old to matter: they are passed over before anything is made of them.
    recent = timed & (times >= (now - back - _EPOCH) // _MICROSECOND)
    lively = np.bincount(codes[recent], minlength=len(vendors)) > 0
    wanted = np.flatnonzero(np.where(lively[codes], recent, timed))
    wanted = wanted[np.lexsort((wanted, times[wanted], codes[wanted]))]
    parts = np.split(wanted, np.flatnonzero(np.diff(codes[wanted])) + 1) if len(wanted) else ()
    names = columns(("file_name",))["file_name"] if len(wanted) else pa.chunked_array([], pa.string())
    came: dict[str, Came] = {}
    for places in parts:
        code = int(codes[places[0]])
        if vendors[code]:
            at = tuple(_EPOCH + timedelta(microseconds=us) for us in times[places].tolist())
            came[vendors[code]] = Came(at, names[int(places[-1])].as_py(), int(counts[code]))
    for file in waiting:
        if file.vendor is not None:
            came[file.vendor] = _with(came.get(file.vendor), min(file.since or now, now), file.file_name)
    return came


def _read_again(columns: Columns, table: pa.Table) -> frozenset[int]:
    """The places of deliveries that took the place of another one: of files that came before, or that a person gave."""
    if table["replayed_by"].null_count == table.num_rows:
        return frozenset()
    successors = {one for one in table["replayed_by"].to_pylist() if one is not None}
    ids = columns(("delivery_id",))["delivery_id"].to_pylist()
    return frozenset(place for place, one in enumerate(ids) if one in successors)


def _with(came: Came | None, at: datetime, path: str) -> Came:
    if came is None:
        return Came((at,), path, 1)
    place = bisect_right(came.times, at)
    is_last = place == len(came.times)
    return Came((*came.times[:place], at, *came.times[place:]), path if is_last else came.last_file, came.files + 1)


def owed_by(config: Config, came: Mapping[str, Came], now: datetime) -> tuple[Owed, ...]:
    """What each vendor owes of which files are expected, in the order of the config.

    Args:
        config: Of the pipeline.
        came: From `came_by_vendor`.
        now: Aware UTC.
    """
    began, found = _began(came), []
    for name, expectation in config.expectations:
        files = came.get(name)
        times = () if files is None else files.times
        found.append(Owed(name, expectation, next_due(expectation, remembered(times, now), now, began=began), files))
    return tuple(found)


def late_vendors(owed: Sequence[Owed], now: datetime) -> tuple[Late, ...]:
    """The vendors that are late, in the order of the config.

    Args:
        owed: From `owed_by`.
        now: Aware UTC.
    """
    return tuple(_late(one, one.due) for one in owed if one.due is not None and now >= one.due.late_from)


def _began(came: Mapping[str, Came]) -> datetime | None:
    return min((one.times[0] for one in came.values()), default=None)


def _late(one: Owed, due: Due) -> Late:
    last = (None, "") if one.came is None else (one.came.times[-1], one.came.last_file)
    return Late(one.vendor, due.at.astimezone(one.expectation.zone), due.late_from, *last)


def late_text(one: Late) -> str:
    """What a person is told of a vendor that is late, on one line."""
    expected = one.expected
    told = f"{one.vendor} is late: a file was expected by {expected:%a %Y-%m-%d %H:%M} {expected.tzinfo}"
    if str(expected.tzinfo) != "UTC":
        told += f" ({expected.astimezone(UTC):%Y-%m-%d %H:%M} UTC)"
    if one.last_at is None:
        return f"{told}; none has ever come"
    return f"{told}; the last one, {one.last_file}, came {one.last_at:%Y-%m-%d %H:%M} UTC"


def arrivals_of(
    config: Config, came: Mapping[str, Came], now: datetime, *, days: int = DAYS, judged: bool = True
) -> tuple[Arrivals, ...]:
    """What came of each vendor of the config, in its order.

    Args:
        config: Of the pipeline.
        came: From `came_by_vendor`.
        now: Aware UTC.
        days: How many days are told, today included; 1 or more.
        judged: Whether a vendor may be late; not while the source folder cannot be read, where its file may be.
    """
    expectations, began = dict(config.expectations), _began(came)
    found = []
    for vendor in config.vendors:
        expectation, files = expectations.get(vendor.name), came.get(vendor.name)
        times: Sequence[datetime] = () if files is None else files.times
        recent = remembered(times, now - timedelta(days=days + 1))
        due = None if expectation is None else next_due(expectation, recent, now, began=began)
        zone = vendor.timezone if expectation is None else expectation.timezone
        found.append(
            Arrivals(
                vendor=vendor.name,
                expectation="" if expectation is None else expectation.words(),
                timezone=zone,
                next_expected=None if due is None else due.at,
                late_from=None if due is None else due.late_from,
                late_since=None if due is None or not judged or now < due.late_from else due.late_from,
                last_at=times[-1] if times else None,
                last_file="" if files is None else files.last_file,
                files=0 if files is None else files.files,
                days=days_of(expectation, recent, now, days=days, timezone=zone),
            )
        )
    return tuple(found)
