"""What is learned of any regular feed: it is never late until it ends, and a file that is judged teaches nothing."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ordertrail.rules.cadence import days_of, next_due, remembered
from ordertrail.rules.expectation import Expectation
from ordertrail.rules.learned import LEAST

pytestmark = pytest.mark.property

ZONES = ("UTC", "America/Chicago", "Europe/London", "Asia/Kolkata", "Australia/Lord_Howe")
SPREAD_MIN = 59
"""Files come in the same hour of the week: within its grace."""


EXAMPLES = 40
"""Of each promise: a feed has up to 200 arrivals, and each of them is judged."""


@st.composite
def feeds(draw: st.DrawFn, spread_min: int = SPREAD_MIN) -> tuple[str, list[datetime]]:
    """A zone, and the arrivals of a vendor that keeps its days and its hours by that clock, for 3 to 11 weeks.

    Times of a day are three hours apart, so that none is taken for a part of the other.
    """
    zone = draw(st.sampled_from(ZONES))
    days = draw(st.sets(st.integers(0, 6), min_size=1))
    hours = draw(st.lists(st.sampled_from(range(0, 22, 3)), min_size=1, max_size=3, unique=True))
    first = date(2026, 1, 1) + timedelta(days=draw(st.integers(0, 364)))
    came = []
    for number in range(draw(st.integers(21, 77))):
        day = first + timedelta(days=number)
        for hour in sorted(hours) if day.weekday() in days else ():
            wall = datetime.combine(day, time(hour)) + timedelta(minutes=draw(st.integers(0, spread_min)))
            came.append(wall.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC))
    return zone, sorted(came)


@settings(max_examples=EXAMPLES)
@given(feeds())
def test_a_regular_feed_is_never_late(feed: tuple[str, list[datetime]]) -> None:
    zone, came = feed
    learned = Expectation("learned", zone)
    for number in range(1, len(came)):
        due = next_due(learned, came[:number], came[number])
        assert due is None or came[number] < due.late_from, (came[number], due)


@settings(max_examples=EXAMPLES)
@given(feeds())
def test_a_feed_that_ends_is_late_within_its_own_week(feed: tuple[str, list[datetime]]) -> None:
    zone, came = feed
    assume(len(came) >= 3 * LEAST)
    due = next_due(Expectation("learned", zone), came, came[-1] + timedelta(days=30))
    assert due is not None
    longest = max(after - before for before, after in pairwise(came))
    assert came[-1] < due.at <= came[-1] + longest + timedelta(hours=2)


@settings(max_examples=EXAMPLES)
@given(feeds(spread_min=170))
def test_no_verdict_under_ten(feed: tuple[str, list[datetime]]) -> None:
    zone, came = feed
    for number in range(1, len(came) + 1):
        eight_weeks = [one for one in came[:number] if one > came[number - 1] - timedelta(weeks=8, hours=-1)]
        if len(eight_weeks) < LEAST:
            assert next_due(Expectation("learned", zone), came[:number], came[-1]) is None


@settings(max_examples=EXAMPLES)
@given(feeds(), st.timedeltas(timedelta(minutes=1), timedelta(days=40)), st.integers(LEAST, 40))
def test_what_is_judged_teaches_nothing(feed: tuple[str, list[datetime]], after: timedelta, number: int) -> None:
    """Whenever the next file comes, by when it was due is the same: in the verdict, and in the days that are told."""
    zone, came = feed
    assume(len(came) > number)
    learned = Expectation("learned", zone)
    known = came[:number]
    due = next_due(learned, known, known[-1])
    assume(due is not None)
    assert due is not None
    judged = known[-1] + after
    told = days_of(learned, [*known, judged], judged, days=60)
    late = judged >= due.late_from
    assert (told[-1].state == "late") is late
    if not late:
        assert all(one.state != "missing" for one in told if one.day > learned.day_of(known[-1]))


@st.composite
def expectations(draw: st.DrawFn) -> Expectation:
    """Any that the config may give."""
    days = frozenset(draw(st.sets(st.integers(0, 6), min_size=1)))
    kind = draw(st.sampled_from(("by", "every", "learned")))
    times = draw(st.lists(st.times().map(lambda one: one.replace(second=0, microsecond=0, tzinfo=None)), min_size=1,
                          max_size=3, unique=True))  # fmt: skip
    minutes = draw(st.one_of(st.integers(1, 40).map(lambda n: n * 1440), st.integers(5, 5000)))
    return Expectation(
        kind=kind,
        timezone=draw(st.sampled_from(ZONES)),
        times=tuple(sorted(times)) if kind == "by" else (),
        every=timedelta(minutes=minutes if kind == "every" else 0),
        grace=draw(st.none() | st.integers(1, 90).map(lambda n: timedelta(minutes=n))),
        days=days,
        holidays=frozenset(draw(st.sets(st.dates(date(2026, 1, 1), date(2026, 3, 1)), max_size=3))),
    )


@settings(max_examples=EXAMPLES)
@given(
    expectations(),
    st.lists(st.integers(0, 130_000), min_size=1, max_size=40),
    st.timedeltas(timedelta(0), timedelta(days=9)),
)
def test_verdict_and_days_agree_whatever_came(expected: Expectation, minutes: list[int], passed: timedelta) -> None:
    came = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=one) for one in sorted(minutes)]
    now = came[-1] + passed
    due = next_due(expected, came, now)
    assert due == next_due(expected, list(remembered(came, now)), now)
    told = days_of(expected, came, now, days=14)
    assert sum(one.files for one in told) == sum(expected.day_of(one) in {day.day for day in told} for one in came)
    if due is None:
        return
    assert came[-1] < due.at < due.late_from
    states = {one.day: one.state for one in told}
    day = expected.day_of(due.at)
    if now >= due.late_from and day in states:
        assert states[day] == "missing"
    elif day == expected.day_of(now):
        assert states[day] in ("expected", "late", "missing")
