"""Which columns of a sample are the key, the time that orders, and the status: for drafts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Struct
from msgspec.structs import replace

from ordertrail.begin.values import MAX_ODD, Facts, read_as_times
from ordertrail.rules.guessing import ID_WORDS, column_name, meant
from ordertrail.rules.likeness import first_or_planned, likeness, stage_of, words_of

KEY, TIME, STATUS = "tracking_num", "last_update_timestamp", "status"
"""The order feed's columns that have these roles; headers are compared with them."""

_LIKE = 0.6
_DAYS_OF_PARCELS = ("pck_recieved_date", "package_deliver_date")
_DAY_AND_TIME = {"date", "datum", "day", "tag", "time", "zeit", "uhrzeit", "heure", "hora", "fecha"}


class Time(Struct, frozen=True):
    """The time that orders the rows of a sample.

    Attributes:
        places: The column's place; two when a day and a time of the day make it.
        facts: What its values are.
    """

    places: tuple[int, ...]
    facts: Facts


def time_of(columns: Sequence[Facts], rows: Sequence[Sequence[str]]) -> Time | None:
    """The column, or the day and the time of the day, that tells best when a row was last updated; None without one.

    Args:
        columns: Of the sample.
        rows: Their cells, column by column.
    """
    choices = list(_times(columns, rows))
    return max(choices, key=lambda one: _as_update(one, columns), default=None)


def _times(columns: Sequence[Facts], rows: Sequence[Sequence[str]]) -> Iterator[Time]:
    for place, one in enumerate(columns):
        if not one.header:
            continue  # nothing can name it
        if one.is_time:
            yield Time((place,), one)
        elif meant(one.header) == TIME and one.kind == "string":
            yield Time((place,), replace(one, kind="timestamp", odd=tuple(dict.fromkeys(one.values))[:MAX_ODD]))
    days = [place for place, one in enumerate(columns) if one.kind == "date" and one.header]
    for place, clock in enumerate(columns):
        if clock.kind != "clock" or not clock.header or not days:
            continue
        day = min(days, key=lambda one: (-len(_topic(columns[one]) & _topic(clock)), abs(one - place), one))
        both = [
            f"{left.strip()} {right.strip()}"
            for left, right in zip(rows[day], rows[place], strict=True)
            if left.strip() and right.strip()
        ]
        kind, formats, either, odd = read_as_times(both, serials=True)
        if kind == "timestamp":
            header = f"{columns[day].header} {clock.header}"
            full = columns[day].full and clock.full
            first = columns[day]
            if either and not first.either:  # the day is sure, by the other columns of the file
                swapped = any("%m/%d" in one or "%m-%d" in one for one in first.formats)
                formats, either = (either if swapped else formats), ()
            yield Time((day, place), Facts(header, tuple(both), full, kind, formats, either, tuple(odd[:MAX_ODD])))


def _topic(facts: Facts) -> set[str]:
    return set(words_of(facts.header)) - _DAY_AND_TIME


def _as_update(time: Time, columns: Sequence[Facts]) -> tuple[bool, float, int]:
    owners = {meant(columns[place].header) for place in time.places}
    score = max(likeness(time.facts.header, TIME), *(likeness(columns[place].header, TIME) for place in time.places))
    score += 0.3 * (time.facts.kind == "timestamp") + 0.1 * time.facts.full
    score -= 0.6 * (bool(owners & {*_DAYS_OF_PARCELS}) or first_or_planned(time.facts.header))
    # Of equals the one further right: what happens later is usually added there.
    return TIME in owners and len(time.places) == 1, round(score, 3), time.places[0]


def key_of(columns: Sequence[Facts], taken: Sequence[int]) -> int:
    """The place of the column that tells shipments apart best.

    Args:
        columns: Of the sample, one at least.
        taken: Places of the columns that order.
    """
    free = [place for place in range(len(columns)) if place not in taken] or [0]
    return max(free, key=lambda place: _as_key(columns[place], place))


def _as_key(facts: Facts, place: int) -> tuple[float, int]:
    if facts.kind not in ("string", "bigint") or not facts.header:
        return -5.0 - 5 * (not facts.header), -place
    score = 0.0
    if meant(facts.header) == KEY:
        score += 10
    elif (like := likeness(facts.header, KEY)) >= _LIKE:
        score += 4 * like
    elif ID_WORDS & set(column_name(facts.header).split("_")):
        score += 1.5
    if facts.values:
        score += len(set(facts.values)) / len(facts.values) + 0.5 * facts.full
        score += 0.4 * (sum(map(len, facts.values)) / len(facts.values) >= 5)
        score -= 2.0 * (sum(" " in value.strip() for value in facts.values) > 0.5 * len(facts.values))
        score -= 2.0 * (sum(any(map(str.isdigit, value)) for value in facts.values) <= 0.5 * len(facts.values))
    return score, -place


def status_of(columns: Sequence[Facts], taken: Sequence[int]) -> int | None:
    """The place of the column that tells what became of shipments; None without one.

    Args:
        columns: Of the sample.
        taken: Places of the key and of what orders.
    """
    texts = [place for place, one in enumerate(columns) if one.kind == "string" and place not in taken]
    named = [place for place in texts if meant(columns[place].header) == STATUS]
    if named:
        return named[0]
    known = [place for place in texts if _knows_stages(columns[place])]
    return max(known, key=lambda place: (likeness(columns[place].header, STATUS), -place), default=None)


def _knows_stages(facts: Facts) -> bool:
    different = set(facts.values)
    return bool(different) and 2 * sum(stage_of(value) is not None for value in different) >= len(different)
