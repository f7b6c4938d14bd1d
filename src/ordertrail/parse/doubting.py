"""Collect, block by block, what speaks against the rows of a file although they meet the contract."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from msgspec import Struct

from ordertrail.arrow import numbers
from ordertrail.parse.records import RecordBlock
from ordertrail.parse.swallowing import Swallowed
from ordertrail.rules.doubts import FEWEST_DIGITS, ROUNDED, Rounded, is_rounded, rounded_text, swallowed_text

_ZERO = ord("0")


class _Column(Struct):
    """An identifier of the contract, and the place of its cells."""

    name: str
    place: int
    rounded: Rounded | None = None


class FileDoubts:
    """The doubts about one file.

    Args:
        identifiers: (name, place in the header) of the contract's text columns that are identifiers.
    """

    def __init__(self, identifiers: Sequence[tuple[str, int]]) -> None:
        self._swallowed: Swallowed | None = None
        self._columns = [_Column(name, place) for name, place in identifiers]

    def see(self, block: RecordBlock) -> None:
        """Look at the next block of the file."""
        if (found := block.swallowed) is not None:
            before = self._swallowed
            self._swallowed = Swallowed(before.line, before.lines + found.lines) if before else found
        for column in self._columns:
            if (rounded := _rounded(block, column.place)) is not None:
                column.rounded = rounded if column.rounded is None else column.rounded + rounded

    def texts(self) -> tuple[str, ...]:
        """What was found, in plain words."""
        texts = [] if self._swallowed is None else [swallowed_text(self._swallowed.line, self._swallowed.lines)]
        rounded = [(one.name, one.rounded) for one in self._columns if one.rounded is not None]
        return (*texts, *(rounded_text(name, found) for name, found in rounded if is_rounded(found)))


def _rounded(block: RecordBlock, place: int) -> Rounded | None:
    """Long numbers in the cells of a column; None when none is long."""
    cells = block.cells.column(place)
    _, offsets, texts = cells.buffers()
    if texts is None:
        return None
    ends = np.frombuffer(offsets, dtype=np.int32)[cells.offset : cells.offset + len(cells) + 1]
    lengths = np.diff(ends)
    if len(lengths) == 0 or int(lengths.max()) < FEWEST_DIGITS:
        return None
    many = np.bincount(lengths)[FEWEST_DIGITS:]
    by_chance = float((many * np.power(10.0, 15.0 - FEWEST_DIGITS - np.arange(len(many)))).sum())
    octets, last, long = np.frombuffer(texts, dtype=np.uint8), ends[1:], np.flatnonzero(lengths >= FEWEST_DIGITS)
    for place in (1, 2, 3):  # each look leaves a tenth
        long = long[octets[last[long] - place] == _ZERO]
    if not len(long):
        return Rounded(0, by_chance)
    found = cells.take(numbers(long))
    import pyarrow.compute as pc  # which few files need, and which takes 50 ms

    matches = pc.match_substring_regex(found, ROUNDED)
    first = pc.index(matches, pa.scalar(True)).as_py()
    if first < 0:
        return Rounded(0, by_chance)
    return Rounded(pc.sum(matches).as_py(), by_chance, int(block.rows[long[first]]), found[first].as_py())
