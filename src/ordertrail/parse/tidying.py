"""Take out of a block that was cut what is no row: nothing but delimiters, the header again, the marks of a dialect."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from msgspec.structs import replace
from numpy.typing import NDArray

from ordertrail.arrow import lengths_bytes, numbers
from ordertrail.parse.blocks import Broken, Cut
from ordertrail.parse.marking import present, without_marks
from ordertrail.rules.dialects import Dialect


def all_empty(cells: pa.RecordBatch) -> NDArray[np.bool_] | None:
    """Which rows have no cell; None when all have one."""
    found: NDArray[np.bool_] | None = None
    for column in cells.columns:
        if column.null_count == 0:
            return None
        empty = np.asarray(column.is_null())
        found = empty if found is None else found & empty
    return found if found is not None and found.any() else None


def equal_rows(cells: pa.RecordBatch, header: Sequence[str]) -> NDArray[np.bool_] | None:
    """Which rows are equal to the header; None when none is. An empty cell is NULL, and of no length."""
    likely = np.ones(cells.num_rows, dtype=bool)
    for column, cell in zip(cells.columns, header, strict=True):
        likely &= lengths_bytes(column) == len(cell.encode())
        if not likely.any():
            return None
    import pyarrow.compute as pc  # as in `unpadded`: few files need it, and it takes 50 ms

    places = np.flatnonzero(likely)
    same = np.ones(len(places), dtype=bool)
    for column, cell in zip(cells.columns, header, strict=True):
        if cell:
            same &= np.asarray(pc.equal(column.take(numbers(places)), cell))
    likely[places] = same
    return likely if same.any() else None


def kept(found: Cut, rows: NDArray[np.bool_], skipped: int) -> Cut:
    """Only some of the rows; so many of the others were skipped."""
    places = pa.array(np.flatnonzero(rows))
    return replace(
        found,
        cells=found.cells.take(places),
        index=found.index[rows],
        raw=None if found.raw is None else found.raw.take(places),
        lines=None if found.lines is None else found.lines[rows],
        skipped=found.skipped + skipped,
    )


def merged(one: Broken, other: Broken) -> Broken:
    """Records of both that are not rows, in order."""
    numbers = np.concatenate((one.numbers, other.numbers))
    order = np.argsort(numbers, kind="stable")
    kind = np.concatenate((one.kind, other.kind + len(one.kinds)))[order]
    raw = pa.concat_arrays([one.raw, other.raw]).take(pa.array(order))
    lines = np.concatenate((one.lines, other.lines))[order]
    return Broken(numbers[order], raw, lines, (*one.kinds, *other.kinds), kind)


def unpadded(found: Cut) -> Cut:
    """Cells of fixed width without the blanks that fill them; one that has nothing else is empty."""
    import pyarrow.compute as pc

    columns = []
    for column in found.cells.columns:
        texts = pc.utf8_trim_whitespace(column)
        columns.append(pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts))
    return replace(found, cells=pa.RecordBatch.from_arrays(columns, names=found.cells.schema.names))


def unmarked(found: Cut, data: bytes, dialect: Dialect) -> Cut:
    """Without the marks of a dialect."""
    cells = found.cells
    if present(data, dialect):
        columns = [without_marks(column, dialect) for column in cells.columns]
        cells = pa.RecordBatch.from_arrays(columns, names=cells.schema.names)
    raw = found.raw if found.raw is None else without_marks(found.raw, dialect, raw=True)
    broken = found.broken and replace(found.broken, raw=without_marks(found.broken.raw, dialect, raw=True))
    return replace(found, cells=cells, raw=raw, broken=broken)
