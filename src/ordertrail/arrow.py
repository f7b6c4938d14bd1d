"""Conversions to Arrow: numpy arrays, contract and Delta types, and rows cast to a given schema."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ordertrail.rules.column_types import decimal_of, plain_type

_FIRST_PRINTABLE, _LAST_PRINTABLE = 0x20, 0x7E


def arrow_schema(columns: Iterable[tuple[str, str]]) -> pa.Schema:
    """The Arrow schema of columns given as (name, type); columns that others added have Delta's types.

    Raises:
        KeyError: There is no such type.
    """
    return pa.schema([(name, arrow_type(kind)) for name, kind in columns])


def arrow_type(kind: Any) -> pa.DataType:  # noqa: ANN401 - JSON
    """The Arrow type of a contract type or a Delta type.

    Args:
        kind: Its name; for a nested type its JSON, as text or parsed.

    Raises:
        KeyError: There is no such type.
    """
    match kind:
        case str() if kind.startswith("{"):
            return arrow_type(json.loads(kind))
        case str() if (digits := decimal_of(kind)) is not None:
            return pa.decimal128(*digits)
        case str() if (plain := plain_type(kind)) is not None:
            make, *arguments = plain.arrow
            return getattr(pa, make)(*arguments)
        case {"type": "array", "elementType": element}:
            return pa.list_(arrow_type(element))
        case {"type": "map", "keyType": key, "valueType": value}:
            return pa.map_(arrow_type(key), arrow_type(value))
        case {"type": "struct", "fields": [_, *_] as fields}:
            return pa.struct([(field["name"], arrow_type(field["type"])) for field in fields])
        case _:
            raise KeyError(kind)


def conformed(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The rows with exactly the columns and types of a schema; a column that they lack is NULL."""
    names = set(batch.schema.names)
    columns = [
        _cast(batch.column(field.name), field.type) if field.name in names else pa.nulls(batch.num_rows, field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _cast(column: pa.Array | pa.ChunkedArray, kind: pa.DataType) -> pa.Array | pa.ChunkedArray:
    # Even a cast that changes nothing imports `pyarrow.compute`, a fifth of the time of `ordertrail status`.
    return column if column.type == kind else column.cast(kind)


def epochs_us(times: pa.ChunkedArray) -> list[int | None]:
    """Times as microseconds since 1970 UTC; None for NULL."""
    column = _cast(times, pa.timestamp("us", times.type.tz))
    return [us for chunk in column.chunks for us in chunk.view(pa.int64()).to_pylist()]


def is_printable_ascii(texts: pa.StringArray) -> bool:
    """Whether all texts consist of printable ASCII characters only; vectorised over their bytes."""
    _, offsets, data = texts.buffers()
    if data is None or not len(texts):
        return True
    ends = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    found = np.frombuffer(data, np.uint8)[ends[0] : ends[-1]]
    return not len(found) or bool(found.min() >= _FIRST_PRINTABLE and found.max() <= _LAST_PRINTABLE)


def numbers(values: NDArray[Any]) -> pa.Array:
    """A numpy array as an Arrow array without nulls; both share the same memory.

    `pa.array` does this too, but asks first whether the values are masked; for that it imports `numpy.ma`, 10 ms that
    a small pass would notice.

    Args:
        values: Shape (n,), of integers or floats.
    """
    values = np.ascontiguousarray(values)
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, pa.py_buffer(values)])
