"""Find quoted cells that hold lines which look like records: a stray quote swallows all rows up to the next one."""

from __future__ import annotations

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from ordertrail.parse.encoding import physical_ends

_FEWEST = 2
"""Delimiters of a line that looks like a record, at least: an address of one line has a comma, too."""


class Swallowed(Struct, frozen=True):
    """Lines inside records that look like records.

    Attributes:
        line: Number in the file of the first line of the first such record.
        lines: How many lines of such records look like records, beside their first lines.
    """

    line: int
    lines: int


def swallowed(data: bytes, starts: NDArray[np.int64], delimiter: str, width: int, line: int) -> Swallowed | None:
    """Look into the records that have several lines; None when none of their lines looks like a record.

    A line looks like one when it has as many delimiters as a record. A record whose last line alone does is suspected
    only if its first line does as well: a cell with line ends may be the first or the last one of its record.

    Args:
        data: Whole records.
        starts: Offsets of their first bytes, ascending.
        delimiter: One ASCII character.
        width: How many cells a record has.
        line: Number in the file of the first line of `data`.
    """
    if width - 1 < _FEWEST or not len(starts):
        return None
    stops = physical_ends(data)
    begins = np.concatenate(([0], stops + 1))
    stops = np.concatenate((stops, [len(data)]))
    octets = np.frombuffer(data + b"\n", dtype=np.uint8)
    written = (octets[begins] != ord("\n")) & (octets[begins] != ord("\r"))
    begins, stops, numbers = begins[written], stops[written], np.flatnonzero(written) + line
    delimiters = np.flatnonzero(octets == ord(delimiter))
    alike = np.searchsorted(delimiters, stops) - np.searchsorted(delimiters, begins) == width - 1
    record = np.searchsorted(starts, begins, side="right") - 1
    first = begins == starts[np.maximum(record, 0)]
    last = np.append(record[1:] != record[:-1], True)
    opened = np.zeros(len(starts), dtype=bool)
    opened[record[first & alike]] = True
    within = alike & ~first & (record >= 0)
    found = within & (~last | opened[np.maximum(record, 0)])
    if not found.any():
        return None
    suspects = record == record[np.argmax(found)]
    return Swallowed(int(numbers[np.argmax(suspects)]), int(np.count_nonzero(found)))
