"""The cadence that a vendor's arrivals teach: at which hours of the week a file has come by now.

The arrivals of each of the last weeks are laid over this one, by the clock of the vendor. A file is due when, after the
last arrival, a file had come in three quarters of these weeks; so single silent days and holidays teach nothing. What
is closer to the last arrival than the grace belongs to it: that is what comes early or late, or in several parts.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from math import ceil

from ordertrail.rules.expectation import Expectation

WEEKS = 8
"""How many weeks before the last arrival teach."""

LEAST = 10
"""With fewer arrivals in these weeks there is no verdict."""

_SHARE = 0.75
TAUGHT = timedelta(weeks=WEEKS, days=1)
"""How far back arrivals teach: a day more, so that the oldest week is whole."""

_SCATTER_FACTOR = 3
_SAMPLE = 30
_WEEK = timedelta(weeks=1)


class Learned:
    """What the arrivals of one vendor teach.

    Args:
        expectation: Its zone, days and grace.
        arrivals: Aware times, ascending.
    """

    def __init__(self, expectation: Expectation, arrivals: Sequence[datetime]) -> None:
        self._expectation = expectation
        zone = expectation.zone
        # Only in the night in which the clock is set back is the order by the clock another one.
        self._wall = sorted(one.astimezone(zone).replace(tzinfo=None) for one in arrivals)
        self._scatters: dict[date, timedelta] = {}

    def due_after(self, last: datetime) -> tuple[datetime, timedelta] | None:
        """When the next file is due after an arrival, and its grace. Arrivals after that one teach nothing.

        Args:
            last: One of the arrivals.

        Returns:
            Aware UTC and the grace; None when the arrivals up to this one are too few to tell.
        """
        known = last.astimezone(self._expectation.zone).replace(tzinfo=None)
        through = bisect_right(self._wall, known)
        first = bisect_right(self._wall, known - TAUGHT, 0, through)
        if through - first < LEAST:
            return None
        grace = self._expectation.least_grace + self._scatter(known.date())
        weeks = [number * _WEEK for number in range(1, WEEKS + 1) if self._wall[first] <= known - number * _WEEK]
        after = known + grace
        for _ in range(2 * WEEKS * 7):
            due = self._due(after, through, weeks)
            if due is None or self._expectation.expects_on(due.date()):
                return None if due is None else (self._expectation.instant(due), grace)
            after = datetime.combine(due.date(), time.max)
        return None

    def _due(self, after: datetime, through: int, weeks: Sequence[timedelta]) -> datetime | None:
        """By which clock time after another a file had come in most weeks; None when it had not."""
        places = [(bisect_right(self._wall, after - week, 0, through), week) for week in weeks]
        came = sorted(self._wall[place] + week for place, week in places if place < through)
        wanted = ceil(_SHARE * len(weeks))
        return came[wanted - 1] if 0 < wanted <= len(came) else None

    def _scatter(self, day: date) -> timedelta:
        """Three times the median distance of an arrival to the nearest one of other weeks, as known before a day."""
        if day not in self._scatters:
            ends = datetime.combine(day, time())
            known = self._wall[bisect_right(self._wall, ends - TAUGHT) : bisect_right(self._wall, ends)]
            sample = known[:: max(1, len(known) // _SAMPLE)]
            distances = sorted(
                distance
                for one in sample
                for number in (1, 2)
                if (distance := _nearest(known, one - number * _WEEK)) is not None
            )
            usual = distances[(len(distances) - 1) // 2] if distances else timedelta(0)
            self._scatters[day] = _SCATTER_FACTOR * usual
        return self._scatters[day]


def _nearest(known: Sequence[datetime], wall: datetime) -> timedelta | None:
    """How far a time is from the nearest of ascending ones; None before the first of them."""
    if not known or wall < known[0]:
        return None
    place = bisect_right(known, wall)
    return min(abs(one - wall) for one in known[place - 1 : place + 1])
