"""Whole numbers, days and times as texts, column by column: times as ISO 8601 in UTC, such as `2026-11-23T08:00:00Z`.

Only days and times of the years 1 to 9999 and only times in whole seconds are known here, which nearly all are. DuckDB
knows the others, and takes several times as long.
"""

from __future__ import annotations

from datetime import date
from functools import cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ordertrail.arrow import integers

_DAY_S = 86_400
_SECOND_US = 1_000_000
_EPOCH = date(1970, 1, 1).toordinal()
_FIRST_DAY, _LAST_DAY = date.min.toordinal() - _EPOCH, date.max.toordinal() - _EPOCH

_MOST_DAYS = 100_000
"""A table of texts has at most so many days."""


def knows(column: pa.ChunkedArray) -> bool:
    """Whether `texts_of` can make the texts of a column."""
    if not pa.types.is_date(column.type) and not pa.types.is_timestamp(column.type):
        return True
    days = _values(column)
    if pa.types.is_timestamp(column.type):
        if (days % _SECOND_US).any():
            return False
        days = days // (_DAY_S * _SECOND_US)
    low, high = (int(days.min()), int(days.max())) if len(days) else (0, 0)
    return low >= _FIRST_DAY and high <= _LAST_DAY and high - low < _MOST_DAYS


def few_of(column: pa.Array, most: int) -> tuple[NDArray[np.int32], list[str]] | None:
    """The texts of whole numbers or days that lie close together, each once, and which one each row has.

    Args:
        column: Not all NULL; of what `knows` is true.
        most: How many texts there may be.

    Returns:
        Shape (n,), the place of each in the texts, that after the last one for NULL; and the texts. None when there
        would be more, or the column has times.
    """
    if pa.types.is_timestamp(column.type):
        return None
    known = _values(column)
    low, high = int(known.min()), int(known.max())
    if high - low >= most:
        return None
    days = pa.types.is_date(column.type)
    texts = [_day(one) if days else str(one) for one in range(low, high + 1)]
    found = integers(column.view(pa.int32()) if days else column, high + 1)
    return (found - low).astype(np.int32), texts


def texts_of(column: pa.Array) -> pa.StringArray:
    """The texts of a column; NULL stays NULL.

    Args:
        column: Of whole numbers, or of days or times of which `knows` is true.
    """
    if pa.types.is_date(column.type):
        found = integers(column.view(pa.int32()), 0)
        return _fixed(_days(found), column)
    if pa.types.is_timestamp(column.type):
        found = integers(column, 0) // _SECOND_US
        texts = np.empty((len(found), 2), "S10")
        texts[:, 0] = _days(found // _DAY_S)
        texts[:, 1] = _times_of_day()[found % _DAY_S]
        return _fixed(texts, column)
    return column.cast(pa.string())


def _values(column: pa.Array | pa.ChunkedArray) -> NDArray[np.int64]:
    """The numbers of a column but for NULL."""
    known = column.drop_null() if column.null_count else column
    if pa.types.is_date(known.type):
        chunks = known.chunks if isinstance(known, pa.ChunkedArray) else [known]
        known = pa.chunked_array([chunk.view(pa.int32()) for chunk in chunks], pa.int32())
    return integers(known, 0)


def _days(days: NDArray[np.int64]) -> NDArray[np.bytes_]:
    low, high = (int(days.min()), int(days.max())) if len(days) else (0, 0)
    return np.array([_day(one) for one in range(low, high + 1)], "S10")[days - low]


def _day(day: int) -> str:
    return date.fromordinal(day + _EPOCH).isoformat()


@cache
def _times_of_day() -> NDArray[np.bytes_]:
    """The text of each second of a day after its date, shape (86400,)."""
    two = [f"{number:02d}" for number in range(60)]
    minutes = [f"T{hour}:{minute}:" for hour in two[:24] for minute in two]
    return np.array([f"{minute}{second}Z" for minute in minutes for second in two], "S10")


def _fixed(texts: NDArray[np.bytes_], column: pa.Array) -> pa.StringArray:
    """Texts of one length as an Arrow array, NULL where a column is."""
    count = len(column)
    ends = np.arange(count + 1, dtype=np.int32) * np.int32(texts.nbytes // max(count, 1))
    missing = None
    if column.null_count:
        missing = pa.py_buffer(np.packbits(np.asarray(column.is_valid()), bitorder="little"))
    return pa.StringArray.from_buffers(count, pa.py_buffer(ends), pa.py_buffer(texts), missing)
