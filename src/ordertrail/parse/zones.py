"""Local wall-clock time to UTC, vectorised, with one rule for the hours that daylight saving time makes ambiguous.

A local time that does not exist (the clock jumped over it) has no UTC time. A local time that exists twice (the
clock was set back) takes the **earlier** instant and is marked. Transitions come from the IANA database through
`zoneinfo`; they are computed once per zone, for the years 1900 to 2200.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

_FIRST = datetime(1900, 1, 1, tzinfo=UTC)
_LAST = datetime(2200, 1, 1, tzinfo=UTC)
_STEP = timedelta(days=7)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Zone:
    """One IANA time zone.

    Args:
        name: For example `America/Chicago`.
    """

    def __init__(self, name: str) -> None:
        starts, offsets = _transitions(name)
        self._offsets_us = offsets
        # Local times at which each period of constant offset begins and ends, [begin, end).
        self._begins_us = starts + offsets
        self._ends_us = np.append(starts[1:], np.iinfo(np.int64).max - (1 << 48)) + offsets

    def to_utc(self, local_us: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
        """Translate local times.

        Args:
            local_us: Wall-clock microseconds since 1970-01-01T00:00, shape (n,).

        Returns:
            UTC microseconds since 1970, whether the time exists, whether it exists twice; each of shape (n,).
        """
        # The first period that ends after the local time is the earliest that can hold it.
        first = np.searchsorted(self._ends_us, local_us, side="right")
        first = np.minimum(first, len(self._begins_us) - 1)
        exists = local_us >= self._begins_us[first]
        following = np.minimum(first + 1, len(self._begins_us) - 1)
        twice = exists & (following > first) & (local_us >= self._begins_us[following])
        return local_us - self._offsets_us[first], exists, twice


@cache
def zone(name: str) -> Zone:
    """The zone with a name; built once."""
    return Zone(name)


def _transitions(name: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """UTC starts of the periods of constant offset, and their offsets, both in microseconds."""
    info = ZoneInfo(name)
    starts, offsets = [-(1 << 62)], [_offset(info, _FIRST)]
    before = _FIRST
    while before < _LAST:
        after = before + _STEP
        while _offset(info, before) != _offset(info, after):
            change = _first_change(info, before, after)
            starts.append((change - _EPOCH) // _MICROSECOND)
            offsets.append(_offset(info, change))
            before = change
        before = after
    return np.array(starts, dtype=np.int64), np.array(offsets, dtype=np.int64)


def _first_change(info: ZoneInfo, low: datetime, high: datetime) -> datetime:
    while high - low > timedelta(seconds=1):
        middle = low + timedelta(seconds=(high - low) // timedelta(seconds=2))
        if _offset(info, middle) == _offset(info, low):
            low = middle
        else:
            high = middle
    return high


def _offset(info: ZoneInfo, instant: datetime) -> int:
    offset = instant.astimezone(info).utcoffset()
    return 0 if offset is None else offset // _MICROSECOND
