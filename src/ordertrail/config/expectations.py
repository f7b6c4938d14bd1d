"""The `expect…` settings of `[[vendors]]`, checked and made into the values of `ordertrail.rules.expectation`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from itertools import pairwise

from ordertrail.config.contract import Fail, nearest
from ordertrail.config.vendor_section import VendorSection
from ordertrail.config.vendors import known_zone
from ordertrail.rules.expectation import BY_GRACE, DAYS, Expectation, Kind, duration, duration_text
from ordertrail.rules.shares import Shares
from ordertrail.rules.volume import Volume

_KINDS: dict[str, Kind] = {"expect_by": "by", "expect_every": "every", "expect": "learned"}
_DETAILS = ("expect_days", "expect_holidays", "expect_timezone", "expect_grace")
_DAY = timedelta(days=1)
_LONGEST = timedelta(days=366)


def build_expectations(sections: Sequence[VendorSection], fail: Fail) -> tuple[tuple[str, Expectation], ...]:
    """Check what vendors are expected to send, and when.

    Args:
        sections: `[[vendors]]`, whose names are checked already.
        fail: Called with the first mistake.

    Returns:
        By the vendor's name; a vendor of which nothing is expected is not there.
    """
    found = ((section.name, _expectation(section, fail)) for section in sections)
    return tuple((name, one) for name, one in found if one is not None)


def build_volumes(sections: Sequence[VendorSection], fail: Fail) -> tuple[tuple[str, Volume], ...]:
    """Check how many rows vendors' files are expected to have.

    Args:
        sections: `[[vendors]]`, whose names are checked already.
        fail: Called with the first mistake.

    Returns:
        By the vendor's name; a vendor of which nothing is expected is not there.
    """
    return tuple((one.name, _volume(one, fail)) for one in sections if one.expect_rows not in ([], ""))


def build_shares(sections: Sequence[VendorSection], fail: Fail) -> tuple[tuple[str, Shares], ...]:
    """Check how many keys of vendors' files may be new, or stale.

    Args:
        sections: `[[vendors]]`, whose names are checked already.
        fail: Called with the first mistake.

    Returns:
        By the vendor's name; a vendor of which nothing is expected is not there.
    """
    names = ("max_new_share", "max_stale_share")
    said = ((one.name, Shares(*(_share(one, name, fail) for name in names))) for one in sections)
    return tuple((name, shares) for name, shares in said if shares != Shares())


def _share(section: VendorSection, name: str, fail: Fail) -> float:
    said: float = getattr(section, name)
    if not 0 <= said <= 1:
        hint = f"for {said:g} % write {said / 100:g}" if 1 < said <= 100 else "0.5 is half of the keys, 1 holds no file"
        fail(f"vendors[{section.name}].{name}", said, "must be from 0 to 1", hint)
    return said


def _volume(section: VendorSection, fail: Fail) -> Volume:
    key, said = f"vendors[{section.name}].expect_rows", section.expect_rows
    hint = 'write the fewest and the most rows, such as [100, 100000], or "learn"'
    if isinstance(said, str):
        return Volume(learn=True) if said == "learn" else fail(key, said, "there is no such choice", hint)
    if len(said) != 2 or not 0 <= said[0] <= said[1]:
        fail(key, said, "are not the fewest and the most rows", hint)
    return Volume(said[0], said[1])


def _expectation(section: VendorSection, fail: Fail) -> Expectation | None:
    where = f"vendors[{section.name}]"
    said = [name for name in _KINDS if getattr(section, name)]
    if len(said) > 1:
        problem = f"{said[0]} says already when files are expected"
        fail(f"{where}.{said[1]}", getattr(section, said[1]), problem, f"take {said[0]} or {said[1]} out")
    if not said:
        for name in _DETAILS:
            if value := getattr(section, name):
                hint = 'add expect_by = "07:30", expect_every = "1d" or expect = "learn"'
                fail(f"{where}.{name}", value, "nothing says when files are expected", hint)
        return None
    if section.expect not in ("", "learn"):
        fail(f"{where}.expect", section.expect, "there is no such choice", 'use expect = "learn", or take it out')
    zone = section.timezone if section.expect_timezone is None else section.expect_timezone
    times = _times(f"{where}.expect_by", section.expect_by, fail)
    days = _days(f"{where}.expect_days", section.expect_days, fail)
    made = Expectation(
        kind=_KINDS[said[0]],
        timezone=known_zone(f"{where}.expect_timezone", zone, fail),
        times=times,
        every=_length(f"{where}.expect_every", section.expect_every, fail) or timedelta(0),
        grace=_length(f"{where}.expect_grace", section.expect_grace, fail),
        days=days,
        holidays=frozenset(section.expect_holidays),
    )
    _check_grace(where, section, made, fail)
    return made


def _times(key: str, said: str | Sequence[str], fail: Fail) -> tuple[time, ...]:
    found: list[time] = []
    for text in [said] if isinstance(said, str) else said:
        if not text and isinstance(said, str):
            continue
        try:
            one = datetime.strptime(text, "%H:%M").time()  # noqa: DTZ007 - a time of any day
        except ValueError:
            fail(key, text, "is no time of the day", 'write hours and minutes from 00:00 to 23:59, such as "07:30"')
        if one in found:
            fail(key, text, "is there twice", "give every time once")
        found.append(one)
    return tuple(sorted(found))


def _days(key: str, names: Sequence[str], fail: Fail) -> frozenset[int]:
    for name in names:
        if name not in DAYS:
            hint = nearest(name.lower()[:3], DAYS, otherwise=f"the days are {', '.join(DAYS)}")
            fail(key, name, "is no day of the week", hint)
        if names.count(name) > 1:
            fail(key, name, "is there twice", "give every day once")
    return frozenset(DAYS.index(name) for name in names or DAYS)


def _length(key: str, text: str, fail: Fail) -> timedelta | None:
    if not text:
        return None
    found = duration(text)
    if found is None:
        hint = 'write a whole number above 0 with m, h, d or w, such as "15m", "4h", "1d"'
        fail(key, text, "is no duration", hint)
    if found > _LONGEST:
        fail(key, text, "is longer than a year", "use a shorter one")
    return found


def _check_grace(where: str, section: VendorSection, made: Expectation, fail: Fail) -> None:
    """Refuse a grace that ends when the next file may be there: nobody would ever be late."""
    if made.kind != "by":
        return
    base = date(2026, 1, 5)
    walls = [datetime.combine(base, one) for one in made.times]
    apart = min(after - before for before, after in pairwise([*walls, walls[0] + _DAY]))
    if made.least_grace <= apart / 2:
        return
    if made.grace is None:
        shown, least = section.expect_by, 2 * BY_GRACE
        problem = f"has times that are less than {duration_text(least)} apart"
        fail(f"{where}.expect_by", shown, problem, "use expect_every for files that come so often")
    problem = f"is more than half of the {duration_text(apart)} between two times of expect_by"
    hint = "use a shorter one: files that come later than that are for the next time"
    fail(f"{where}.expect_grace", section.expect_grace, problem, hint)
