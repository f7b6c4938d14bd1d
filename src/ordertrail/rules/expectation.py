"""When a vendor's files are expected: what `[[vendors]]` says, as a value, and the days and clock times that follow.

Days and clock times are those of the expectation's zone. A clock time that exists twice in a night, or in none, means
its later reading: nobody is late for an hour that the clock showed a second time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from msgspec import Struct

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
"""The days of the week as the config names them."""

BY_GRACE = timedelta(minutes=10)
"""The grace of `expect_by`, where the config gives none."""

LEARNED_GRACE = timedelta(hours=1)
"""The grace of `expect = "learn"`, where the config gives none; the scatter of the arrivals comes on top."""

_EVERY_GRACE_PART = 4
_DURATION = re.compile(r"(?P<number>[1-9]\d{0,4})(?P<unit>[mhdw])", re.ASCII)
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_WALL_DAY = timedelta(days=1)
_MAX_DAYS_AWAY = 800

Kind = Literal["by", "every", "learned"]


class Expectation(Struct, frozen=True):
    """When files of one vendor are expected.

    Attributes:
        kind: `by` certain times of the day, `every` so often, or as `learned` from its arrivals.
        timezone: IANA zone of its days and times.
        times: Of kind `by`, ascending, at least one: a file came by then.
        every: Of kind `every`: files come at most this far apart.
        grace: How long after that a missing file is late; None takes the kind's own.
        days: Days of the week on which files are expected, 0 is Monday; at least one.
        holidays: Days on which none are.
    """

    kind: Kind
    timezone: str
    times: tuple[time, ...] = ()
    every: timedelta = timedelta(0)
    grace: timedelta | None = None
    days: frozenset[int] = frozenset(range(len(DAYS)))
    holidays: frozenset[date] = frozenset()

    @property
    def zone(self) -> ZoneInfo:
        """The zone of its days and times."""
        return ZoneInfo(self.timezone)

    @property
    def least_grace(self) -> timedelta:
        """How long after the expected time a missing file is late; what is learned adds the scatter of the arrivals."""
        if self.grace is not None:
            return self.grace
        if self.kind == "every":
            return max(BY_GRACE, self.every / _EVERY_GRACE_PART)
        return BY_GRACE if self.kind == "by" else LEARNED_GRACE

    def expects_on(self, day: date) -> bool:
        """Whether files are expected on a day of its zone."""
        return day.weekday() in self.days and day not in self.holidays

    def day_of(self, instant: datetime) -> date:
        """The day of an aware time in its zone."""
        return instant.astimezone(self.zone).date()

    def instant(self, wall: datetime) -> datetime:
        """The aware UTC time at which its clock shows a naive time; the later one where there are two."""
        return max(wall.replace(tzinfo=self.zone, fold=fold).astimezone(UTC) for fold in (0, 1))

    def deadlines(self, day: date) -> tuple[datetime, ...]:
        """The aware UTC times by which a file is expected on a day, ascending; of kind `by`."""
        return self._times_of(day) if self.expects_on(day) else ()

    def _times_of(self, day: date) -> tuple[datetime, ...]:
        return tuple(self.instant(datetime.combine(day, one)) for one in self.times)

    def deadlines_after(self, instant: datetime) -> Iterator[datetime]:
        """The deadlines that are later than an aware time, ascending; of kind `by`. They end where none is near."""
        first = self.day_of(instant)
        for number in range(_MAX_DAYS_AWAY):
            yield from (one for one in self.deadlines(first + number * _WALL_DAY) if one > instant)

    def deadline_before(self, instant: datetime) -> datetime | None:
        """The last deadline that is earlier than an aware time; of kind `by`. None when none is near."""
        first = self.day_of(instant)
        for number in range(_MAX_DAYS_AWAY):
            for one in reversed(self.deadlines(first - number * _WALL_DAY)):
                if one < instant:
                    return one
        return None

    def window(self, deadline: datetime) -> tuple[datetime, datetime]:
        """When the files come that are for a deadline, [begin, end): half-way from and to its neighbours.

        These are its times on all days. So a file that came on a Sunday on which none is expected is not Monday's.
        """
        day = self.day_of(deadline)
        near = [one for number in (-1, 0, 1) for one in self._times_of(day + number * _WALL_DAY)]
        before = max(one for one in near if one < deadline)
        after = min(one for one in near if one > deadline)
        return deadline - (deadline - before) / 2, deadline + (after - deadline) / 2

    def after(self, instant: datetime) -> datetime | None:
        """One period after an aware time, of kind `every`; what is not expected does not count. None when never.

        Whole days are days of the calendar: the same clock time, also over the nights in which the clock is changed.
        """
        if self.every % _WALL_DAY:
            return self._elapsed(instant)
        wall = instant.astimezone(self.zone).replace(tzinfo=None)
        left = self.every // _WALL_DAY
        for _ in range(_MAX_DAYS_AWAY):
            wall += _WALL_DAY
            left -= self.expects_on(wall.date())
            if not left:
                return self.instant(wall)
        return None

    def _elapsed(self, instant: datetime) -> datetime | None:
        """So much time of expected days after an aware time."""
        left, at, day = self.every, instant.astimezone(UTC), self.day_of(instant)
        for _ in range(_MAX_DAYS_AWAY):
            ends = self.instant(datetime.combine(day + _WALL_DAY, time()))
            if self.expects_on(day):
                if at + left < ends:
                    return at + left
                left -= ends - at
            at, day = ends, day + _WALL_DAY
        return None

    def words(self) -> str:
        """What is expected, in plain words, such as `by 07:30 America/Chicago on mon, tue, wed, thu, fri`."""
        if self.kind == "by":
            said = f"by {' and '.join(f'{one:%H:%M}' for one in self.times)} {self.timezone}"
        elif self.kind == "every":
            said = f"every {duration_text(self.every)}"
        else:
            said = "as learned from its last 8 weeks"
        if len(self.days) < len(DAYS):
            said += f" on {', '.join(DAYS[day] for day in sorted(self.days))}"
        return said


def duration(text: str) -> timedelta | None:
    """A duration as the config gives it (`15m`, `4h`, `1d`, `1w`); None when it is none."""
    found = _DURATION.fullmatch(text)
    return None if found is None else int(found["number"]) * _UNITS[found["unit"]]


def duration_text(length: timedelta) -> str:
    """A duration of whole minutes as the config gives it, in its largest unit."""
    unit = next((one for one in reversed(_UNITS) if not length % _UNITS[one]), "m")
    return f"{length // _UNITS[unit]}{unit}"
