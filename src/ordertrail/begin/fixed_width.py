"""The widths of the columns of a sample of fixed width, where its header and its rows leave no doubt."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ordertrail.rules.header_lines import DELIMITERS, is_value

_FEWEST_ROWS, _FEWEST_COLUMNS = 5, 3
_ABOVE = 10
_WORD = re.compile(r"(?<!\S)\S")


def widths_of(lines: Sequence[str]) -> tuple[int, tuple[int, ...]] | None:
    """Find the header of a text of fixed width, and the widths of its columns in characters.

    They are certain where below each word that begins a column cells begin as well, behind a blank in every line: then
    the columns are aligned to the left, and each reaches to the next one. What is aligned to the right tells where it
    ends, not where a longer value would begin.

    Args:
        lines: The first lines of the text, without line ends.

    Returns:
        (how many lines are above the header, the widths); None where they are not certain.
    """
    for above, header in enumerate(lines[:_ABOVE]):
        rows = [line.rstrip() for line in lines[above + 1 :] if line.strip()]
        if header.strip() and len(rows) >= _FEWEST_ROWS and (found := _widths(header.rstrip(), rows)):
            return above, found
    return None


def _widths(header: str, rows: Sequence[str]) -> tuple[int, ...] | None:
    if any(delimiter in header for delimiter in DELIMITERS):
        return None
    begins = [match.start() for match in _WORD.finditer(header)]
    starts = [at for at in begins if at == 0 or all(line[at - 1 : at] in ("", " ") for line in rows)]
    if begins[0] != 0 or len(starts) < _FEWEST_COLUMNS:
        return None
    longest = max(map(len, (header, *rows)))
    widths = tuple(stop - at for at, stop in zip(starts, [*starts[1:], longest], strict=True))
    if any(is_value(header[at : at + width].strip()) for at, width in zip(starts, widths, strict=True)):
        return None
    for at, width in zip(starts, widths, strict=True):
        cells = [line[at : at + width] for line in rows]
        if not any(map(str.strip, cells)) or any(cell.strip() and cell[0] == " " for cell in cells):
            return None
    return widths
