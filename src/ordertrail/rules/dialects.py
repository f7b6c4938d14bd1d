"""What separates and guards the cells of a vendor's files, in terms of a grammar of single characters.

The grammar knows one-character delimiters and quotes, and doubled quotes. A delimiter of several characters, and what
an escape character guards, become marks: control characters that no text has, one for each. Cells are then cut as ever,
and in what was cut a mark becomes what it stands for: in a cell without the escape, in the raw record with it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from itertools import accumulate

from msgspec import Struct

_DELIMITER, _ESCAPE, _QUOTE, _GUARDED = "\x1f", "\x1c", "\x1d", "\x1e"
MARKS = frozenset((_DELIMITER, _ESCAPE, _QUOTE, _GUARDED))
"""The control characters that become marks; neither delimiter, quote nor escape may be one of several with one."""

NO_QUOTE = "\0"
"""The quote of a grammar without one: no text holds it."""


class Mark(Struct, frozen=True):
    """What a control character stands for.

    Attributes:
        char: The character.
        raw: What stands in the file.
        cell: What it means in a cell.
    """

    char: str
    raw: str
    cell: str


class Dialect(Struct, frozen=True):
    """The characters of the grammar, and the marks in its texts.

    Attributes:
        delimiter: One ASCII character.
        quote: One ASCII character; `NO_QUOTE` for files without quoting.
        marks: In the order in which they are put into a text; empty for most files.
        widths: Of the columns of a file of fixed width, in characters; its mark stands between them, and for nothing.
    """

    delimiter: str
    quote: str
    marks: tuple[Mark, ...]
    widths: tuple[int, ...] = ()

    def marked(self, text: str) -> str:
        """A text of a file with a delimiter as the grammar reads it."""
        for mark in self.marks:
            text = text.replace(mark.raw, mark.char)
        return text

    def cell(self, text: str) -> str:
        """A cell without marks."""
        for mark in self.marks:
            text = text.replace(mark.char, mark.cell)
        return text

    def written(self, text: str) -> str:
        """A text with marks as it stands in the file."""
        for mark in self.marks:
            text = text.replace(mark.char, mark.raw)
        return text

    def cells(self, line: str) -> list[str]:
        """The cells of a record; empty when it cannot be read. For messages; readers have their own."""
        if self.widths:
            ends = [*accumulate(self.widths)]
            return [line[end - width : end].strip() for width, end in zip(self.widths, ends, strict=True)]
        quote = None if self.quote == NO_QUOTE else self.quote
        text = io.StringIO(self.marked(line), newline="")
        try:
            if quote is None:
                found = next(csv.reader(text, delimiter=self.delimiter, quoting=csv.QUOTE_NONE), [])
            else:
                found = next(csv.reader(text, delimiter=self.delimiter, quotechar=quote), [])
        except (csv.Error, TypeError):
            return []
        return [self.cell(cell) for cell in found]


def dialect_of(delimiter: str, quote: str, escape: str = "", widths: Sequence[int] = ()) -> Dialect:
    """The dialect of some characters, or of a file of fixed width.

    Args:
        delimiter: At least one character.
        quote: One ASCII character; "" for files without quoting.
        escape: One ASCII character that takes from a quote, a delimiter or itself what it means; "" for none.
        widths: Of the columns of a file of fixed width, which has none of these; empty for all others.
    """
    if widths:
        return Dialect(_DELIMITER, NO_QUOTE, (Mark(_DELIMITER, "", ""),), tuple(widths))
    plain = len(delimiter) == 1 and delimiter.isascii()
    marks = []
    if escape:
        marks.append(Mark(_ESCAPE, escape * 2, escape))
        if quote:
            marks.append(Mark(_QUOTE, escape + quote, quote))
        marks.append(Mark(_GUARDED, escape + delimiter, delimiter))
    if not plain:
        marks.append(Mark(_DELIMITER, delimiter, delimiter))
    return Dialect(delimiter if plain else _DELIMITER, quote or NO_QUOTE, tuple(marks))
