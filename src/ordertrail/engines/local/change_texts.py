"""The changes as texts, one line each, in order.

DuckDB makes the texts of the rows before and after changes, on all processors and in no order; then they are gathered
by their places. To let it sort them would take longer than to make them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa
from msgspec import Struct

from ordertrail.arrow import integers, numbers
from ordertrail.engines.local.change_ends import ABOVE, find_ends
from ordertrail.engines.local.changed import BATCH_BITS, OpenChanges
from ordertrail.errors import TableError
from ordertrail.rules.sql import quoted

_TEXT_BYTES = 24 << 20
"""About so many bytes of text are made at a time."""

_FIRST_ROWS = 16_384
"""About so many ends are in the first part: nobody knows yet how long their texts are."""

_FASTER = 8
"""A part has at most so many times as many ends as the one before it."""

_MOST_ROWS = 400_000
"""A part has at most about so many ends."""

_FEW_ROWS = 120_000
"""So many ends are one part, however long their texts are."""

_SLICE_ROWS = 16_384
"""So many texts are gathered at a time."""


class Line(Struct, frozen=True):
    """SQL of the texts that a line consists of, in this order; of a row they are over relation `h`.

    Attributes:
        head: Up to the row before.
        row: A row, as it is before and as it is after.
        nothing: Stands for no row.
        between: After the row before, and before the row after.
        tail: After the row after, with the end of the line.
    """

    head: Sequence[str]
    row: Sequence[str]
    nothing: str
    between: str
    tail: Sequence[str]


class Lines(Struct, frozen=True):
    """Whole lines of one batch, in order.

    Attributes:
        batch: Its number.
        text: The lines.
        changes: How many these are.
    """

    batch: int
    text: memoryview
    changes: int


def texts(opened: OpenChanges, line: Callable[[Mapping[str, str]], Line]) -> Iterator[pa.Table]:
    """Find the changes, and make their lines.

    Args:
        opened: Which changes.
        line: Gives a line, from SQL of `_batch`, `_change` and `WHY`.

    Yields:
        Parts of whole changes, each of those after the one before, for `in_order`.

    Raises:
        TableError: The history lacks rows of a change.
    """
    ends = find_ends(opened, _FEW_ROWS)
    text = _text_sql(line(ends.said()), removes=ends.removes)
    begin, rows = 0, _FIRST_ROWS
    while begin < ABOVE:
        end, count = ends.following(begin, rows)
        # As one array, which has room for so many rows.
        made = opened.con.sql(f"SELECT h._place AS place, {text} AS text FROM {ends.part(begin, end)}")
        part = made.to_arrow_reader(count + 1).read_all()
        if part.num_rows != count and not opened.migrations:
            raise TableError(f"the history lacks rows of {count - part.num_rows} changes", hint="run ordertrail verify")
        begin = end
        rows = min(_TEXT_BYTES * (part.num_rows + 1) // (part.nbytes + 1), rows * _FASTER, _MOST_ROWS)
        kept = [part]
        del part, made  # here they must not be kept while the next part is made
        yield kept.pop()


def in_order(part: pa.Table) -> Iterator[Lines]:
    """The lines of a part of `texts`.

    Args:
        part: It is kept until the last line was taken.
    """
    if not part.num_rows:
        return
    text = part.column("text").combine_chunks()
    place = integers(part.column("place"), 0)
    order = np.argsort(place)
    place = place[order]
    begins = np.ones(len(place), np.bool_)
    begins[1:] = place[1:] >> 1 != place[:-1] >> 1
    batch = place >> BATCH_BITS
    cuts = np.flatnonzero(np.diff(batch)) + 1
    for first, last in pairwise([0, *cuts.tolist(), len(place)]):
        for begin in range(first, last, _SLICE_ROWS):
            end = min(begin + _SLICE_ROWS, last)
            taken = text.take(numbers(order[begin:end]))
            yield Lines(int(batch[begin]), memoryview(taken.buffers()[2]), int(begins[begin:end].sum()))


def _text_sql(line: Line, *, removes: bool) -> str:
    """SQL of the text of an end of a change: of an update each end has a part of the line, of others one has all."""
    head, row, tail = line.head, line.row, line.tail
    nothing, between = quoted(line.nothing), quoted(line.between)
    gone = f"WHEN NOT h._here THEN concat({', '.join((*head, *row, between, nothing, *tail))}) " if removes else ""
    return (
        f"CASE {gone}WHEN h._place & 1 = 0 THEN concat({', '.join((*head, *row))}) "
        f"WHEN h._was THEN concat({', '.join((between, *row, *tail))}) "
        f"ELSE concat({', '.join((*head, nothing, between, *row, *tail))}) END"
    )
