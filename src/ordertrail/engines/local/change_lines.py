"""Lines of text from the cells of the rows before and after changes.

DuckDB gives the cells in no order. Their texts are put into order by place and joined to lines by Arrow, some thousand
rows at a time, which stay in the processor's cache. What is the same in many rows becomes one piece of text with the
constant text around it, so that little is joined a row. Workers make both: columns and lines are independent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from functools import partial
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from msgspec import Struct
from numpy.typing import NDArray

from ordertrail.arrow import integers, numbers
from ordertrail.engines.local.change_times import few_of, texts_of
from ordertrail.engines.local.changed import BATCH_BITS
from ordertrail.engines.local.in_turn import in_turn

_TEXT_BYTES = 3 << 20
"""About so many bytes of text are made at a time."""

_MOST_ROWS = 8_192
"""So many rows at the most."""

WORKERS = 2
"""So many pieces of text are made ahead of the one that is taken."""

_FEW_VALUES = 128
"""A column with no more values than this is few-valued: they are joined with the text around them once."""

_MOST_TEXTS = 1024
"""So many texts of neighbours that are few-valued, together, are made at the most."""

_PROBED_ROWS = 2048
"""Columns with many values are told by their first rows."""

BEFORE, UPDATED, INSERTED, DELETED = _KINDS = range(4)
"""Kinds of ends: the row before an update, the row after it, the row after an insert, the row before a delete."""

KIND_SQL = (
    f"CASE WHEN NOT h._here THEN {DELETED} WHEN h._place & 1 = 0 THEN {BEFORE} WHEN h._was THEN {UPDATED} "
    f"ELSE {INSERTED} END"
)
"""SQL of the kind of an end, over relation `h`."""


class Cell(Struct, frozen=True):
    """A cell of a line.

    Attributes:
        sql: Of its value over relation `h`: a text, a whole number, a day or a time; may be NULL.
        quote: What stands on both sides of a text, and of no NULL.
        escape: Makes of texts what stands in a line.
        text: SQL of the text of a value `v`, for days and times that `change_times` does not know.
    """

    sql: str
    quote: str = ""
    escape: Callable[[pa.StringArray], pa.StringArray] | None = None
    text: str = ""


class ByKind(Struct, frozen=True):
    """A constant text for each kind of ends."""

    texts: tuple[str, str, str, str]


Part: TypeAlias = str | ByKind | Cell
"""What a line consists of."""


class Line(Struct, frozen=True):
    """What a line consists of, in this order.

    Attributes:
        head: Up to the row before.
        row: A row, as it is before and as it is after.
        nothing: Stands for no row.
        between: After the row before, and before the row after.
        tail: After the row after, with the end of the line.
        null: Stands for NULL.
    """

    head: Sequence[Part]
    row: Sequence[Part]
    nothing: str
    between: str
    tail: Sequence[Part]
    null: str

    @property
    def cells(self) -> list[Cell]:
        """All cells, in order."""
        return [part for part in (*self.head, *self.row, *self.tail) if isinstance(part, Cell)]


class Lines(Struct, frozen=True):
    """Lines of one batch, in order.

    Attributes:
        batch: Its number.
        text: The lines.
        changes: How many these are.
    """

    batch: int
    text: memoryview
    changes: int


class _Few(Struct, frozen=True):
    """Texts of which few are distinct: `texts[codes[i]]` is that of row i."""

    codes: NDArray[np.int32]
    texts: Sequence[str]


class _Coded(Struct, frozen=True):
    """The same for Arrow."""

    codes: NDArray[np.int32]
    texts: pa.StringArray


class _Many(Struct, frozen=True):
    """Any texts; in rows of the kind `silent` there is none, and for these the last one stands, which is empty."""

    texts: pa.StringArray
    silent: int | None


_Piece: TypeAlias = str | _Few | _Many


def in_order(line: Line, part: pa.Table, workers: Executor) -> Iterator[Lines]:
    """The lines of some changes, by batch and key.

    Args:
        line: What they consist of.
        part: Ends of whole changes in any order, with `place`, `kind`, and then the columns of `line.cells`. It is kept
            until the last line was taken.
        workers: Threads that make them.
    """
    if not part.num_rows:
        return
    place, kind = integers(part.column("place"), 0), integers(part.column("kind"), 0).astype(np.int8)
    pieces = _pieces(line, part, kind, workers)
    order = np.argsort(place)
    place = place[order]
    begins = np.ones(len(place), np.bool_)
    begins[1:] = place[1:] >> 1 != place[:-1] >> 1
    batch = place >> BATCH_BITS
    # Of the memory of the cells the text has a multiple.
    rows = max(1, min(_MOST_ROWS, _TEXT_BYTES * len(place) // (3 * part.nbytes + 1)))
    parts_of = [slice(begin, begin + rows) for begin in range(0, len(place), rows)]
    made = in_turn(workers, [partial(_joined, pieces, order[one], kind, line.null) for one in parts_of], WORKERS)
    for part_of, (ends, text) in zip(parts_of, made, strict=True):
        batches = batch[part_of]
        cuts = [0, *(np.flatnonzero(np.diff(batches)) + 1).tolist(), len(batches)]
        for first, last in pairwise(cuts):
            changes = int(begins[part_of][first:last].sum())
            yield Lines(int(batches[first]), text[ends[first] : ends[last]], changes)


def _joined(
    pieces: Sequence[str | _Coded | _Many], rows: NDArray[np.int64], kind: NDArray[np.int8], null: str
) -> tuple[NDArray[np.int32], memoryview]:
    """The texts of some rows, one after the other: where they begin and end, shape (n + 1,), and their bytes."""
    from pyarrow.compute import binary_join_element_wise

    kinds = kind[rows]
    taken: list[str | pa.StringArray] = []
    for piece in pieces:
        match piece:
            case _Coded(codes, texts):
                taken.append(texts.take(numbers(codes[rows])))
            case _Many(texts, None):
                taken.append(texts.take(numbers(rows)))
            case _Many(texts, silent):
                taken.append(texts.take(numbers(np.where(kinds == silent, len(texts) - 1, rows))))
            case text:
                taken.append(text)
    text = binary_join_element_wise(*taken, "", null_handling="replace", null_replacement=null)
    _, ends, data = text.buffers()
    return np.frombuffer(ends, np.int32)[text.offset : text.offset + len(text) + 1], memoryview(data or b"")


# -- pieces -----------------------------------------------------------------------------------------------------------


def _pieces(line: Line, part: pa.Table, kind: NDArray[np.int8], workers: Executor) -> list[str | _Coded | _Many]:
    """What the text of a row consists of: of an update each end has a part of the line, of others one has all."""
    cells, codes = workers.map(partial(_cell, null=line.null), line.cells, part.columns[2:]), kind.astype(np.int32)

    def pieces_of(parts: Sequence[Part]) -> list[_Piece]:
        found: list[_Piece] = []
        for one in parts:
            match one:
                case Cell():
                    found += next(cells)
                case ByKind(texts):
                    found.append(_Few(codes, texts))
                case text:
                    found.append(text)
        return _folded(found)

    head, row, tail = pieces_of(line.head), pieces_of(line.row), pieces_of(line.tail)
    before = {UPDATED: line.between, INSERTED: line.nothing + line.between}
    after = {DELETED: line.between + line.nothing}
    pieces = [
        *(_told(piece, codes, UPDATED) for piece in head),
        _Few(codes, [before.get(one, "") for one in _KINDS]),
        *row,
        _Few(codes, [after.get(one, "") for one in _KINDS]),
        *(_told(piece, codes, BEFORE) for piece in tail),
    ]
    return [
        _Coded(piece.codes, pa.array(piece.texts, pa.string())) if isinstance(piece, _Few) else piece
        for piece in _folded(pieces)
    ]


def _told(piece: _Piece, kind: NDArray[np.int32], silent: int) -> _Piece:
    """The same with nothing in rows of one kind."""
    match piece:
        case _Few(codes, texts):
            told = ["" if one == silent else text for text in texts for one in _KINDS]
            return _Few(codes * len(_KINDS) + kind, told)
        case _Many(texts, _):
            return _Many(pa.concat_arrays([texts, pa.array([""], texts.type)]), silent)
        case text:
            return _Few(kind, ["" if one == silent else text for one in _KINDS])


def _cell(cell: Cell, chunked: pa.ChunkedArray, null: str) -> list[_Piece]:
    """The pieces of a cell."""
    column = chunked.combine_chunks()
    if column.null_count == len(column):
        return [null]
    if pa.types.is_string(column.type):
        texts = column if cell.escape is None else cell.escape(column)
        few = _few(texts)
    else:
        few = few_of(column, _FEW_VALUES)
        texts = column if few else texts_of(column)
    if few is not None:
        codes, distinct = few
        return [_Few(codes, [*(f"{cell.quote}{text}{cell.quote}" for text in distinct), null])]
    if not cell.quote:
        return [_Many(texts, None)]
    if not texts.null_count:
        return [cell.quote, _Many(texts, None), cell.quote]
    from pyarrow.compute import binary_join_element_wise

    return [_Many(binary_join_element_wise(cell.quote, texts, cell.quote, ""), None)]


def _few(texts: pa.StringArray) -> tuple[NDArray[np.int32], list[str]] | None:
    """The texts of a column that is few-valued, each once, and which one each row has; NULL is after the last one."""
    probed = texts[:_PROBED_ROWS].dictionary_encode()
    if len(probed.dictionary) > _FEW_VALUES:
        return None
    coded = texts.dictionary_encode() if len(texts) > _PROBED_ROWS else probed
    distinct = coded.dictionary.to_pylist()
    if len(distinct) > _FEW_VALUES:
        return None
    return integers(coded.indices, len(distinct)).astype(np.int32), distinct


def _folded(pieces: Sequence[_Piece]) -> list[_Piece]:
    """The pieces with neighbours made one where both are constant or few-valued."""
    found: list[_Piece] = []
    for piece in pieces:
        both = _both(found[-1], piece) if found else None
        if both is None:
            found.append(piece)
        else:
            found[-1] = both
    return found


def _both(first: _Piece, second: _Piece) -> _Piece | None:
    match first, second:
        case str(), str():
            return first + second
        case str(), _Few(codes, texts):
            return _Few(codes, [first + text for text in texts])
        case _Few(codes, texts), str():
            return _Few(codes, [text + second for text in texts])
        case _Few(), _Few() if len(first.texts) * len(second.texts) <= _MOST_TEXTS:
            texts = [one + two for one in first.texts for two in second.texts]
            return _Few(first.codes * len(second.texts) + second.codes, texts)
        case _:
            return None
