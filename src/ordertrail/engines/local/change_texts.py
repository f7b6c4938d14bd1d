"""The cells of changes, in parts for `change_lines`.

DuckDB reads the rows before and after changes, on all processors and in no order. To let it sort them would take longer
than to make their lines, and to let it make whole lines would copy each of them once more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from ordertrail.arrow import numbers
from ordertrail.engines.local.change_ends import ABOVE, find_ends
from ordertrail.engines.local.change_lines import KIND_SQL, Line
from ordertrail.engines.local.change_times import knows
from ordertrail.engines.local.changed import OpenChanges
from ordertrail.errors import TableError

if TYPE_CHECKING:
    import duckdb

_PART_BYTES = 24 << 20
"""About so many bytes of cells are read at a time."""

_FIRST_ROWS = 16_384
"""About so many ends are in the first part: nobody knows yet how long their texts are."""

_FASTER = 16
"""A part has at most so many times as many ends as the one before it."""

_MOST_ROWS = 400_000
"""A part has at most about so many ends."""

_FEW_ROWS = 120_000
"""So many ends are one part, however long their texts are."""


def texts(opened: OpenChanges, line: Callable[[Mapping[str, str]], Line]) -> Iterator[tuple[Line, pa.Table]]:
    """Find the changes, and read what their lines consist of.

    Args:
        opened: Which changes.
        line: Gives a line, from SQL of `_batch`, `_change` and `WHY`.

    Yields:
        The line, and parts of whole changes, each of those after the one before, for `change_lines.in_order`.

    Raises:
        TableError: The history lacks rows of a change.
    """
    ends = find_ends(opened, _FEW_ROWS)
    made_of = line(ends.said())
    cells = "".join(f", {cell.sql} AS c{number}" for number, cell in enumerate(made_of.cells))
    begin, rows = 0, _FIRST_ROWS
    while begin < ABOVE:
        end, count = ends.following(begin, rows)
        # As one array, which has room for so many rows.
        made = opened.con.sql(f"SELECT h._place AS place, {KIND_SQL} AS kind{cells} FROM {ends.part(begin, end)}")
        part = made.to_arrow_reader(count + 1).read_all()
        if part.num_rows != count and not opened.migrations:
            raise TableError(f"the history lacks rows of {count - part.num_rows} changes", hint="run ordertrail verify")
        begin = end
        rows = min(_PART_BYTES * (part.num_rows + 1) // (part.nbytes + 1), rows * _FASTER, _MOST_ROWS)
        kept = [_known(opened.con, made_of, part)]
        del part, made  # here they must not be kept while the next part is made
        yield made_of, kept.pop()


def _known(con: duckdb.DuckDBPyConnection, line: Line, part: pa.Table) -> pa.Table:
    """A part with texts in place of values that `change_times` does not know."""
    for place, cell in enumerate(line.cells, start=2):
        if knows(part.column(place)):
            continue
        rows = pa.table({"i": numbers(np.arange(part.num_rows)), "v": part.column(place)})
        con.register("odd_values", rows)
        texts = con.sql(f"SELECT {cell.text} AS v FROM odd_values ORDER BY i").to_arrow_table()
        con.unregister("odd_values")
        part = part.set_column(place, part.column_names[place], texts.column("v"))
    return part
