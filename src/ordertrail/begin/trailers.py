"""Finds the lines at the end of a sample that are no rows, for drafts."""

from __future__ import annotations

import re

from msgspec import Struct

from ordertrail.model import Vendor
from ordertrail.rules.dialects import dialect_of
from ordertrail.rules.header_lines import lines_of

_MOST_LINES = 5
_COUNTS = {"trl", "trailer", "tr", "records", "rows", "count", "recordcount", "rowcount", "anzahl", "t99"}
_WORDS = _COUNTS | {
    "total", "totals", "sum", "summe", "gesamt", "eof", "end", "ende", "printed", "generated", "created", "exported",
    "subtotal", "totale", "fin", "footer",
}  # fmt: skip
_FIRST_WORD = re.compile(r"\W*([^\W\d_]+\d*)")
_NUMBER = re.compile(r"\d+")


class TrailerFound(Struct, frozen=True):
    """The trailer of a sample: `Vendor.trailer`, and how many lines it is."""

    pattern: str
    lines: int


def trailer_of(text: str, vendor: Vendor, records: int) -> TrailerFound | None:
    """The trailer of a text, by the first word of its last lines and by the number of rows in them.

    Args:
        text: The whole text.
        vendor: How it is written.
        records: How many rows and broken rows were read, the trailer's included.
    """
    lines = [line for line in lines_of(text) if line.strip()]
    found: list[str] = []
    for line in reversed(lines[-_MOST_LINES:]):
        cells = dialect_of(vendor.delimiter, vendor.quote, vendor.escape).cells(line)
        word = _FIRST_WORD.match(cells[0]) if cells else None
        if word is None or word[1].lower() not in _WORDS:
            break
        found.insert(0, line)
    if not found or len(found) == len(lines):
        return None
    rows = records - len(found)
    parts = list(dict.fromkeys(_pattern(line, rows) for line in found))
    return TrailerFound("^" + (parts[0] if len(parts) == 1 else f"({'|'.join(parts)})"), len(found))


def _pattern(line: str, rows: int) -> str:
    """What a line begins with, up to the number of rows in it, or else up to its first number."""
    numbers = list(_NUMBER.finditer(line))
    first = _FIRST_WORD.match(line)
    numbers = [one for one in numbers if first is None or one.start() >= first.end()]
    same = next((one for one in numbers if int(one[0]) == rows), None)
    if same is None and first is not None and first[1].lower() in _COUNTS and len(numbers) == 1:
        same = numbers[0]
    if same is not None:
        return f"{_escaped(line[: same.start()])}(?P<rows>\\d+)"
    return _escaped(line[: numbers[0].start()] if numbers else line.rstrip())


def _escaped(text: str) -> str:
    return re.sub(r"\\([ ,:#=-])", r"\1", re.escape(text))
