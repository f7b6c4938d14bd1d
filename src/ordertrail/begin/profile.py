"""A vendor's profile from a sample: what `[[vendors]]` says, and what only a person knows, as comments beside it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import date

from msgspec import Struct, field
from msgspec.structs import replace

from ordertrail.begin.sample import Sample
from ordertrail.begin.values import MAX_ODD, PLAIN, Facts, Notation
from ordertrail.config.template import toml_value
from ordertrail.model import Contract, Vendor
from ordertrail.rules.filekey import file_date
from ordertrail.rules.headers import folded
from ordertrail.rules.likeness import maybe_stage_of, stage_of
from ordertrail.rules.times import UTC_NAMES, WORDS

TODO = "TODO:"
"""How a comment begins that waits for a decision."""

_MAX_STATUSES = 200
_ZONES = {
    "EST": "-05:00", "EDT": "-04:00", "MST": "-07:00", "MDT": "-06:00", "PST": "-08:00", "PDT": "-07:00",
    "AKST": "-09:00", "AKDT": "-08:00", "HST": "-10:00", "CET": "+01:00", "CEST": "+02:00", "WET": "+00:00",
    "EET": "+02:00", "EEST": "+03:00", "AEST": "+10:00", "AEDT": "+11:00", "NZST": "+12:00", "NZDT": "+13:00",
}  # fmt: skip
_MAYBE = {"CST": "-06:00", "CDT": "-05:00", "BST": "+01:00", "IST": "+05:30"}
_ZONE = re.compile(r" ([A-Z]{3,4})$")
_OFFSET_AT_END = re.compile(r"\d(Z|[+-]\d\d:?\d\d)$| (Z|[+-]\d\d:?\d\d|[A-Z]{3,4})$")
_NAME_DATES = ("%d%m%Y", "%m%d%Y", "%d-%m-%Y", "%m-%d-%Y", "%d.%m.%Y", "%d_%m_%Y", "%m_%d_%Y", "%d%b%Y", "%d-%b-%Y",
               "%b%d%Y", "%Y.%m.%d", "%y%m%d", "%d%m%y", "%m%d%y")  # fmt: skip
_RUN = re.compile(r"\d{1,4}(?:[._-]?(?:\d{1,4}|[A-Za-z]{3}))*")
_CODE = re.compile(r"(?<![A-Za-z0-9])[A-Z]{3}(?![A-Za-z0-9])")


class Placed(Struct, frozen=True):
    """Where a file has a column of the contract.

    Attributes:
        name: The contract column.
        headers: The header of the column; several when they make it together.
        facts: What its values are.
    """

    name: str
    headers: tuple[str, ...]
    facts: Facts


class Profile(Struct, frozen=True):
    """A drafted `[[vendors]]`.

    Attributes:
        vendor: What is said.
        beside: By setting, the lines of comments that stand above it, or in its place.
        open_statuses: Statuses that nothing says the meaning of, each with one of the contract's that it may be.
        notes: What was guessed and should be looked at, one line each.
    """

    vendor: Vendor
    beside: dict[str, tuple[str, ...]] = field(default_factory=dict)
    open_statuses: tuple[tuple[str, str | None], ...] = ()
    notes: tuple[str, ...] = ()


def profile_of(sample: Sample, placed: Sequence[Placed], contract: Contract, notation: Notation, name: str) -> Profile:
    """The profile with which a contract reads a sample.

    Args:
        sample: The vendor's file.
        placed: Where it has the contract's columns.
        contract: What its rows must meet.
        notation: How it writes numbers.
        name: The file's name.
    """
    types = {column.name: column.type for column in contract.columns}
    beside: dict[str, list[str]] = {}
    vendor = replace(
        sample.vendor,
        aliases=tuple(_aliases(placed)),
        combine=tuple((one.name, one.headers) for one in placed if len(one.headers) > 1),
        formats=tuple(_formats(placed, types, beside)),
        nulls=_nulls(placed, contract),
        zones=tuple(_zones(placed, types, beside)),
    )
    if notation != PLAIN and any(_is_number(types.get(one.name, "")) for one in placed):
        vendor = replace(vendor, decimal=notation.decimal, thousands=notation.thousands)
    vendor = _with_words(vendor, [one.facts for one in placed if types.get(one.name) == "boolean"])
    vendor = _with_key(vendor, [one.facts for one in placed if one.name in contract.key], beside)
    vendor, waiting = _with_statuses(vendor, placed, contract)
    dated, said = _file_date(name)
    vendor = replace(vendor, file_date=dated)
    beside.setdefault("file_date", []).extend(said)
    if any(_local(one, types) for one in placed):
        told = f"{TODO} times have no zone and are read as UTC; if that is wrong, take this line and name the zone"
        beside["timezone"] = [told, '=timezone = "America/Chicago"']
    beside["from_name"] = list(_from_name(name))
    if len(sample.columns) == 1:
        told = f"{TODO} no delimiter was found; if the columns have fixed widths, say how many characters each has"
        beside["widths"] = [told, "=widths = [12, 20, 19]"]
    if sample.short:
        told = f"{TODO} {sample.short} rows have too few cells; if only empty cells at their end are missing, take this"
        beside["short_rows"] = [told, '=short_rows = "fill"']
    if _goes_on([one.facts for one in placed if one.name in (*contract.key, contract.order_by)], sample):
        vendor = replace(vendor, continuation_lines=True)
    notes = [*sample.notes, *_notes(sample, waiting)]
    kept = {setting: tuple(lines) for setting, lines in beside.items() if lines}
    return Profile(vendor, kept, waiting, tuple(notes))


def _goes_on(needed: Sequence[Facts], sample: Sample) -> bool:
    """Whether some rows have neither key nor time, as further items of an order have in exports of shops."""
    places = [sample.header.index(one.header) for one in needed if one.header in sample.header]
    if not places or len(places) < len(needed):
        return False
    return any(
        not any(cell.strip() for cell in row) for row in zip(*(sample.columns[at] for at in places), strict=True)
    )


def odd_lines(facts: Facts, kind: str) -> Iterator[str]:
    """Comments about values that a type does not hold, and would be rejects."""
    if facts.odd:
        more = " and more" if len(facts.odd) == MAX_ODD else ""
        yield f"{TODO} no {kind}, so these would be rejects: {', '.join(map(repr, facts.odd))}{more}"


def _aliases(placed: Sequence[Placed]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for one in placed:
        if len(one.headers) == 1 and folded(one.headers[0]) != folded(one.name):
            yield one.name, one.headers


def _formats(
    placed: Sequence[Placed], types: dict[str, str], beside: dict[str, list[str]]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The formats of columns; where day and month could be either, both lines are comments, and a person takes one."""
    chosen = {one.name: one.facts for one in placed if types.get(one.name) in ("date", "timestamp")}
    unsure = [name for name, facts in chosen.items() if facts.either]
    if unsure:
        first = next(value for name in unsure for value in chosen[name].values if re.match(r"\d{1,2}\D", value))
        lines = [f"{TODO} {first!r} could have the day or the month first: take one of the two lines"]
        for month_first in (False, True):
            said = {
                name: list(facts.either if month_first and facts.either else facts.formats)
                for name, facts in chosen.items()
                if facts.formats
            }
            lines.append(f"={_inline(said)}")
        beside["formats"] = lines
        return
    for name, facts in chosen.items():
        if facts.formats:
            yield name, facts.formats


def _inline(formats: dict[str, list[str]]) -> str:
    return f"formats = {toml_value(formats)}"


def _nulls(placed: Sequence[Placed], contract: Contract) -> tuple[str, ...]:
    own = {*contract.key, contract.order_by}
    return tuple(dict.fromkeys(text for one in placed if one.name not in own for text in one.facts.nulls))


def _zones(placed: Sequence[Placed], types: dict[str, str], beside: dict[str, list[str]]) -> Iterator[tuple[str, str]]:
    named = [one for one in placed if types.get(one.name) in ("date", "timestamp")]
    named = [one for one in named if any("%Z" in pattern for pattern in one.facts.formats)]
    found = dict.fromkeys(m[1] for one in named for value in one.facts.values if (m := _ZONE.search(value)))
    sure = {zone: _ZONES[zone] for zone in found if zone in _ZONES}
    unsure = [zone for zone in found if zone not in {*_ZONES, *UTC_NAMES}]
    if unsure:
        line = f"zones = {toml_value(sure | {zone: _MAYBE.get(zone, '+00:00') for zone in unsure})}"
        told = f"{TODO} {' and '.join(unsure)} may be several zones: say which is meant, by its offset"
        beside["zones"] = [f"{told}: {line}"] if sure else [told, f"={line}"]
    yield from sure.items()


def _is_number(kind: str) -> bool:
    return kind in ("int", "bigint", "double") or kind.startswith("decimal")


def _with_words(vendor: Vendor, booleans: Sequence[Facts]) -> Vendor:
    if not any(one.words for one in booleans):
        return vendor
    pairs = [one.words for one in booleans if one.words]
    plain = any(one.words is None and one.kind == "boolean" for one in booleans)
    true, false = ([word for pair in pairs for word in pair[side]] for side in (0, 1))
    if plain:
        true, false = [*true, "true", "t", "yes", "y", "1"], [*false, "false", "f", "no", "n", "0"]
    return replace(vendor, true_words=tuple(dict.fromkeys(true)), false_words=tuple(dict.fromkeys(false)))


def _with_key(vendor: Vendor, keys: Sequence[Facts], beside: dict[str, list[str]]) -> Vendor:
    """Case and blanks of keys, where keys of the sample are the same but for them."""
    if len(keys) != 1:
        return vendor
    values = set(keys[0].values)
    inside = "".join(char for char in " -" if any(char in value for value in values))
    bare = {_without(value, inside) for value in values}
    if len(bare) < len(values):
        vendor = replace(vendor, key_strip=inside)
    elif " " in inside and sum(" " in value for value in values) > len(values) / 2:
        beside["key_strip"] = [f"{TODO} keys have blanks inside; to take them out:", '=key_strip = " "']
    if len({value.upper() for value in bare}) < len(bare):
        vendor = replace(vendor, key_case="upper")
    return vendor


def _without(value: str, chars: str) -> str:
    return "".join(char for char in value if char not in chars)


# --- statuses --------------------------------------------------------------------------------------------------------


def _with_statuses(
    vendor: Vendor, placed: Sequence[Placed], contract: Contract
) -> tuple[Vendor, tuple[tuple[str, str | None], ...]]:
    """The vendor with what its statuses certainly mean, and the statuses that nobody is certain about."""
    facts = next((one.facts for one in placed if one.name == contract.status), None)
    if facts is None or not contract.status_rank:
        return vendor, ()
    ranked = {stage_of(status): status for status in reversed(contract.status_rank)}
    mapped: list[tuple[str, str]] = []
    waiting: list[tuple[str, str | None]] = []
    for value in list(dict.fromkeys(facts.values))[:_MAX_STATUSES]:
        if value in contract.status_rank:
            continue
        stage = stage_of(value)
        if stage in ranked:
            mapped.append((value, ranked[stage]))
        else:
            maybe = maybe_stage_of(value)
            waiting.append((value, ranked.get(maybe) if maybe else None))
    return replace(vendor, status_map=tuple(mapped)), tuple(waiting)


# --- the file's name -------------------------------------------------------------------------------------------------


def _file_date(name: str) -> tuple[str | None, list[str]]:
    """(`file_date`, comments) that read the date in a name; none when it reads itself or has none."""
    if file_date(name, None) is not None or not _RUN.search(name):
        return None, []
    stem = name.partition(".")[0] if name.count(".") == 1 else name
    days = {one: day for one in _NAME_DATES if (day := file_date(stem, one)) and date(2000, 1, 1) <= day}
    long = {one: day for one, day in days.items() if "%Y" in one} or days
    different = set(long.values())
    if not long:
        return None, []
    if len(different) > 1 or not any("%Y" in one for one in long):
        lines = [f"{TODO} the name may tell a date; if it does, take the line that reads it:"]
        return None, lines + [f'=file_date = "{one}"' for one in long]
    return next(iter(long)), []


def _from_name(name: str) -> Iterator[str]:
    """A comment about a code in the name that may tell a column; months are none."""
    codes = [one for one in _CODE.finditer(re.sub("_", " ", name)) if one[0].title() not in _MONTHS]
    if len(codes) == 1 and codes[0].start():
        before, after = name[codes[0].start() - 1], name[codes[0].end() : codes[0].end() + 1]
        yield f"The name has the code {codes[0][0]!r}. If a column of the contract is told by it, such as depot:"
        yield f"=from_name = '{re.escape(before)}(?P<depot>[A-Z]{{3}}){re.escape(after)}'"


_MONTHS = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"}


def _local(one: Placed, types: dict[str, str]) -> bool:
    """Whether a column has times of the day without an offset."""
    if types.get(one.name) != "timestamp" or not one.facts.values:
        return False
    if one.facts.formats and set(one.facts.formats) <= {*WORDS}:
        return False
    return any(not _OFFSET_AT_END.search(value) for value in one.facts.values)


def _notes(sample: Sample, waiting: Iterable[tuple[str, str | None]]) -> Iterator[str]:
    if sample.broken[0]:
        are = "row is none" if sample.broken[0] == 1 else "rows are none"
        yield f"{sample.broken[0]} {are}, the first in line {sample.broken[1]}: cells are missing or too many"
    if len(sample.columns) == 1:
        yield "the file has one column: if it is a file of fixed width, say widths; else see the delimiter"
    open_ones = [status for status, _ in waiting]
    if open_ones:
        yield f"statuses to map by hand, in status_map: {', '.join(map(repr, open_ones[:MAX_ODD]))}" + (
            f" and {len(open_ones) - MAX_ODD} more" if len(open_ones) > MAX_ODD else ""
        )
