"""Rows read from the tables: named columns, cells as plain Python values, and their JSON form."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeAlias

from msgspec import Struct

if TYPE_CHECKING:
    import pyarrow as pa

Cell: TypeAlias = "str | int | float | bool | Decimal | date | datetime | list[Cell] | dict[str, Cell] | None"
"""A value of a table: times are aware UTC."""

JsonCell: TypeAlias = "str | int | float | bool | list[JsonCell] | dict[str, JsonCell] | None"
"""A value as it stands in JSON."""

Json: TypeAlias = "str | int | float | bool | Sequence[Json] | Mapping[str, Json] | None"
"""A JSON document, or a part of one."""

Row: TypeAlias = dict[str, Cell]
"""Cells by column name, in the order of the columns."""

_HUGEINT_DIGITS = 38
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


class Rows(Struct, frozen=True):
    """Rows with named columns.

    Attributes:
        columns: Unique names.
        rows: One tuple a row, one cell a column.
        cut: Whether there are more rows than the limit.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    cut: bool = False

    def __len__(self) -> int:
        return len(self.rows)

    def dicts(self) -> list[Row]:
        """Each row as a dict by column name."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


def cell(value: Cell, null: str = "") -> str:
    """A value of a table as text; times are UTC."""
    match value:
        case None:
            return null
        case datetime():
            moment = value.astimezone(UTC)
            return f"{moment:%Y-%m-%d %H:%M:%S}" + (f".{moment.microsecond:06d}" if moment.microsecond else "")
        case bool():
            return "true" if value else "false"
        case list() | dict():
            return json.dumps(value, ensure_ascii=False, default=str)
        case _:
            return str(value)


def json_value(cell: Cell) -> JsonCell:
    """A cell as JSON: times in ISO 8601 (`...Z`); decimals, NaN and infinity as text."""
    match cell:
        case datetime():
            return cell.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case date():
            return cell.isoformat()
        case Decimal():
            return str(cell)
        case float() if not math.isfinite(cell):
            return str(cell)
        case list():
            return [json_value(item) for item in cell]
        case dict():
            return {name: json_value(item) for name, item in cell.items()}
        case _:
            return cell


def rows_of(table: pa.Table) -> Rows:
    """The rows of an Arrow table; of columns with the same name the later ones get a number."""
    columns = [_cells(column) for column in table.columns]
    return Rows(_unique(table.column_names), tuple(zip(*columns, strict=True)) if columns else ())


def _unique(names: list[str]) -> tuple[str, ...]:
    found: list[str] = []
    for name in names:
        number, free = 0, name
        while free in found:
            number += 1
            free = f"{name}_{number}"
        found.append(free)
    return tuple(found)


def _cells(column: pa.ChunkedArray) -> list[Cell]:
    import pyarrow as pa

    kind = column.type
    if pa.types.is_timestamp(kind):
        return _times(column)
    try:
        values: list[Any] = column.to_pylist()
    except (OverflowError, ValueError):
        values = column.cast(pa.string()).to_pylist()  # years that Python's dates do not have, infinity
    convert = _converter(kind)
    return values if convert is None else [None if value is None else convert(value) for value in values]


def _times(column: pa.ChunkedArray) -> list[Cell]:
    """Times as aware UTC; as text where Python has no such year.

    Made from their numbers: Arrow's own conversion imports pandas where that is installed, which takes half a second
    and 35 MB.
    """
    import pyarrow as pa

    per_second = _PER_SECOND[column.type.unit]
    try:
        return [
            None if one is None else _EPOCH + timedelta(microseconds=one * 1_000_000 // per_second)
            for chunk in column.chunks
            for one in chunk.view(pa.int64()).to_pylist()
        ]
    except OverflowError:
        texts: list[Cell] = column.cast(pa.string()).to_pylist()
        return texts


def _converter(kind: pa.DataType) -> Callable[[Any], Cell] | None:
    """The function that turns a value of this type into a cell; None when it already is one."""
    import pyarrow as pa

    types = pa.types
    if types.is_decimal(kind) and (kind.precision, kind.scale) == (_HUGEINT_DIGITS, 0):
        return int
    if types.is_string(kind) or types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind):
        return None
    return _interval if types.is_interval(kind) else _cell


def _interval(value: Any) -> str:  # noqa: ANN401 - Arrow's named tuple has no type of its own
    return f"{value.months} months {value.days} days {value.nanoseconds / 1e9:g} seconds"


def _cell(value: Any) -> Cell:  # noqa: ANN401 - whatever Arrow makes of a DuckDB value
    match value:
        case None | bool() | int() | float() | str() | Decimal():
            return value
        case datetime():
            return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        case date():
            return value
        case bytes():
            return value.hex()
        case dict():
            return {str(name): _cell(item) for name, item in value.items()}
        case list() | tuple():
            return [_cell(item) for item in value]
        case _:
            return str(value)
