"""Judge the quotes of a block that is not plain: which of its lines are malformed, and where quoted cells are.

This is the grammar's careful cutter for all lines at once. Each line is followed as if a record began with it: from
the first quote that opens a cell to the one that closes it, to the next one that opens a cell, until the record's line
ends or a cell is malformed. Which lines do begin a record is known when all are judged.
"""

from __future__ import annotations

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from ordertrail.parse import grammar as rules
from ordertrail.parse.encoding import physical_ends
from ordertrail.parse.grammar import NEVER_CLOSED, NOT_IN_LINE, TEXT_FOLLOWS, Grammar, Quotes

MISQUOTED = (TEXT_FOLLOWS, NEVER_CLOSED, NOT_IN_LINE)
"""What can be wrong with the quotes of a line; `Judged.kinds` are places in it."""


class Judged(Struct, frozen=True):
    """Whole records.

    Attributes:
        end: Offset just after the last one.
        quotes: Offsets of the quotes that open and close their cells, in turns; none is in a malformed line.
        wrong: Offsets of the malformed lines, ascending.
        kinds: For each its place in `MISQUOTED`.
    """

    end: int
    quotes: Quotes
    wrong: NDArray[np.int64]
    kinds: NDArray[np.int64]


class _Cells(Struct, frozen=True):
    """What may be the quoted cells of a text: every quote that a cell could begin with.

    Attributes:
        opens: Offsets of these quotes, ascending.
        closes: Offsets of the quotes that close them; the length of the text where none does.
        sound: Whether the cell is well-formed.
        open_line: The line in which it begins.
        close_line: The line in which it ends.
        following: The place of the next cell of the same record, its own where it is the last or malformed.
        kinds: What is wrong where it is not sound: a place in `MISQUOTED`.
    """

    opens: NDArray[np.int64]
    closes: NDArray[np.int64]
    sound: NDArray[np.bool_]
    open_line: NDArray[np.int64]
    close_line: NDArray[np.int64]
    following: NDArray[np.int64]
    kinds: NDArray[np.int64]


def judged(data: bytes, grammar: Grammar, *, ended: bool, line: int) -> Judged:
    """Follow the quotes of the records at the beginning of some bytes.

    Args:
        data: Begins at the start of a record.
        grammar: The file's grammar.
        ended: Whether the file ends with `data`; if not, a record that more bytes could change is left for later.
        line: Number of the first line of `data`.

    Raises:
        QuarantineError: A record is longer than a record may be.
    """
    ends = physical_ends(data)
    starts = np.concatenate(([0], ends + 1))
    stops = np.concatenate((ends + 1, [len(data)]))
    if starts[-1] == len(data):
        starts, stops = starts[:-1], stops[:-1]
    cells = _cells(data, grammar, ends)
    last = _settled(cells.following)
    first = np.searchsorted(cells.opens, starts)
    numbers = np.arange(len(starts))
    quoted = np.zeros(len(starts), dtype=bool)
    within = first < len(cells.opens)
    quoted[within] = cells.open_line[first[within]] == numbers[within]
    final = last[first[quoted]]
    fault = np.full(len(starts), -1, dtype=np.int64)
    fault[quoted] = np.where(cells.sound[final], -1, final)
    until = numbers.copy()
    until[quoted] = np.where(cells.sound[final], cells.close_line[final], numbers[quoted])
    begins = _begins(until)
    whole = len(starts)
    if not ended:
        waiting = fault >= 0
        at = fault[waiting]
        may_close = cells.closes[at] == len(data)
        if grammar.newlines:
            may_close &= len(data) < cells.opens[at] + rules.MAX_CELL_BYTES
        waiting[waiting] = may_close
        if not data.endswith(b"\n"):
            waiting |= until == len(starts) - 1
        cut = np.flatnonzero(waiting & begins)
        whole = int(cut[0]) if len(cut) else whole
    begins[whole:] = False
    records = np.flatnonzero(begins)
    lengths = stops[until[records]] - starts[records]
    for at in np.flatnonzero(lengths > rules.MAX_RECORD_BYTES)[:1].tolist():
        grammar.require_short(data, int(starts[records[at]]), int(stops[until[records[at]]]), line)
    end = int(starts[whole]) if whole < len(starts) else len(data)
    if end == 0 and len(data) > rules.MAX_RECORD_BYTES + rules.MAX_CELL_BYTES:
        grammar.require_short(data, 0, len(data), line)
    wrong = records[fault[records] >= 0]
    sound = records[quoted[records] & (fault[records] < 0)]
    visited = _reached(cells.following, first[sound])
    quotes = np.stack((cells.opens[visited], cells.closes[visited]), axis=1).reshape(-1)
    return Judged(end, quotes, starts[wrong], cells.kinds[fault[wrong]])


def _cells(data: bytes, grammar: Grammar, ends: NDArray[np.int64]) -> _Cells:
    """Every quote that could open a cell, and what comes of it."""
    octets = np.frombuffer(data, dtype=np.uint8)
    quotes = grammar.quotes(data)
    delimiter = ord(grammar.delimiter)
    if not len(quotes):
        nothing = np.empty(0, dtype=np.int64)
        return _Cells(nothing, nothing, nothing.astype(bool), nothing, nothing, nothing, nothing)
    apart = np.diff(quotes) > 1
    begin, stop = quotes[np.concatenate(([True], apart))], quotes[np.concatenate((apart, [True]))]
    odd = (stop - begin) % 2 == 0  # quotes that stand together; an even number of them opens and closes a cell
    ending = np.concatenate((stop, [len(data)]))
    around = np.zeros(256, dtype=bool)
    around[[delimiter, *b"\r\n"]] = True
    places = np.flatnonzero((begin == 0) | around[octets[begin - 1]])
    odds = np.concatenate((np.flatnonzero(odd), [len(stop)]))
    closed_by = np.where(odd[places], odds[np.searchsorted(odds, places, side="right").clip(max=len(odds) - 1)], places)
    opens, closes = begin[places], ending[closed_by]
    behind = np.minimum(closes + 1, len(data))
    at_end = behind == len(data)
    sound = (closes < len(data)) & (at_end | around[octets[np.minimum(behind, len(data) - 1)]])
    sound &= closes - opens < rules.MAX_CELL_BYTES
    open_line, close_line = np.searchsorted(ends, opens), np.searchsorted(ends, closes)
    if not grammar.newlines:
        sound &= open_line == close_line
    numbers = np.arange(len(opens))
    behind_it = np.searchsorted(opens, closes, side="right")
    goes_on = sound & (behind_it < len(opens))
    goes_on[goes_on] = open_line[behind_it[goes_on]] == close_line[goes_on]
    following = np.where(goes_on, behind_it, numbers)
    more = np.concatenate((quotes, [len(data) + rules.MAX_CELL_BYTES]))[np.searchsorted(quotes, opens) + 1]
    kinds = np.where(more < opens + rules.MAX_CELL_BYTES, 0, 1)
    if not grammar.newlines:
        kinds[(more >= len(data)) | (np.searchsorted(ends, more) != open_line)] = 2
    return _Cells(opens, closes, sound, open_line, close_line, following, kinds)


def _settled(following: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each way ends; a place that follows itself is an end. Each round doubles the steps."""
    while not np.array_equal(further := following[following], following):
        following = further
    return following


def _reached(following: NDArray[np.int64], begins: NDArray[np.int64]) -> NDArray[np.int64]:
    """All places on the ways from some places, ascending. Each round doubles the steps."""
    found = np.zeros(len(following), dtype=bool)
    found[begins] = True
    while True:
        found[following[found]] = True
        further = following[following]
        if np.array_equal(further, following):
            return np.flatnonzero(found)
        following = further


def _begins(until: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which lines begin a record, if each that does reaches until a given line."""
    found = np.ones(len(until), dtype=bool)
    behind = 0
    longer = np.flatnonzero(until > np.arange(len(until)))
    for first, last in zip(longer.tolist(), until[longer].tolist(), strict=True):
        if first >= behind:
            behind = last + 1
            found[first + 1 : behind] = False
    return found
