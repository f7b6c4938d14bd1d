"""Checks `[contract]` and turns it into the values of `ordertrail.model`.

It checks what types alone cannot express: that names refer to columns, that patterns and bounds make sense. Nothing
here reads a file.
"""

from __future__ import annotations

import difflib
import re
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from math import isfinite
from typing import NoReturn, Protocol, TypeVar

from msgspec.structs import replace

from ordertrail.config.settings import DEFAULT_CONTRACT, ColumnSection, ContractSection
from ordertrail.model import Column, Contract, UnknownColumns
from ordertrail.rules.bounds import MAX_COLUMNS
from ordertrail.rules.column_types import PLAIN_TYPES, bits_of
from ordertrail.rules.headers import RESERVED, folded
from ordertrail.rules.texts import BLANKS
from ordertrail.rules.times import DIRECTIVE, FRACTIONS, WORDS

Choice = TypeVar("Choice", bound=str)

_UNKNOWN: tuple[UnknownColumns, ...] = ("rescue", "strict", "add")


class Fail(Protocol):
    """Reports a mistake in the config: raises a `ConfigError` that names the file."""

    def __call__(self, key: str, value: object, problem: str, hint: str) -> NoReturn:
        """Raise the error.

        Args:
            key: The setting, such as `vendors[acme].timezone`.
            value: Its value; None leaves it out of the message.
            problem: What is wrong with it.
            hint: What to do.
        """


TIMES = ("date", "timestamp")
"""Types that may have `formats`."""

_DECIMAL = re.compile(r"decimal\((\d+),(\d+)\)")
_MAX_PRECISION = 38
_MOST_ADDED = 1000
_HOUR_S = 3600
# Python's `re` knows these; RE2, which runs the pattern, does not, or reads them as plain text (`{,3}`).
_RE2_TOKEN = re.compile(
    r"(?P<escape>\\.)"
    r"|(?P<set>\[\^?\]?(?:\\.|[^\]\\])*\])"
    r"|(?P<around>\(\?(?:[=!>#(]|<[=!]|P=))"
    r"|(?P<flags>\(\?[a-zA-Z-]+[:)])"
    r"|(?P<possessive>(?:[*+?]|\{\d*,?\d*\})\+)"
    r"|(?P<open>\{,\d*\})"
    r"|(?P<repeat>\{\d+(?:,\d*)?\})",
    re.DOTALL,
)
_RE2_REPEATS = 1000
# DuckDB's strptime: https://duckdb.org/docs/stable/sql/functions/dateformat
_DIRECTIVES = frozenset("aAbBcdfgGHIjmMnpSuUVwWxXyYzZ%") | {f"-{letter}" for letter in "dmyHIMSj"}
_WHOLE_DATE = {"c", "x"}
_DATE_PARTS = ({"y", "Y", "-y"}, {"b", "B", "m", "-m"}, {"d", "-d"})


def nearest(word: str, words: Iterable[str], *, otherwise: str) -> str:
    """A hint: the nearest valid word if there is a similar one, else the given text."""
    close = difflib.get_close_matches(word, list(words), n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else otherwise


def one_of(key: str, value: str, choices: tuple[Choice, ...], otherwise: str, fail: Fail) -> Choice:
    """The choice that a setting makes.

    Args:
        key: The setting, such as `vendors[acme].rows`.
        value: What it says.
        choices: All that it may say.
        otherwise: What to do about a word that resembles none of them.
        fail: Called when it is none of them.
    """
    for choice in choices:
        if choice == value:
            return choice
    return fail(key, value, "there is no such choice", nearest(value, choices, otherwise=otherwise))


# --- the contract ------------------------------------------------------------------------------------------------


def build_contract(section: ContractSection, given: Collection[str], fail: Fail) -> Contract:
    """Check `[contract]` and build the contract; without columns, it gets those of the order feed.

    Args:
        section: As parsed.
        given: The settings that the file has there; the others have their defaults.
        fail: Called with the first mistake.

    Returns:
        The contract. Its key and ordering columns are required, and text columns of the key are identifiers.
    """
    key = (section.key,) if isinstance(section.key, str) else tuple(section.key)
    columns = _columns(section, key, fail)
    names = [column.name for column in columns]
    types = {column.name: column.type for column in columns}
    if not key:
        fail("contract.key", section.key, "a row needs a key", "name at least one column")
    for position, name in enumerate(key):
        known_column("contract.key", name, names, fail)
        if name in key[:position]:
            fail("contract.key", section.key, f"{name} is there twice", "name each column once")
    known_column("contract.order_by", section.order_by, names, fail)
    if types[section.order_by] != "timestamp":
        problem = f"is a {types[section.order_by]} column"
        fail("contract.order_by", section.order_by, problem, "order by a column of type timestamp")
    if section.order_by in key:
        fail("contract.order_by", section.order_by, "is part of the key", "order by a column that is not in the key")
    status = _status(section, given, types, fail)
    return Contract(
        columns=columns,
        key=key,
        order_by=section.order_by,
        status=status,
        status_rank=_status_rank(section, given, status, fail),
        unknown_columns=one_of(
            "contract.unknown_columns", section.unknown_columns, _UNKNOWN, 'use "rescue", "strict" or "add"', fail
        ),
        max_future_s=_max_future_s(section.max_future_h, fail),
        max_added_columns=_max_added_columns(section.max_added_columns, fail),
    )


def known_column(key: str, name: str, names: Sequence[str], fail: Fail) -> None:
    """Fail when the contract has no column with this name."""
    if name not in names:
        fail(key, name, "the contract has no such column", nearest(name, names, otherwise="use " + ", ".join(names)))


def _columns(section: ContractSection, key: tuple[str, ...], fail: Fail) -> tuple[Column, ...]:
    if len(section.columns) > MAX_COLUMNS:
        hint = f"name only those that somebody reads, at most {MAX_COLUMNS}; a pass keeps the others in _rescued"
        fail("contract.columns", None, f"are {len(section.columns)} columns", hint)
    columns = tuple(_column(one, fail) for one in section.columns) or DEFAULT_CONTRACT.columns
    taken: dict[str, str] = {}
    for column in columns:
        where = f"contract.columns[{column.name}].name"
        if not column.name.isidentifier() or column.name.startswith("_"):
            hint = "use letters, digits and underscores, beginning with a letter; give vendors an alias for the rest"
            fail(where, column.name, "cannot be the name of a column", hint)
        if column.name.lower() in RESERVED:
            fail(where, column.name, "is a name that readers of Parquet files use", "give the column another name")
        if folded(column.name) in taken:
            problem = f"is the same as {taken[folded(column.name)]}: case, spaces and underscores do not count"
            fail(where, column.name, problem, "give every column its own name")
        taken[folded(column.name)] = column.name
    for column in columns:
        for name in column.was:
            if folded(name) in taken:
                problem = f"is a name of {taken[folded(name)]}"
                fail(f"contract.columns[{column.name}].was", name, problem, "take it out: no two columns share a name")
            taken[folded(name)] = column.name
    needed = {*key, section.order_by}
    for one in section.columns:
        if one.required is False and one.name in needed:
            problem = "a row without its key or its time is always rejected"
            fail(f"contract.columns[{one.name}].required", one.required, problem, "take the line out")
        if one.identifier is False and one.name in key:
            problem = "the key is always guarded against spreadsheets"
            fail(f"contract.columns[{one.name}].identifier", one.identifier, problem, "take the line out")
    settled = tuple(
        replace(
            column,
            required=column.required or column.name in needed,
            identifier=column.identifier or (column.name in key and column.type == "string"),
        )
        for column in columns
    )
    for column in settled:
        if column.identifier and not column.trim:
            problem = "is an identifier, and those are trimmed"
            fail(f"contract.columns[{column.name}].trim", column.trim, problem, "take the line out")
    return settled


def _column(section: ColumnSection, fail: Fail) -> Column:
    where = f"contract.columns[{section.name}]"
    kind = _type(f"{where}.type", section.type, fail)
    if section.identifier and kind != "string":
        fail(f"{where}.identifier", section.identifier, f"is for text, not for {kind}", 'use type = "string"')
    if not section.trim and kind != "string":
        fail(f"{where}.trim", section.trim, f"is for text, not for {kind}", "take the line out")
    if section.formats and kind not in TIMES:
        fail(f"{where}.formats", section.formats, f"is not for {kind}", "use it on date and timestamp columns only")
    for pattern in section.formats:
        check_format(f"{where}.formats", pattern, fail)
    if section.pattern is not None:
        _check_pattern(f"{where}.pattern", section.pattern, kind, fail)
    check_nulls(f"{where}.nulls", section.nulls, fail)
    low = _bound(f"{where}.min", section.min, kind, fail)
    high = _bound(f"{where}.max", section.max, kind, fail)
    if low is not None and high is not None and _parse(low, kind) > _parse(high, kind):  # type: ignore[operator]
        fail(f"{where}.min", section.min, f"is above max = {section.max!r}", "swap the two")
    return Column(
        name=section.name,
        type=kind,
        required=bool(section.required),
        formats=tuple(section.formats),
        identifier=bool(section.identifier),
        pattern=section.pattern,
        min=low,
        max=high,
        allowed=tuple(value_of(f"{where}.allowed", one, kind, fail) for one in section.allowed),
        was=tuple(section.was),
        trim=section.trim,
        nulls=tuple(section.nulls),
    )


def _type(key: str, text: str, fail: Fail) -> str:
    kind = text.lower().replace(" ", "")
    if kind in PLAIN_TYPES:
        return kind
    decimal = _DECIMAL.fullmatch(kind)
    if not decimal:
        words = (*PLAIN_TYPES, "decimal(10,2)")
        fail(key, text, "there is no such type", nearest(kind, words, otherwise="use one of " + ", ".join(words)))
    precision, scale = int(decimal[1]), int(decimal[2])
    if not 1 <= precision <= _MAX_PRECISION:
        fail(key, text, f"has {precision} digits", f"use 1 to {_MAX_PRECISION}")
    if scale > precision:
        fail(key, text, f"has {scale} decimals in {precision} digits", f"use 0 to {precision}")
    return f"decimal({precision},{scale})"


def check_nulls(key: str, nulls: Sequence[str], fail: Fail) -> None:
    """Fail when a text that means no value is blank, which means none anyway."""
    if any(not word.strip(BLANKS) for word in nulls):
        fail(key, nulls, "has a blank text, which never is a value", "take it out")


def check_format(key: str, pattern: str, fail: Fail) -> None:
    """Fail when a pattern of `formats` cannot be read, or does not hold a whole date."""
    if pattern in WORDS:
        return
    found = DIRECTIVE.findall(pattern)
    wrong = [one for one in found if one not in _DIRECTIVES]
    if wrong:
        fail(key, pattern, f"%{wrong[0]} means nothing", "use strptime letters, such as %d/%m/%Y %H:%M:%S")
    fractions = [one for one in found if one in FRACTIONS]
    twice = [one for one in found if one in "zZ" and found.count(one) > 1] or fractions[1:]
    if twice:
        fail(key, pattern, f"has %{twice[0]} beside another one", "a time has one offset, one zone and one fraction")
    parts = set(found)
    if not parts & _WHOLE_DATE and not all(parts & part for part in _DATE_PARTS):
        hint = nearest(pattern, WORDS, otherwise=f"use a pattern such as %d/%m/%Y, or {', '.join(WORDS)}")
        fail(key, pattern, "does not hold a year, a month and a day", hint)


def _check_pattern(key: str, pattern: str, kind: str, fail: Fail) -> None:
    if kind != "string":
        fail(key, pattern, f"is for text, not for {kind}", "use min, max or allowed")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # RE2 does read `[[:alpha:]]`
            re.compile(pattern)
    except re.error as error:
        fail(key, pattern, f"is not a regular expression: {error}", "correct it")
    if problem := _not_re2(pattern):
        hint = "RE2 runs it: write it without (?=, (?!, (?<, (?>, (?x), \\1, possessive quantifiers and {,n}"
        fail(key, pattern, f"{problem}, which RE2 does not know", hint)


def _not_re2(pattern: str) -> str | None:
    """The part of a pattern that Python's `re` accepts and RE2 does not."""
    for token in _RE2_TOKEN.finditer(pattern):
        text = token[0]
        match token.lastgroup:
            case "escape" if text[1] in "123456789":
                return f"has {text}, which looks back at a group"
            case "escape" if text[1] in "ZuUN":
                return f"has {text}"
            case "set" if re.search(r"\\[uUN]", text.replace("\\\\", "")):
                return f"has {text}"
            case "around":
                return f"has {text}, which looks around or back"
            case "flags" if not re.fullmatch(r"\(\?[ims]*(?:-[ims]+)?[:)]", text):
                return f"has the flags {text}"
            case "possessive":
                return f"has the possessive {text}"
            case "open":
                return f"has {text}"
            case "repeat" if any(int(n) > _RE2_REPEATS for n in re.findall(r"\d+", text)):
                return f"repeats {text}, more than {_RE2_REPEATS} times"
            case _:
                pass
    return None


def _bound(key: str, value: object, kind: str, fail: Fail) -> str | None:
    if value is None:
        return None
    if kind == "boolean":
        fail(key, value, "is not for boolean", "use allowed")
    return value_of(key, value, kind, fail)


def value_of(key: str, value: object, kind: str, fail: Fail) -> str:
    """The text of a value of the config; fails when it is none of the column's type."""
    text = value.isoformat() if isinstance(value, date) else str(value)
    try:
        _parse(text, kind)
    except (ValueError, InvalidOperation):
        fail(key, value, f"is not a value of type {kind}", "write it as it would stand in a file, dates as 2026-11-23")
    return text


def _parse(text: str, kind: str) -> object:
    """The value of a text, comparable within its type; raises ValueError or InvalidOperation."""
    if kind != "string" and ("_" in text or text != text.strip()):
        raise ValueError(text)
    match kind:
        case "string":
            return text
        case "int" | "bigint":
            number = int(text)
            if not -(2 ** (bits_of(kind) - 1)) <= number < 2 ** (bits_of(kind) - 1):
                raise ValueError(text)
            return number
        case "double":
            if not isfinite(float(text)):
                raise ValueError(text)
            return float(text)
        case "boolean":
            if text.lower() not in ("true", "false"):
                raise ValueError(text)
            return text.lower()
        case "date":
            return date.fromisoformat(text)
        case "timestamp":
            moment = datetime.fromisoformat(text)
            return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        case _:
            return _parse_decimal(text, kind)


def _parse_decimal(text: str, kind: str) -> Decimal:
    decimal = _DECIMAL.fullmatch(kind)
    number = Decimal(text)
    exponent = number.normalize().as_tuple().exponent
    if decimal is None or not isinstance(exponent, int):
        raise ValueError(text)
    precision, scale = int(decimal[1]), int(decimal[2])
    if -exponent > scale or abs(number) >= Decimal(10) ** (precision - scale):
        raise ValueError(text)
    return number


def _status(section: ContractSection, given: Collection[str], types: Mapping[str, str], fail: Fail) -> str | None:
    if not section.status or ("status" not in given and section.status not in types):
        return None
    if section.status not in types:
        hint = nearest(section.status, types, otherwise='use status = "" for a contract without one')
        fail("contract.status", section.status, "the contract has no such column", hint)
    if types[section.status] != "string":
        fail("contract.status", section.status, f"is a {types[section.status]} column", "use a column of type string")
    return section.status


def _status_rank(section: ContractSection, given: Collection[str], status: str | None, fail: Fail) -> tuple[str, ...]:
    if status is None:
        if "status_rank" in given and section.status_rank:
            problem = "the contract has no status column"
            fail("contract.status_rank", section.status_rank, problem, "name the column with status, or take it out")
        return ()
    for position, one in enumerate(section.status_rank):
        if one in section.status_rank[:position]:
            fail("contract.status_rank", section.status_rank, f"{one!r} is there twice", "give each status one place")
    return tuple(section.status_rank)


def _max_added_columns(most: int, fail: Fail) -> int:
    if not 1 <= most <= _MOST_ADDED:
        hint = f"use 1 to {_MOST_ADDED}; 100 is the default"
        fail("contract.max_added_columns", most, "is no sensible number of columns", hint)
    return most


def _max_future_s(hours: float, fail: Fail) -> int:
    if hours < 0:
        fail("contract.max_future_h", hours, "must not be negative", "use 0 or more hours; 48 is the default")
    return round(hours * _HOUR_S)
