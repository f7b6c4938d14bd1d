"""When files are expected, who is late, and what the days of a vendor were."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace

from ordertrail.rules.cadence import days_of, next_due, remembered
from ordertrail.rules.cadence_notes import JUDGED_DAYS, cadence_notes
from ordertrail.rules.expectation import Expectation, duration, duration_text
from ordertrail.rules.learned import LEAST

CHICAGO = ZoneInfo("America/Chicago")
WORKDAYS = frozenset(range(5))
BY = Expectation("by", "America/Chicago", times=(time(7, 30),))
DAILY = Expectation("every", "America/Chicago", every=timedelta(days=1))
LEARNED = Expectation("learned", "America/Chicago")


def at(text: str, zone: ZoneInfo = CHICAGO) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone).astimezone(UTC)


def shown(instant: datetime | None) -> str:
    return "" if instant is None else f"{instant.astimezone(CHICAGO):%m-%d %H:%M}"


def made(base: Expectation, **other: Any) -> Expectation:
    return replace(base, **other)


def daily(first: str, days: int, *, skip: Sequence[str] = ()) -> list[datetime]:
    """One file a day at the same clock time."""
    start = datetime.fromisoformat(first)
    walls = [start + timedelta(days=number) for number in range(days)]
    return [wall.replace(tzinfo=CHICAGO).astimezone(UTC) for wall in walls if f"{wall:%m-%d}" not in skip]


# --- by a time of the day ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("last", "due"),
    [
        ("2026-11-23T07:00", "11-24 07:30"),
        ("2026-11-23T07:30", "11-24 07:30"),
        ("2026-11-23T09:00", "11-24 07:30"),  # late, so not tomorrow's
        ("2026-11-23T19:29", "11-24 07:30"),
        ("2026-11-23T19:30", "11-25 07:30"),  # the evening before
        ("2026-11-24T00:10", "11-25 07:30"),
        ("2026-11-20T07:00", "11-21 07:30"),  # the first one missed, however long ago
    ],
)
def test_the_nearest_deadline_is_the_one_that_a_file_is_for(last: str, due: str) -> None:
    found = next_due(BY, [at(last)], at("2026-11-24T12:00"))
    assert found is not None
    assert shown(found.at) == due
    assert found.late_from == found.at + timedelta(minutes=10)


def test_a_file_of_a_sunday_is_not_mondays() -> None:
    expected = made(BY, days=WORKDAYS)
    for came, due in {"2026-11-22T07:00": "11-23 07:30", "2026-11-22T19:30": "11-24 07:30"}.items():
        found = next_due(expected, [at(came)], at("2026-11-23T12:00"))
        assert found is not None
        assert shown(found.at) == due


def test_days_and_holidays_on_which_nothing_is_expected() -> None:
    expected = made(BY, days=WORKDAYS, holidays=frozenset({date(2026, 11, 26), date(2026, 11, 27)}))
    found = next_due(expected, [at("2026-11-25T07:00")], at("2026-11-25T12:00"))
    assert found is not None
    assert shown(found.at) == "11-30 07:30"


def test_several_times_of_a_day() -> None:
    expected = made(BY, times=(time(8), time(16)))
    cases = {"07:50": "16:00", "09:00": "16:00", "11:59": "16:00", "12:00": "08:00", "15:00": "08:00"}
    for came, due in cases.items():
        found = next_due(expected, [at(f"2026-11-23T{came}")], at("2026-11-23T16:00"))
        assert found is not None
        assert shown(found.at)[-5:] == due, came


def test_a_vendor_that_has_never_sent_anything() -> None:
    now, began = at("2026-11-24T12:00"), at("2026-11-23T12:00")
    assert next_due(BY, [], now) is None
    found = next_due(BY, [], now, began=began)
    assert found is not None
    assert (shown(found.at), found.late_from < now) == ("11-24 07:30", True)
    # Nothing was loaded yet when it should have come.
    found = next_due(BY, [], now, began=at("2026-11-24T08:00"))
    assert found is not None
    assert (shown(found.at), found.late_from < now) == ("11-25 07:30", False)
    assert next_due(DAILY, [], now, began=began) is None
    assert next_due(LEARNED, [], now, began=began) is None


# --- so often ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("every", "days", "last", "due"),
    [
        ("1d", range(7), "2026-11-23T07:10", "11-24 07:10"),
        ("1d", WORKDAYS, "2026-11-20T07:10", "11-23 07:10"),
        ("2d", WORKDAYS, "2026-11-19T07:10", "11-23 07:10"),
        ("1w", range(7), "2026-11-16T07:10", "11-23 07:10"),
        ("4h", range(7), "2026-11-23T22:00", "11-24 02:00"),
        ("4h", WORKDAYS, "2026-11-20T22:00", "11-23 02:00"),
        ("15m", range(7), "2026-11-23T23:50", "11-24 00:05"),
        ("36h", WORKDAYS, "2026-11-20T12:00", "11-24 00:00"),
        ("4h", WORKDAYS, "2026-11-21T12:00", "11-23 04:00"),  # it came on a day on which none is expected
    ],
)
def test_a_period_counts_expected_days_only(every: str, days: Sequence[int], last: str, due: str) -> None:
    length = duration(every)
    assert length is not None
    found = next_due(made(DAILY, every=length, days=frozenset(days)), [at(last)], at("2026-11-24T12:00"))
    assert found is not None
    assert shown(found.at) == due
    assert found.late_from - found.at == max(timedelta(minutes=10), length / 4)


def test_the_configs_grace_is_taken() -> None:
    for one in (BY, DAILY):
        found = next_due(made(one, grace=timedelta(minutes=3)), [at("2026-11-23T07:00")], at("2026-11-24T12:00"))
        assert found is not None
        assert found.late_from - found.at == timedelta(minutes=3)


def test_where_no_day_is_left_nobody_is_late() -> None:
    never = frozenset(date(2026, 11, 24) + timedelta(days=n) for n in range(3000))
    for one in (BY, DAILY, made(DAILY, every=timedelta(hours=4))):
        assert next_due(made(one, holidays=never), [at("2026-11-23T23:00")], at("2026-12-24T12:00")) is None


@pytest.mark.parametrize("text", ["15m", "4h", "1d", "90m", "2w", "36h", "99999m"])
def test_durations(text: str) -> None:
    length = duration(text)
    assert length is not None
    assert duration(duration_text(length)) == length


@pytest.mark.parametrize("text", ["", "0m", "1", "m", "-1h", "1.5h", "1 h", "1y", "١h", "100000m", "1h30m"])
def test_what_is_no_duration(text: str) -> None:
    assert duration(text) is None


# --- the two nights of change ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("clock", "day", "utc"),
    [
        (time(7, 30), date(2026, 3, 7), "13:30"),
        (time(7, 30), date(2026, 3, 8), "12:30"),  # the clock jumped from 02:00 to 03:00
        (time(2, 30), date(2026, 3, 8), "08:30"),  # there is no such time: an hour later on the clock
        (time(1, 30), date(2026, 11, 1), "07:30"),  # there are two: the second
        (time(7, 30), date(2026, 11, 1), "13:30"),
        (time(0, 0), date(2026, 11, 1), "05:00"),
    ],
)
def test_a_deadline_in_the_nights_of_change(clock: time, day: date, utc: str) -> None:
    (found,) = made(BY, times=(clock,)).deadlines(day)
    assert f"{found:%H:%M}" == utc


@pytest.mark.parametrize("night", ["2026-03-08", "2026-11-01"])
@pytest.mark.parametrize("expected", [BY, made(DAILY, grace=timedelta(minutes=1)), LEARNED])
@pytest.mark.parametrize("clock", ["07:20", "02:30", "01:30"])
def test_a_daily_file_is_in_time_in_the_nights_of_change(night: str, expected: Expectation, clock: str) -> None:
    day = date.fromisoformat(night)
    came = daily(f"{day - timedelta(days=20)}T{clock}", 25)
    if expected is BY:
        expected = made(BY, times=(time.fromisoformat(clock),))
    for number in range(LEAST, len(came)):
        due = next_due(expected, came[:number], came[number])
        assert due is not None
        assert came[number] < due.late_from
    # ... and one that does not come is missed a day after the last one, as the clock says
    due = next_due(expected, came, came[-1])
    assert due is not None
    assert timedelta(hours=23) <= due.at - came[-1] <= timedelta(hours=25)


def test_a_period_of_hours_is_one_of_hours() -> None:
    four = made(DAILY, every=timedelta(hours=4))
    for night in ("2026-03-08T00:30", "2026-11-01T00:30"):
        found = next_due(four, [at(night)], at("2026-12-01T00:00"))
        assert found is not None
        assert found.at - at(night) == timedelta(hours=4)
    # Sunday's 23 hours do not count.
    off_sunday = made(four, days=frozenset(range(6)))
    found = next_due(off_sunday, [at("2026-03-07T22:00")], at("2026-12-01T00:00"))
    assert found is not None
    assert shown(found.at) == "03-09 02:00"


# --- what is learned ---------------------------------------------------------------------------------------------


def test_workdays_are_learned() -> None:
    came = [one for one in daily("2026-10-05T07:05", 47) if one.astimezone(CHICAGO).weekday() < 5]
    due = next_due(LEARNED, came, came[-1])
    assert due is not None
    assert (shown(came[-1]), shown(due.at)) == ("11-20 07:05", "11-23 07:05")
    assert due.late_from - due.at == timedelta(hours=1)


def test_a_silent_day_and_a_holiday_of_the_past_teach_nothing() -> None:
    came = daily("2026-09-28T07:05", 56, skip=("11-10", "10-12"))
    for last in range(30, len(came)):
        due = next_due(LEARNED, came[: last + 1], came[last])
        assert due is not None
        assert due.at - came[last] <= timedelta(hours=25)


def test_a_burst_of_files_is_one_arrival() -> None:
    """Three files each morning: the first of the next morning is due, not the second of this one."""
    came = sorted(one + timedelta(minutes=m) for one in daily("2026-10-05T07:00", 30) for m in (0, 11, 23))
    for number in (-1, -2, -3):
        due = next_due(LEARNED, came[: len(came) + number + 1], came[-1])
        assert due is not None
        assert shown(due.at) == "11-04 07:00"


def test_files_that_come_all_day_are_missed_on_the_same_day() -> None:
    hours = [one + timedelta(minutes=30 * n) for one in daily("2026-10-05T08:00", 28) for n in range(20)]
    last = hours.index(at("2026-10-30T12:00"))
    due = next_due(LEARNED, hours[: last + 1], hours[last])
    assert due is not None
    assert at("2026-10-30T13:00") <= due.at < due.late_from <= at("2026-10-30T15:00")


def test_a_learned_file_is_not_expected_on_a_holiday() -> None:
    came = daily("2026-10-05T07:05", 30)
    expected = made(LEARNED, holidays=frozenset({date(2026, 11, 4)}), days=frozenset({0, 1, 2, 3, 5, 6}))
    due = next_due(expected, came, came[-1])
    assert due is not None
    assert shown(due.at) == "11-05 07:05"


def test_fewer_than_ten_arrivals_of_eight_weeks_say_nothing() -> None:
    came = daily("2026-10-05T07:05", LEAST)
    assert next_due(LEARNED, came[:-1], came[-1]) is None
    assert next_due(LEARNED, came, came[-1]) is not None
    weekly = daily("2026-01-05T07:05", 300)[::7]
    assert next_due(LEARNED, weekly, weekly[-1]) is None


def test_what_a_verdict_needs_is_what_is_remembered() -> None:
    came = daily("2026-01-05T07:05", 300)
    for since in (came[-1], came[-20], came[0], at("2027-06-01T00:00"), at("2020-01-01T00:00")):
        kept = remembered(came, since)
        for expected in (BY, DAILY, LEARNED):
            for one in [n for n, when in enumerate(came) if when > since] or [len(came) - 1]:
                some = [when for when in kept if when <= came[one]]
                assert next_due(expected, some, came[one]) == next_due(expected, came[: one + 1], came[one])
    assert list(remembered([], came[0])) == []


# --- day by day --------------------------------------------------------------------------------------------------


def strip(expected: Expectation | None, came: Sequence[datetime], now: str, days: int = 7) -> str:
    """A letter a day: t in time, l late, m missing, e expected, - not expected; with the number of files."""
    letters = {"in_time": "t", "late": "l", "missing": "m", "expected": "e", "not_expected": "-"}
    found = days_of(expected, came, at(now), days=days, timezone="America/Chicago")
    assert [one.day for one in found] == [at(now).astimezone(CHICAGO).date() - timedelta(days=n) for n in
                                          reversed(range(days))]  # fmt: skip
    assert all((one.first is None) == (one.last is None) == (one.files == 0) for one in found)
    return " ".join(f"{letters[one.state]}{one.files or ''}" for one in found)


def test_the_days_of_a_vendor_with_a_deadline() -> None:
    came = daily("2026-11-16T07:00", 8, skip=("11-18",))
    came[3] += timedelta(hours=2)  # Friday's
    expected = made(BY, days=WORKDAYS)
    assert strip(expected, sorted(came), "2026-11-23T12:00", 9) == "- t1 t1 m t1 l1 -1 -1 t1"
    assert strip(expected, came[:-1], "2026-11-23T07:00", 3) == "-1 -1 e"
    assert strip(expected, came[:-2], "2026-11-23T07:40", 3) == "-1 - m"


def test_the_worst_of_a_day_is_told() -> None:
    expected = made(BY, times=(time(8), time(16)))
    came = [at("2026-11-22T07:00"), at("2026-11-22T15:00"), at("2026-11-23T07:00")]
    assert strip(expected, came, "2026-11-23T12:00", 2) == "t2 e1"
    assert strip(expected, came, "2026-11-23T16:10", 2) == "t2 m1"
    assert strip(expected, [*came, at("2026-11-23T16:30")], "2026-11-23T17:10", 2) == "t2 l2"


def test_the_days_of_a_vendor_with_a_period() -> None:
    came = daily("2026-11-17T07:00", 7, skip=("11-19", "11-20"))
    assert strip(DAILY, came, "2026-11-23T12:00") == "t1 t1 m m l1 t1 t1"
    assert strip(DAILY, came[:-1], "2026-11-23T12:00", 2) == "t1 e"
    assert strip(DAILY, came[:-1], "2026-11-23T13:00", 2) == "t1 m"
    assert strip(made(DAILY, every=timedelta(days=3)), came[:2], "2026-11-20T12:00", 4) == "t1 t1 - -"


def test_the_days_of_a_vendor_that_is_learned() -> None:
    came = daily("2026-10-20T07:00", 35, skip=("11-19",))
    assert strip(LEARNED, came, "2026-11-23T12:00") == "t1 t1 m l1 t1 t1 t1"
    assert strip(LEARNED, came[:5], "2026-10-24T12:00", 6) == "- t1 t1 t1 t1 t1"


def test_the_days_of_a_vendor_of_whom_nothing_is_expected_or_nothing_came() -> None:
    came = daily("2026-11-21T07:00", 2)
    assert strip(None, came, "2026-11-23T12:00", 4) == "- -1 -1 -"
    for one in (BY, DAILY, LEARNED):
        assert strip(one, [], "2026-11-23T12:00", 2) == "- -"


# --- what doctor says --------------------------------------------------------------------------------------------


def notes(expected: Expectation, came: Sequence[datetime], now: str = "2026-11-23T12:00") -> list[str]:
    days = days_of(expected, came, at(now), days=JUDGED_DAYS)
    says = next_due(expected, came, at(now)) is not None
    return list(cadence_notes("acme", expected, days, files=len(came), says=says))


def test_doctor_names_expectations_that_do_not_fit() -> None:
    came = daily("2026-10-19T09:00", 36)
    assert notes(made(BY, times=(time(9, 5),)), came) == []
    assert notes(LEARNED, came) == notes(DAILY, came) == []
    (line,) = notes(BY, came)
    said = "files are expected by 07:30 America/Chicago, and came in time on 0 of the last 29 days on which they were"
    assert line == f"acme: {said}"
    workdays = [one for one in came if one.astimezone(CHICAGO).weekday() < 5]
    (line,) = notes(made(BY, times=(time(9, 5),)), workdays)
    assert line == "acme: files are expected on sat, sun, but none came for 3 weeks: see expect_days"
    (line,) = notes(made(DAILY, every=timedelta(hours=1)), came)
    assert "every 1h, and came in time on" in line
    (line,) = notes(LEARNED, came[:5])
    assert line == "acme: a file that does not come is not missed: fewer than 10 files came in 8 weeks"
    (line,) = notes(DAILY, [])
    assert line == "acme: no file has come yet, so nothing is missed before the first one"
    assert notes(BY, []) == []
