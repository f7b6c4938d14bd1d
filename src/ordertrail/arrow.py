"""Conversions to Arrow: numpy arrays, contract and Delta types, and rows cast to a given schema."""

from __future__ import annotations

import json
import string
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ordertrail.rules.column_types import decimal_of, plain_type
from ordertrail.rules.identifiers import MAX_WORD_CHARS, WORD_BEGINS, WORD_ENDS
from ordertrail.rules.texts import BLANKS

NEVER = np.iinfo(np.int64).min
"""Stands for NULL among times that are numbers."""

_BLANK, _LAST_ASCII = 0x20, 0x7F
_LETTERS_AND_DIGITS = f"{string.ascii_letters}{string.digits}_-".encode()
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _table(octets: Iterable[int]) -> NDArray[np.bool_]:
    table = np.zeros(256, np.bool_)
    table[list(octets)] = True
    return table


_WIDE_BLANKS = [blank.encode() for blank in BLANKS if not blank.isascii()]
_WORD_BEGINS, _WORD_ENDS = _table(WORD_BEGINS.encode()), _table(WORD_ENDS.encode())
_LEADS, _BEFORE_LAST = _table(blank[0] for blank in _WIDE_BLANKS), _table(blank[-2] for blank in _WIDE_BLANKS)


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


def coded(texts: pa.ChunkedArray) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Texts of which few are distinct, without an object for each row; best read as dictionaries.

    Args:
        texts: Of text, or of dictionaries of texts.

    Returns:
        Shape (n,), the place of each in the distinct ones; and these. NULL is the empty text.
    """
    places: dict[str, int] = {}
    found = [np.empty(0, np.int64)]
    for chunk in texts.chunks:
        if pa.types.is_dictionary(chunk.type):
            texts_of = chunk.dictionary.to_pylist() + ([""] if chunk.indices.null_count else [])
            known = [places.setdefault(text, len(places)) for text in texts_of]
            found.append(np.array(known, np.int64)[integers(chunk.indices, -1)])
        else:
            found.append(np.array([places.setdefault(text or "", len(places)) for text in chunk.to_pylist()], np.int64))
    return np.concatenate(found), tuple(places)


def at_us(us: int) -> datetime | None:
    """The aware UTC time so many microseconds after 1970; None for `NEVER`."""
    return None if us == NEVER else _EPOCH + timedelta(microseconds=us)


def integers(column: pa.Array | pa.ChunkedArray, null: int) -> NDArray[np.int64]:
    """Whole numbers, or times as microseconds since 1970 UTC, without an object for each row.

    `pyarrow.compute`, which Arrow's own ways need, takes longer to import than this.

    Args:
        column: Of integers, or of times.
        null: Stands for NULL.
    """
    if pa.types.is_timestamp(column.type):
        column = _cast(column, pa.timestamp("us", column.type.tz))
    found = [np.empty(0, np.int64)]
    for chunk in column.chunks if isinstance(column, pa.ChunkedArray) else (column,):
        bitmap, values = chunk.buffers()
        kind = pa.int64() if pa.types.is_timestamp(chunk.type) else chunk.type
        part = slice(chunk.offset, chunk.offset + len(chunk))
        numbers_of = np.frombuffer(values or b"", kind.to_pandas_dtype())[part].astype(np.int64)
        if bitmap is not None:
            numbers_of[~np.unpackbits(np.frombuffer(bitmap, np.uint8), bitorder="little")[part].view(bool)] = null
        found.append(numbers_of)
    return np.concatenate(found)


def is_plain(texts: pa.StringArray) -> bool:
    """Whether all texts consist of ASCII letters, digits, `_` and `-`, and none is a word or zeros for no number.

    True only where that is certain; vectorised over their bytes.
    """
    ends, found = _bytes_of(texts)
    if not len(found):
        return True
    low, high = found.min(), found.max()
    if low < ord("-") or high > ord("z"):
        return False
    if (low < ord("0") or high > ord("9")) and found.tobytes().translate(None, _LETTERS_AND_DIGITS):
        return False
    lengths = ends[1:] - ends[:-1]
    short = np.flatnonzero(lengths <= MAX_WORD_CHARS)
    short = short[lengths[short] > 0]
    return not (_WORD_BEGINS[found[ends[short]]] & _WORD_ENDS[found[ends[short + 1] - 1]]).any()


def has_plain_ends(texts: pa.StringArray) -> bool:
    """Whether no text begins or ends with a blank; vectorised, and true only of what certainly has none."""
    ends, found = _bytes_of(texts)
    if not len(found):
        return True
    # Of an empty text these are bytes of its neighbours, which are looked at anyway.
    first, last = found.take(ends[:-1], mode="clip"), found.take(ends[1:] - 1, mode="clip")
    if first.min() <= _BLANK or last.min() <= _BLANK:
        return False
    if first.max() <= _LAST_ASCII and last.max() <= _LAST_ASCII:
        return True
    before = found.take(ends[1:] - 2, mode="clip")
    return not (_LEADS[first].any() or _BEFORE_LAST[before[last > _LAST_ASCII]].any())


def lengths_bytes(texts: pa.StringArray) -> NDArray[np.int32]:
    """The length of each text in bytes, shape (n,); 0 of NULL."""
    ends, _ = _bytes_of(texts)
    return ends[1:] - ends[:-1]


def _bytes_of(texts: pa.StringArray) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """Where the texts begin and end in their bytes, shape (n + 1,), and the bytes."""
    _, offsets, data = texts.buffers()
    if data is None or not len(texts):
        return np.zeros(len(texts) + 1, np.int32), np.empty(0, np.uint8)
    ends = np.frombuffer(offsets, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    found = np.frombuffer(data, np.uint8)[ends[0] : ends[-1]]
    return (ends - ends[0] if ends[0] else ends), found


def numbers(values: NDArray[Any]) -> pa.Array:
    """A numpy array as an Arrow array without nulls; both share the same memory.

    `pa.array` does this too, but asks first whether the values are masked; for that it imports `numpy.ma`, 10 ms that
    a small pass would notice.

    Args:
        values: Shape (n,), of integers or floats.
    """
    values = np.ascontiguousarray(values)
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [None, pa.py_buffer(values)])
