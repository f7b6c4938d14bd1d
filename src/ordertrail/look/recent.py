"""What came lately: rows by outcome over time, the last file of every vendor, and how long files took to be loaded.

Summed over columns of the deliveries that are in memory, so that a page of 100,000 deliveries answers at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np
from msgspec import Struct

from ordertrail.arrow import NEVER, coded, integers
from ordertrail.model import ROW_OUTCOMES, SET_ASIDE, State

if TYPE_CHECKING:
    import pyarrow as pa

    Numbers = np.ndarray[Any, np.dtype[Any]]

HOURS = 24
DAYS = 14

_OUTCOMES = tuple(str(outcome) for outcome in ROW_OUTCOMES)
_FILES = tuple(state.value for state in State if state not in (State.CORRECTION, State.MIGRATION))

NEEDED = ("vendor", "state", "discovered_at", "modified_at", "loaded_at", *(f"rows_{one}" for one in _OUTCOMES))
"""The columns of the deliveries that are summed."""


class Span(Struct, frozen=True):
    """A part of the time that is looked at; rows by outcome of files that were found in it.

    Attributes:
        start: Aware UTC, inclusive.
        end: Aware UTC, exclusive.
        files: How many came.
        rows: By outcome, all of them.
    """

    start: datetime
    end: datetime
    files: int
    rows: dict[str, int]


class VendorLately(Struct, frozen=True):
    """A vendor's files.

    Attributes:
        vendor: Its name.
        last_at: When its last file was found; aware UTC, None before the first one.
        files: How many came in the time that is looked at.
        rows: How many rows they have.
        rejected: How many of these were rejected.
        set_aside: How many of these files were quarantined or held.
    """

    vendor: str
    last_at: datetime | None
    files: int
    rows: int
    rejected: int
    set_aside: int

    @property
    def rejected_share(self) -> float | None:
        """The share of rejected rows, 0 to 1; None without rows."""
        return self.rejected / self.rows if self.rows else None


class Lately(Struct, frozen=True):
    """What came in the time that is looked at.

    Attributes:
        spans: Its parts, oldest first.
        vendors: Those that are asked for, then others that ever sent a file, by name.
        lag_p50_s: Median time from a file's last change to the batch that loaded it, in seconds; None without files.
        lag_p95_s: The time that 95 of 100 files do not exceed.
    """

    spans: tuple[Span, ...]
    vendors: tuple[VendorLately, ...]
    lag_p50_s: float | None
    lag_p95_s: float | None


class Columns(Struct, frozen=True):
    """The deliveries that are files as arrays; times in microseconds since 1970, `NEVER` for NULL."""

    vendor: Numbers
    vendors: tuple[str, ...]
    found_us: Numbers
    modified_us: Numbers
    loaded_us: Numbers
    set_aside: Numbers
    rows: Numbers


def columns_of(table: pa.Table) -> Columns:
    """The deliveries as arrays, corrections and migrations left out.

    Args:
        table: With the columns `NEEDED`.
    """
    state, states = coded(table["state"])
    files = np.isin(state, [place for place, one in enumerate(states) if one in _FILES])
    aside = np.isin(state[files], [place for place, one in enumerate(states) if one in SET_ASIDE])
    vendor, vendors = coded(table["vendor"])
    # A file has no 2 billion rows; 100,000 deliveries would take 6 MB as numbers of 64 bits.
    counts = [integers(table[f"rows_{one}"], 0).astype(np.int32)[files] for one in _OUTCOMES]
    return Columns(
        vendor=vendor[files],
        vendors=vendors,
        found_us=integers(table["discovered_at"], NEVER)[files],
        modified_us=integers(table["modified_at"], NEVER)[files],
        loaded_us=integers(table["loaded_at"], NEVER)[files],
        set_aside=aside,
        rows=np.stack(counts, axis=1) if counts else np.zeros((0, len(_OUTCOMES)), dtype=np.int32),
    )


def lately(columns: Columns, edges: Sequence[datetime], asked: Sequence[str]) -> Lately:
    """Sum up what came between the first edge and the last one.

    Args:
        columns: Of all deliveries.
        edges: Ascending and aware; a part lies between two of them.
        asked: Names of vendors that are listed even when nothing of theirs came.
    """
    places = np.searchsorted(np.array([_us(edge) for edge in edges]), columns.found_us, side="right") - 1
    inside = (places >= 0) & (places < len(edges) - 1)
    rows = np.zeros((len(edges) - 1, len(_OUTCOMES)), dtype=np.int64)
    np.add.at(rows, places[inside], columns.rows[inside])
    files = np.bincount(places[inside], minlength=len(edges) - 1)
    spans = [
        Span(start.astimezone(UTC), end.astimezone(UTC), int(came), dict(zip(_OUTCOMES, map(int, counts), strict=True)))
        for (start, end), came, counts in zip(pairwise(edges), files, rows, strict=True)
    ]
    timed = inside & (columns.loaded_us != NEVER) & (columns.modified_us != NEVER)
    lags_s = np.maximum(columns.loaded_us[timed] - columns.modified_us[timed], 0) / 1e6
    p50, p95 = np.percentile(lags_s, (50, 95)) if len(lags_s) else (None, None)
    return Lately(
        tuple(spans),
        tuple(_vendors(columns, inside, asked)),
        None if p50 is None else float(p50),
        None if p95 is None else float(p95),
    )


def hour_edges(now: datetime, zone: ZoneInfo) -> list[datetime]:
    """The last `HOURS` hours, the one that runs included."""
    end = now.astimezone(zone).replace(minute=0, second=0, microsecond=0).astimezone(UTC) + timedelta(hours=1)
    return [end - timedelta(hours=HOURS - i) for i in range(HOURS + 1)]


def day_edges(now: datetime, zone: ZoneInfo, days: int = DAYS) -> list[datetime]:
    """The last days of a zone, today included."""
    today = now.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    # The clock of the zone may change in between: a day is not always 24 hours.
    return [(today - timedelta(days=days - 1 - i)).replace(tzinfo=zone) for i in range(days + 1)]


def _vendors(columns: Columns, inside: Numbers, asked: Sequence[str]) -> list[VendorLately]:
    places = {name: place for place, name in enumerate(columns.vendors)}
    number = len(columns.vendors)

    def summed(numbers: Numbers) -> Numbers:
        return np.bincount(columns.vendor[inside], weights=numbers[inside], minlength=number).astype(np.int64)

    files = summed(np.ones(len(columns.vendor)))
    rows, aside = summed(columns.rows.sum(axis=1)), summed(columns.set_aside)
    rejected = summed(columns.rows[:, _OUTCOMES.index("rejected")])
    last_us = np.full(number, NEVER, dtype=np.int64)
    np.maximum.at(last_us, columns.vendor, columns.found_us)
    names = [*asked, *sorted(name for name in places if name and name not in asked)]
    found = []
    for name in names:
        if (at := places.get(name)) is None:
            found.append(VendorLately(name, None, 0, 0, 0, 0))
            continue
        last = None if last_us[at] == NEVER else datetime.fromtimestamp(int(last_us[at]) / 1e6, UTC)
        found.append(VendorLately(name, last, int(files[at]), int(rows[at]), int(rejected[at]), int(aside[at])))
    return found


def _us(at: datetime) -> int:
    return int(at.timestamp() * 1_000_000)
