"""What the values of a column in a sample are: its type, the notation of its times and numbers, and what does not fit.

Pure. Types are chosen so that no value changes: what is doubtful stays text. A type holds most of the values; the odd
ones are listed, for a person to look at.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import date

from msgspec import Struct
from msgspec.structs import replace

from ordertrail.rules.advice import time_patterns
from ordertrail.rules.headers import folded
from ordertrail.rules.likeness import means

MAX_ODD = 5
"""How many values that do not fit are listed."""

EXAMINED = 2_000
"""How many different values of a column decide on its type."""

NULL_TEXTS = (
    "N/A", "n/a", "NULL", "null", "\\N", "None", "none", "-", "--", "nan", "NaN", "#N/A", "n.v.", "0000-00-00",
    "0000-00-00 00:00:00", "(null)", "?", "(blank)", "00/00/0000",
)  # fmt: skip
"""Texts that mean no value in exports, as far as nothing else can be meant by them."""

_ISO = re.compile(
    r"(?:19|[2-9]\d)\d\d-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])"
    r"([T ](?:[01]\d|2[0-4]):[0-5]\d(?::[0-5]\d(?:[.,]\d{1,9})?)?(?:Z|[+-](?:0\d|1[0-5])(?::?[0-5]\d)?)?)?",
    re.ASCII,
)
_MIDNIGHT = re.compile(r"[T ]00:00(:00([.,]0+)?)?")
_CLOCK = re.compile(
    r"\d{1,2}[:.]\d\d(:\d\d([.,]\d+)?)?([ \u202f]?[AaPp][Mm])?|([01]\d|2[0-3])[0-5]\d([0-5]\d)?", re.ASCII
)
_SERIAL_SPAN = {"epoch_s": (946_684_800, 4_102_444_800), "epoch_ms": (946_684_800_000, 4_102_444_800_000)}
_SERIAL_SPAN["excel"] = (36_526, 73_050)  # the same years, 2000 to 2100, as serial days
_DIGITS = re.compile(r"\d+([.,]\d+)?", re.ASCII)
_LEADING_ZERO = re.compile(r"[+-]?0\d.*", re.ASCII)
_LETTER = re.compile(r"[^\W\d_]")
_SHARE, _LEAST = 0.5, 0.95
_MAX_PATTERNS = 3
_PLAIN_TRUE, _PLAIN_FALSE = ("true", "t", "yes", "y"), ("false", "f", "no", "n")
_TRUE = {*_PLAIN_TRUE, "ja", "j", "oui", "sí", "si", "sim", "wahr", "vrai", "x"}
_FALSE = {*_PLAIN_FALSE, "nein", "não", "nao", "non", "falsch", "faux"}


class Notation(Struct, frozen=True):
    """How a vendor writes numbers: what stands before decimals, and between thousands; "" for nothing."""

    decimal: str = "."
    thousands: str = ""

    def holds(self, value: str) -> bool:
        """Whether a text is a number in this notation that no type changes."""
        return self._shape.fullmatch(value) is not None and sum(map(str.isdigit, value)) <= 18

    def whole(self, value: str) -> bool:
        """Whether it has no decimals."""
        return self.decimal not in value

    @property
    def _shape(self) -> re.Pattern[str]:
        d, t = re.escape(self.decimal), re.escape(self.thousands)
        grouped = rf"|[1-9]\d{{0,2}}({t}\d{{3}})+" if t else ""
        return re.compile(rf"(?!-?0(\.0*)?-?$|.*-.*-)-?(0|[1-9]\d*{grouped})({d}\d+)?-?|0({d}\d+)?", re.ASCII)


PLAIN = Notation()
_NOTATIONS = (
    PLAIN, Notation(","), Notation(",", "."), Notation(".", ","), Notation(".", " "), Notation(",", " "),
    Notation(".", "'"), Notation(",", "'"),
)  # fmt: skip
_EITHER = re.compile(r"-?\d{1,3}[.,]\d{3}-?", re.ASCII)


class Facts(Struct, frozen=True):
    """What the values of one column are.

    Attributes:
        header: The column's name in the file.
        values: Its cells that are neither blank nor a text for no value, trimmed, in the order of the rows.
        full: Whether every row has one, and there is a row.
        kind: `string`, `bigint`, `double`, `boolean`, `date`, `timestamp`, or `clock`, a time of the day.
        formats: Of a date or time, besides ISO 8601.
        either: The formats with the month first, where nothing tells whether the day or the month is; else empty.
        odd: Values that do not fit, at most `MAX_ODD`.
        nulls: Texts for no value that occur.
        words: (true, false) of a boolean column that the row kernel does not know by itself.
        doubt: Why it is text, when it could be something else; "" otherwise.
    """

    header: str
    values: tuple[str, ...]
    full: bool
    kind: str = "string"
    formats: tuple[str, ...] = ()
    either: tuple[str, ...] = ()
    odd: tuple[str, ...] = ()
    nulls: tuple[str, ...] = ()
    words: tuple[tuple[str, ...], tuple[str, ...]] | None = None
    doubt: str = ""

    @property
    def is_time(self) -> bool:
        """Whether it tells a day or a time."""
        return self.kind in ("date", "timestamp")


def facts_of(header: str, cells: Sequence[str]) -> Facts:
    """The values of a column, and the time or boolean that they are; numbers are `with_numbers`.

    Args:
        header: The column's name in the file.
        cells: One a row; "" where there is none.
    """
    name = folded(header)
    # The header again, in another spelling, tells nothing of a column.
    trimmed = ["" if cell and folded(cell) == name else cell.strip() for cell in cells]
    nulls = tuple(text for text in NULL_TEXTS if text in trimmed)
    values = tuple(value for value in trimmed if value and value not in nulls)
    found = Facts(header, values, bool(cells) and all(trimmed), nulls=nulls)
    if not values:
        return found
    return _as_time(found) or _as_clock(found) or _as_words(found) or found


# --- times -----------------------------------------------------------------------------------------------------------


def read_as_times(values: Iterable[str], *, serials: bool) -> tuple[str, tuple[str, ...], tuple[str, ...], list[str]]:
    """(kind, formats, formats with the month first if either may be, odd values) of texts as times; kind "" for none.

    Args:
        values: Trimmed, not blank.
        serials: Whether a number may be a time: seconds, milliseconds, serial days or digits of a date.
    """
    counted = Counter(values)
    different = list(counted)[:EXAMINED]
    iso = {value for value in different if _is_iso(value)}
    readings = {value: _readings(value, serials=serials) for value in different if value not in iso}
    formats: list[str] = []
    either: tuple[str, ...] = ()
    rest = dict(readings)
    while rest and len(formats) < _MAX_PATTERNS:
        counts = Counter(pattern for found in rest.values() for pattern in found)
        if not counts:
            break
        # Of equals the first, which has the day first.
        best = max(counts, key=lambda one: counts[one])
        swapped = month_first(best)
        if swapped != best and counts[swapped] == counts[best]:
            either = (*either, swapped)
        formats.append(best)
        rest = {value: found for value, found in rest.items() if best not in found}
    if sum(counted[value] for value in rest) >= _SHARE * sum(counted[value] for value in different):
        return "", (), (), []
    if either and len(either) < len(formats):
        either = tuple(month_first(one) for one in formats)
    timed = any("%" not in one or _hours(one) for one in formats) or any(
        (match := _ISO.fullmatch(value)) and match[1] and not _MIDNIGHT.fullmatch(match[1]) for value in iso
    )
    if "excel" in formats and all("." not in value and "," not in value for value in readings):
        timed = any(_hours(one) for one in formats)
    return ("timestamp" if timed else "date"), tuple(formats), either, list(rest)


def _is_iso(value: str) -> bool:
    if not _ISO.fullmatch(value):
        return False
    try:
        date.fromisoformat(value[:10])
    except ValueError:
        return False
    return True


def month_first(pattern: str) -> str:
    """A pattern with the day before the month, the other way round; any other pattern as it is."""
    return re.sub(r"%d([./-])%m\1", r"%m\1%d\1", pattern)


def _hours(pattern: str) -> bool:
    return any(one in pattern for one in ("%H", "%I"))


def _readings(value: str, *, serials: bool) -> tuple[str, ...]:
    if _DIGITS.fullmatch(value):
        return tuple(one for one in time_patterns(value) if _in_span(one, value)) if serials else ()
    return time_patterns(value, named=True)


def _in_span(pattern: str, value: str) -> bool:
    low, high = _SERIAL_SPAN.get(pattern, (0, float("inf")))
    return low <= float(value.replace(",", ".")) <= high


def _as_time(facts: Facts) -> Facts | None:
    serials = means(facts.header, "time") or means(facts.header, "day") or means(facts.header, "update")
    kind, formats, either, odd = read_as_times(facts.values, serials=serials)
    if not kind:
        return None
    return replace(facts, kind=kind, formats=formats, either=either, odd=tuple(odd[:MAX_ODD]))


def _as_clock(facts: Facts) -> Facts | None:
    digits = means(facts.header, "time")
    fits = [bool(_CLOCK.fullmatch(value)) and (digits or not value.isdigit()) for value in facts.values]
    return replace(facts, kind="clock") if sum(fits) > _SHARE * len(fits) else None


def day_first_elsewhere(columns: Sequence[Facts]) -> list[Facts]:
    """The columns, where those whose day and month could be either follow the others of the same file.

    A file is written by one program: when all its other dates have the month first, so have these.
    """
    sure = {_order(one) for column in columns if not column.either for one in column.formats} - {""}
    if len(sure) != 1:
        return list(columns)
    first = sure == {"month"}
    return [
        replace(one, formats=one.either if first else one.formats, either=(), doubt="") if one.either else one
        for one in columns
    ]


def _order(pattern: str) -> str:
    if re.search(r"%d[/-]%m", pattern):
        return "day"
    return "month" if re.search(r"%m[/-]%d[/-]%[yY]", pattern) else ""


# --- words and numbers -----------------------------------------------------------------------------------------------


def _as_words(facts: Facts) -> Facts | None:
    different = dict.fromkeys(value.lower() for value in facts.values)
    true, false = [one for one in different if one in _TRUE], [one for one in different if one in _FALSE]
    if not true or not false or len(true) + len(false) < len(different):
        return None
    plain = different.keys() <= {*_PLAIN_TRUE, *_PLAIN_FALSE}
    return replace(facts, kind="boolean", words=None if plain else (tuple(true), tuple(false)))


def notation_of(columns: Iterable[Facts]) -> tuple[Notation, tuple[str, ...]]:
    """How a file writes numbers, and headers of columns whose numbers could be read in two ways.

    Args:
        columns: Of one file.
    """
    texts = [column for column in columns if column.kind == "string" and column.values]
    counts = {one: sum(_numbers(column, one) for column in texts) for one in _NOTATIONS}
    best = max(counts, key=lambda one: counts[one])  # of equals the first, which is the plainest
    if best == PLAIN:
        return PLAIN, ()
    needing = [column for column in texts if _numbers(column, best) and not _numbers(column, PLAIN)]
    unsure = [
        column
        for column in needing
        if all(_EITHER.fullmatch(value) for value in column.values if not PLAIN.holds(value) or "." in value)
    ]
    if len(unsure) == len(needing):
        return PLAIN, tuple(column.header for column in unsure)
    return best, ()


def _numbers(column: Facts, notation: Notation) -> bool:
    """Whether most values of a column are numbers, and the others no texts."""
    values = list(dict.fromkeys(column.values))[:EXAMINED]
    if any(_LEADING_ZERO.fullmatch(value) and not re.match(r"[+-]?0[.,]", value) for value in values):
        return False
    unfit = [value for value in values if not notation.holds(value)]
    words = [value for value in unfit if _LETTER.search(value) or not re.search(r"\d", value)]
    return len(unfit) < _SHARE * len(values) and len(words) <= (1 - _LEAST) * len(values)


def with_numbers(column: Facts, notation: Notation) -> Facts:
    """A column with its numeric type, if it has one.

    Args:
        column: As of `facts_of`.
        notation: Of the file.
    """
    if column.kind != "string" or not column.values or not _numbers(column, notation):
        return column
    fits = [value for value in column.values if notation.holds(value)]
    whole = all(map(notation.whole, fits))
    if not whole and max(sum(map(str.isdigit, value)) for value in fits) > 15:
        return column  # a double holds fifteen digits exactly
    odd = dict.fromkeys(value for value in column.values if not notation.holds(value))
    return replace(column, kind="bigint" if whole else "double", odd=tuple(odd)[:MAX_ODD])
