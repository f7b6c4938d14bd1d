"""What to write in the config so that a rejected cell is read, and what in it nobody sees: how a reason ends.

A `formats` pattern is put together from the shape of the text: its date, what follows it, its time, and what ends it.
Where day and month could be either, both lines are told: which one it is, only the vendor knows.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from datetime import datetime
from functools import cache

from ordertrail.rules.texts import BLANKS

MAX_CHARS = 100
"""A longer text is no time and no number; nothing is said of it."""

_YEAR, _DAY, _MONTH = r"(?:19|20)\d\d", r"(?:0?[1-9]|[12]\d|3[01])", r"(?:0?[1-9]|1[0-2])"
_DATE = (
    rf"\d{{1,2}}[./-]\d{{1,2}}[./-](?:{_YEAR}|\d\d)|{_YEAR}[./-]\d\d[./-]\d\d|{_YEAR}\d{{4}}"
    rf"|\d{{1,2}}[ -][A-Za-z]{{3,9}}[ -](?:{_YEAR}|\d\d)|[A-Za-z]{{3,9}} \d{{1,2}}, {_YEAR}"
)
_TIME = r"(?:[01]?\d|2[0-4])[:.][0-5]\d(?::[0-5]\d)?|(?:[01]\d|2[0-3])[0-5]\d(?:[0-5]\d)?|"
_HALF = "[ \u202f]?[AaPp][Mm]|"
_OFFSET = r" ?Z| ?[+-]\d\d:?\d\d|"
_NAME = " [A-Z]{3,4}|"
_WHOLE = rf"({_DATE})(, | at |,| |T|)({_TIME})({_HALF})({_OFFSET})"
_NAMED = rf"({_DATE})(, | at |,| |T|)({_TIME})({_HALF})({_NAME}{_OFFSET})"
_DAY_FIRST = tuple((rf"{_DAY}[{sign}]{_MONTH}[{sign}]", f"%d{sign}%m{sign}") for sign in "./-")
_MONTH_FIRST = tuple((rf"{_MONTH}{sign}{_DAY}{sign}", f"%m{sign}%d{sign}") for sign in "/-")
_SURE = (
    *((rf"{_YEAR}[{sign}]{_MONTH}[{sign}]{_DAY}", f"%Y{sign}%m{sign}%d") for sign in "/.-"),
    (_YEAR + r"(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])", "%Y%m%d"),
    *((rf"{_DAY}{sign}[A-Za-z]{{3}}{sign}{_YEAR}", f"%d{sign}%b{sign}%Y") for sign in " -"),
    *((rf"{_DAY}{sign}[A-Za-z]{{3}}{sign}\d\d", f"%d{sign}%b{sign}%y") for sign in " -"),
    (rf"{_DAY} [A-Za-z]{{4,9}} {_YEAR}", "%d %B %Y"),
    (rf"[A-Za-z]{{3}} {_DAY}, {_YEAR}", "%b %d, %Y"),
    (rf"[A-Za-z]{{4,9}} {_DAY}, {_YEAR}", "%B %d, %Y"),
)
_ZONE_NAME = re.compile("[A-Z]{3,4}$")
_SERIAL = ((r"\d{9,10}(\.\d+)?", "epoch_s"), (r"\d{12,13}(\.\d+)?", "epoch_ms"), (r"\d{5}([.,]\d+)?", "excel"))
_BLANK_SIGNS = "[ \u00a0\u202f\u2009]"
_NOTATIONS = (
    (r"[+-]?\d+,\d{1,2}-?", 'decimal = ","'),
    (r"[+-]?\d{1,3}(\.\d{3})+,\d+-?", 'decimal = "," and thousands = "."'),
    (r"[+-]?\d{1,3}((,\d{3})+\.\d+|(,\d{3}){2,})-?", 'thousands = ","'),
    (rf"[+-]?\d{{1,3}}({_BLANK_SIGNS}\d{{3}})+(\.\d*)?-?", 'thousands = " "'),
    (rf"[+-]?\d{{1,3}}({_BLANK_SIGNS}\d{{3}})+,\d*-?", 'decimal = "," and thousands = " "'),
)


def advice(wanted: str, text: str) -> str:
    """What ends the reason of a reject; "" when there is nothing to say.

    Args:
        wanted: `number` and the vendor's name, `time` and the beginning of the line to write up to the new pattern, or
            `text`; one blank between the two.
        text: The cell.
    """
    told = _unseen(text)
    bare = text.strip(BLANKS)
    if len(bare) > MAX_CHARS:
        return told
    kind, _, rest = wanted.partition(" ")
    if kind == "number":
        found = next((lines for shape, lines in _NOTATIONS if _full(shape, bare)), None)
        return told if found is None else f"{told}; write {found} for vendor {rest}"
    if kind == "time" and (patterns := time_patterns(bare)):
        escaped = (pattern.replace("\u202f", "\\u202f") for pattern in patterns)
        return f"{told}; write " + ", or, with the month first, ".join(f'{rest}"{one}"] }}' for one in escaped)
    return told


def time_patterns(text: str, *, named: bool = False) -> tuple[str, ...]:
    """The `formats` that read a text: patterns of its shape, and words for times that are numbers.

    Args:
        text: Trimmed.
        named: Whether the name of a zone behind the time is read, by `%Z`; the vendor's `zones` must then say what it
            means.

    Returns:
        Two where day and month could be either, the one with the day first before the other.
    """
    return () if len(text) > MAX_CHARS else tuple(one for one in _patterns(text, named=named) if _reads(one, text))


def _unseen(text: str) -> str:
    """The characters of a text that nobody sees, or that are more than one sign to a computer."""
    codes = {char for char in text if char != " " and (not char.isprintable() or unicodedata.combining(char))}
    codes |= {char for char in text if char == "\ufffd"}
    listed = ", ".join(f"U+{ord(char):04X}" for char in sorted(codes))
    return f"; not to be seen in it: {listed}" if listed else ""


def _patterns(text: str, *, named: bool) -> Iterator[str]:
    yield from (word for shape, word in _SERIAL if _full(shape, text))
    parts = _full(_NAMED if named else _WHOLE, text)
    if parts is None:
        return
    date, between, time, half, zone = parts.groups()
    clock = ""
    if time:
        clock = "%I:%M" if half else "%H.%M" if "." in time else "%H:%M" if ":" in time else "%H%M%S"[: len(time)]
        clock += ":%S" if time.count(":") == 2 else ""
    elif half or zone:
        return
    if half:
        clock += (half[0] if half[0] in " \u202f" else "") + "%p"
    if zone:
        clock += (" " if zone[0] == " " else "") + ("%Z" if zone.strip()[1:].isalpha() else "%z")
    for pattern in _dates(date):
        yield pattern + between + clock


def _reads(pattern: str, text: str) -> bool:
    """Whether a pattern reads the text: there is no 30th of February in any."""
    if "%" not in pattern:
        return True
    try:
        read = _ZONE_NAME.sub("UTC", text) if "%Z" in pattern else text
        datetime.strptime(read.replace("24:00", "00:00"), pattern)  # noqa: DTZ007 - only whether it can be read
    except ValueError:
        return False
    return True


def _dates(date: str) -> Iterator[str]:
    sure = next((pattern for shape, pattern in _SURE if _full(shape, date)), None)
    if sure is not None:
        yield sure
        return
    for shapes in (_DAY_FIRST, _MONTH_FIRST):
        for shape, pattern in shapes:
            for year, letter in ((_YEAR, "%Y"), (r"\d\d", "%y")):
                if _full(shape + year, date):
                    yield pattern + letter


def _full(shape: str, text: str) -> re.Match[str] | None:
    return _compiled(shape).fullmatch(text)


@cache
def _compiled(shape: str) -> re.Pattern[str]:
    return re.compile(shape, re.ASCII)
