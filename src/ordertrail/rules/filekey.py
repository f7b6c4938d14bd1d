"""What a file's name tells: who sent it, its date, how to show it, and where it is archived. Pure, no I/O.

Names are text as `os.fsdecode` returns it: a byte that is not UTF-8 is a surrogate escape (U+DC80 to U+DCFF).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from functools import lru_cache
from pathlib import PurePosixPath

from ordertrail.model import SET_ASIDE, State, Vendor
from ordertrail.rules.globs import glob_of

MAX_NAME_BYTES = 255
"""Longest file name that the usual file systems allow, in bytes."""

_DAY_MS = 86_400_000
_EPOCH = date(1970, 1, 1)
_NO_MTIME_NS = 946_684_800 * 1_000_000_000  # 2000-01-01
_MAX_EXTENSION_BYTES = 32

_DATE_IN_NAME = re.compile(r"(?<![0-9])[0-9]{4}([_-]?)[0-9]{2}\1[0-9]{2}(?![0-9])")

# The inside of a character class of a regular expression. It never changes: see `rules.unseen`. U+2028 and U+2029 end a
# line for many readers; U+061C, U+200E and U+200F change the text direction, as U+202A does.
_UNSAFE = r"\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_UNSAFE_CHARACTER = re.compile(f"[{_UNSAFE}]")
_ESCAPED_CHARACTER = re.compile(rf"[\\{_UNSAFE}]")
_SHORT_ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}

_ONE_OR_TWO = "[0-9]{1,2}"
_MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
_WEEKDAYS = "Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday"
_DIRECTIVES = {
    **dict.fromkeys("YG", "[0-9]{4}"),
    "y": "[0-9]{2}",
    **dict.fromkeys("mdHIMSUWV", _ONE_OR_TWO),
    "j": "[0-9]{1,3}",
    "f": "[0-9]{1,6}",
    "u": "[1-7]",
    "w": "[0-6]",
    "p": "(?:AM|PM)",
    "B": f"(?:{_MONTHS})",
    "b": "(?:" + "|".join(month[:3] for month in _MONTHS.split("|")) + ")",
    "A": f"(?:{_WEEKDAYS})",
    "a": "(?:" + "|".join(day[:3] for day in _WEEKDAYS.split("|")) + ")",
    "%": "%",
}


def take(path: str, vendors: Sequence[Vendor]) -> Vendor | None:
    """Find the vendor that takes a file.

    Args:
        path: Below the source folder, with `/` between folders.
        vendors: In the order of the config; the first whose glob matches wins.

    Returns:
        The vendor, or None when no glob matches. In a glob, `*`, `?` and `[...]` stop at `/`, and `**` spans folders
        (`**/` also matches none); matching is case-sensitive.
    """
    return next((vendor for vendor in vendors if glob_of(vendor.files).matches(path)), None)


def file_date(name: str, pattern: str | None) -> date | None:
    """Find the date inside a file's name.

    Args:
        name: The path's last part.
        pattern: None looks for `yyyy_mm_dd`, `yyyy-mm-dd` or `yyyymmdd` that is not part of a longer run of digits. A
            strptime pattern is searched anywhere inside the name, but inside a longer run of digits only when it
            matches nowhere else. Names of months and days are English; case does not matter.

    Returns:
        The first date from the left that exists in the calendar and is not before 1970 (a file key is never negative,
        and a serial number such as `00010203` is no date); None when there is none.

    Raises:
        ValueError: The pattern has a directive that is not supported, or no year. Config refuses such a pattern.
    """
    if pattern is None:
        found = (_parsed(match[0], f"%Y{match[1]}%m{match[1]}%d") for match in _DATE_IN_NAME.finditer(name))
    else:
        whole, part = _searches(pattern)
        matches = list(whole.finditer(name)) or list(part.finditer(name))
        found = (_parsed(match[1], pattern) for match in matches)
    return next((day for day in found if day is not None and day >= _EPOCH), None)


def file_key(name: str, vendor: Vendor, mtime_ns: int) -> int:
    """The order key of a file: the second component of the total order.

    Args:
        name: The file's name or its path; only the last part counts.
        vendor: Who sent it; its `file_date` says how the name holds a date.
        mtime_ns: The file's modification time in nanoseconds since 1970 UTC.

    Returns:
        Milliseconds since 1970 UTC: midnight UTC of the date in the name, else the modification time, rounded down.
    """
    day = file_date(name.rpartition("/")[2], vendor.file_date)
    return mtime_ns // 1_000_000 if day is None else (day - _EPOCH).days * _DAY_MS


def dated(name: str, vendor: Vendor, mtime_ns: int) -> str:
    """The date that a file's key stands for and where it comes from, in words that follow a comma.

    Args:
        name: As for `file_key`.
        vendor: As for `file_key`.
        mtime_ns: As for `file_key`.
    """
    day = file_date(name.rpartition("/")[2], vendor.file_date)
    if day is not None:
        return f"{day:%Y-%m-%d}, which its name says"
    return f"{_time_of(mtime_ns)}, when it was last modified, as its name has no date"


def too_far_ahead(name: str, vendor: Vendor, mtime_ns: int, max_ahead_d: float) -> str | None:
    """Why a file is held: its name says a day far beyond the time it was written. None when it does not.

    With such a day the file would win every tie, and its rows could lie far in the future, so that no later file could
    change their shipments. The rule compares two facts about the file and never asks for the current time. A
    modification time before the year 2000 is ignored: tools that unpack or copy files leave 1970 or 1980 there.

    Args:
        name: As for `file_key`.
        vendor: As for `file_key`.
        mtime_ns: As for `file_key`.
        max_ahead_d: How many days the name may be ahead.
    """
    day = file_date(name.rpartition("/")[2], vendor.file_date)
    if day is None or mtime_ns < _NO_MTIME_NS:
        return None
    ahead_d = (day - _EPOCH).days - mtime_ns / (_DAY_MS * 1_000_000)
    if ahead_d <= max_ahead_d:
        return None
    return (
        f"its name says {day:%Y-%m-%d}, {ahead_d:,.0f} days after it was last modified, {_time_of(mtime_ns)}; "
        f"max_file_ahead_d allows {max_ahead_d:g}: if the name is right, load it with ordertrail release; else copy "
        "it back with cp -p under the right one"
    )


def _time_of(mtime_ns: int) -> str:
    return f"{datetime.fromtimestamp(mtime_ns // 1_000_000_000, UTC):%Y-%m-%d %H:%M} UTC"


def clean_name(path: str) -> str:
    r"""A name or a path as text for tables and people: valid UTF-8, one line, without terminal control characters.

    A byte that is not UTF-8 becomes `\xNN`; newline, carriage return and tab become `\n`, `\r`, `\t`; any other control
    character below U+0080 becomes `\xNN`; a higher one, or a mark that changes the text direction or ends a line,
    becomes `\uNNNN`. A backslash is always doubled, so every backslash in the result begins exactly one escape, and two
    different names never become the same text. Nothing else changes.
    """
    return _ESCAPED_CHARACTER.sub(lambda match: _escape(match[0]), path)


def archive_path(delivery_id: str, name: str, when: datetime, state: State) -> str:
    """The path in the archive: `yyyy/mm/dd/<delivery_id>-<name>`, below `quarantine/` if nothing was loaded.

    Args:
        delivery_id: Unique in the pipeline, safe in a file name, shorter than 100 bytes.
        name: The file's name or its path; only the last part counts.
        when: Aware; its UTC day gives the folders.
        state: The delivery's state.

    Returns:
        A path below the archive folder: valid UTF-8 without control characters, so that a table can hold it. A name
        that is already so is kept byte for byte, any other becomes the text of `clean_name`. A last part longer than
        255 bytes is cut before its extension.
    """
    last = name.rpartition("/")[2]
    if _UNSAFE_CHARACTER.search(last):
        last = clean_name(last)
    extension = PurePosixPath(last).suffix
    folder = f"{when.astimezone(UTC):%Y/%m/%d}"
    top = "quarantine/" if state in SET_ASIDE else ""
    stem = f"{delivery_id}-{last.removesuffix(extension)}"
    return f"{top}{folder}/{fitted(stem, extension)}"


def fitted(stem: str, extension: str) -> str:
    """`stem + extension` in at most 255 bytes: the stem loses whole characters.

    An extension longer than 32 bytes does not count as one: then the end of the whole name is cut.
    """
    if _size_bytes(extension) > _MAX_EXTENSION_BYTES:
        stem, extension = stem + extension, ""
    while _size_bytes(stem) + _size_bytes(extension) > MAX_NAME_BYTES:
        stem = stem[:-1]
    return stem + extension


def _size_bytes(name: str) -> int:
    return len(name.encode("utf-8", "surrogateescape"))


def _escape(character: str) -> str:
    code = ord(character)
    if short := _SHORT_ESCAPES.get(character):
        return short
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    # C1 controls are \u0080 to \u009f: \x80 to \x9f are the raw bytes.
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}"


def _parsed(text: str, pattern: str) -> date | None:
    try:
        return datetime.strptime(text, pattern).date()  # noqa: DTZ007 - only the calendar's date counts
    except ValueError:
        return None


@lru_cache(maxsize=64)
def _searches(pattern: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Two regular expressions of a pattern: one outside longer runs of digits, one anywhere. Group 1 is for strptime.

    They look ahead without consuming, because an impossible date may overlap a possible one.
    """
    regex = "".join(_pattern_parts(pattern))
    whole = re.compile(f"(?<![0-9])(?=({regex})(?![0-9]))", re.IGNORECASE)
    return whole, re.compile(f"(?=({regex}))", re.IGNORECASE)


def _pattern_parts(pattern: str) -> Iterator[str]:
    parts = re.findall(r"%.?|\s+|[^%\s]+", pattern, re.DOTALL)
    if not {"%Y", "%y", "%G"}.intersection(parts):
        raise ValueError(f"the date pattern {pattern!r} names no year: it needs %Y or %y")
    for part in parts:
        if part.startswith("%"):
            if part[1:] not in _DIRECTIVES:
                raise ValueError(f"the date pattern {pattern!r} has {part!r}, which is not supported in a file name")
            yield _DIRECTIVES[part[1:]]
        else:
            yield r"\s+" if part.isspace() else re.escape(part)
