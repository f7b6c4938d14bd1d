"""Who is late: the next file that a vendor owes, from what is expected and from what came.

An arrival is the time at which a file came. The verdict follows from the arrivals before it: the file that is judged
teaches nothing. A file that comes closes the matter, whatever becomes of it.

Half-way between two times of `expect_by` decides which one a file is for: what comes at 09:00 is the late file of 07:30
today, and what comes at 23:00 that of tomorrow.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from ordertrail.rules.expectation import Expectation
from ordertrail.rules.learned import TAUGHT, Learned

DayState = Literal["in_time", "late", "missing", "expected", "not_expected"]

_WORST: tuple[DayState, ...] = ("not_expected", "in_time", "expected", "late", "missing")


class Due(Struct, frozen=True):
    """A file that a vendor owes.

    Attributes:
        at: By when it is expected; aware UTC.
        late_from: From when on it is late while it has not come, inclusive; aware UTC.
    """

    at: datetime
    late_from: datetime


class Day(Struct, frozen=True):
    """One day of a vendor, in the zone of its expectation.

    Attributes:
        day: Which one.
        state: The worst of what was expected on it: `in_time`, `late` (it came, after the grace), `missing` (it did
            not come that day, or not for that deadline), `expected` (it may still come), `not_expected`.
        files: How many files came on it, expected or not.
        first: When the first of them came; aware UTC, None when none did.
        last: When the last of them came.
    """

    day: date
    state: DayState
    files: int = 0
    first: datetime | None = None
    last: datetime | None = None


def next_due(
    expectation: Expectation, arrivals: Sequence[datetime], now: datetime, *, began: datetime | None = None
) -> Due | None:
    """The file that is owed next; with `late_from` not after `now`, the vendor is late.

    Args:
        expectation: Of the vendor.
        arrivals: When its files came, aware UTC, ascending; none after `now`.
        now: Aware UTC.
        began: When the first file of any vendor came. A vendor that has never sent anything is judged by the deadlines
            after that; None judges nobody who has not.

    Returns:
        None when nothing can be said: no file has come, too few have to learn from, or none is expected any more.
    """
    if not arrivals:
        return _first_due(expectation, now, began)
    last = arrivals[-1]
    match expectation.kind:
        case "by":
            return _due(expectation, _deadline_after(expectation, last))
        case "every":
            return _due(expectation, expectation.after(last))
        case "learned":
            return _learned(Learned(expectation, arrivals), last)


def _due(expectation: Expectation, at: datetime | None) -> Due | None:
    return None if at is None else Due(at, at + expectation.least_grace)


def _learned(learned: Learned, last: datetime) -> Due | None:
    found = learned.due_after(last)
    return None if found is None else Due(found[0], found[0] + found[1])


def _deadline_after(expectation: Expectation, last: datetime) -> datetime | None:
    """The first deadline for which an arrival came too early."""
    return next((one for one in expectation.deadlines_after(last) if expectation.window(one)[0] > last), None)


def _first_due(expectation: Expectation, now: datetime, began: datetime | None) -> Due | None:
    """What a vendor owes that has never sent anything: the file of the last deadline that is over, or the next one."""
    if expectation.kind != "by" or began is None:
        return None
    over = expectation.deadline_before(now - expectation.least_grace + timedelta(microseconds=1))
    if over is not None and over > began:
        return _due(expectation, over)
    return _due(expectation, next(expectation.deadlines_after(max(began, over or began)), None))


# -- day by day -----------------------------------------------------------------------------------------------------


def days_of(
    expectation: Expectation | None, arrivals: Sequence[datetime], now: datetime, *, days: int, timezone: str = "UTC"
) -> tuple[Day, ...]:
    """The last days of a vendor: what was expected on each of them, and what came.

    Args:
        expectation: Of the vendor; None when nothing is expected.
        arrivals: When its files came, aware UTC, ascending; none after `now`. For what is learned, also those of the
            weeks before.
        now: Aware UTC.
        days: How many days, the one of `now` included.
        timezone: IANA zone of the days, where nothing is expected.

    Returns:
        Oldest first. Days before the first arrival expect nothing.
    """
    expects = expectation or Expectation("by", timezone)
    today = expects.day_of(now)
    found = {day: Day(day, "not_expected") for day in (today - timedelta(days=n) for n in reversed(range(days)))}
    for at in arrivals[bisect_left(arrivals, now - timedelta(days=days + 1)) :]:
        if (one := found.get(expects.day_of(at))) is not None:
            found[one.day] = replace(one, files=one.files + 1, first=one.first or at, last=at.astimezone(UTC))
    if expectation is not None and arrivals:
        begins = next(iter(found))
        owed = (_owed_by if expectation.kind == "by" else _owed)(expectation, arrivals, now, begins)
        for day, state in owed:
            if (one := found.get(day)) is not None and _WORST.index(state) > _WORST.index(one.state):
                found[day] = replace(one, state=state)
    return tuple(found.values())


def _owed_by(
    expectation: Expectation, arrivals: Sequence[datetime], now: datetime, begins: date
) -> Iterator[tuple[date, DayState]]:
    """What became of each deadline from a day on, through today; none from before the first arrival."""
    day = begins
    while day <= expectation.day_of(now):
        for deadline in expectation.deadlines(day):
            begin, end = expectation.window(deadline)
            if end > arrivals[0]:
                place = bisect_left(arrivals, begin)
                came = arrivals[place] if place < len(arrivals) and arrivals[place] < end else None
                yield day, _became(came, deadline + expectation.least_grace, now)
        day += timedelta(days=1)


def _became(came: datetime | None, late_from: datetime, now: datetime) -> DayState:
    if came is None:
        return "missing" if now >= late_from else "expected"
    return "in_time" if came < late_from else "late"


def _owed(
    expectation: Expectation, arrivals: Sequence[datetime], now: datetime, begins: date
) -> Iterator[tuple[date, DayState]]:
    """What became of what was due after each arrival, from the last one before a day on."""
    learned = Learned(expectation, arrivals)
    first = expectation.instant(datetime.combine(begins, time()))
    place = max(0, bisect_left(arrivals, first) - 1)
    yield expectation.day_of(arrivals[place]), "in_time"
    for last, came in pairwise([*arrivals[place:], None]):
        if last is None:
            return
        due = _learned(learned, last) if expectation.kind == "learned" else _due(expectation, expectation.after(last))
        if due is None or (came is not None and came < due.late_from):
            if came is not None:
                yield expectation.day_of(came), "in_time"
        elif came is None and now < due.late_from:
            yield expectation.day_of(due.at), "expected"
        else:
            yield from _missed(expectation, due, came, now)


def _missed(
    expectation: Expectation, due: Due, came: datetime | None, now: datetime
) -> Iterator[tuple[date, DayState]]:
    """The days on which a file was missing, and the one on which it came late."""
    day, ends = expectation.day_of(due.at), expectation.day_of(came or now)
    while day < ends:
        if expectation.expects_on(day):
            yield day, "missing"
        day += timedelta(days=1)
    yield ends, "missing" if came is None else "late"


def needed_back(expectations: Iterable[Expectation], days: int) -> timedelta:
    """How far back arrivals are needed, to judge vendors that sent anything since, and to tell their last days."""
    taught = TAUGHT if any(one.kind == "learned" for one in expectations) else timedelta(0)
    return taught + timedelta(days=days + 4)


def remembered(arrivals: Sequence[datetime], since: datetime) -> Sequence[datetime]:
    """The arrivals that a verdict from an aware time on needs: those since, and those of the weeks that teach."""
    # The last one before counts, too, however old it is.
    place = bisect_right(arrivals, since)
    last = arrivals[max(0, place - 1)] if arrivals else since
    # Two days more: what the scatter of its day needs, and the nights in which the clock is changed.
    return arrivals[bisect_left(arrivals, last - TAUGHT - timedelta(days=2)) :]
