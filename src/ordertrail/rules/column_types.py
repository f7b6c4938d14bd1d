"""The types of columns in every dialect: one row a type, one member a dialect. Nobody else translates a type.

A contract has seven plain types and `decimal(p,s)`. Columns of others may also have Delta's other plain types, and
nested ones, which are written as Delta's JSON.

Source of Delta's names: https://github.com/delta-io/delta/blob/master/PROTOCOL.md, section "Primitive Types".
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct


class ColumnType(Struct, frozen=True):
    """A plain type.

    Attributes:
        name: In the words of a contract where it has one, else Delta's.
        delta: In a table's schema.
        duckdb: In DuckDB's SQL.
        arrow: The function of `pyarrow` that makes it, and its arguments.
        spark: The class in `pyspark.sql.types`.
        bits: Of a number, its width; 0 of everything else.
        in_contract: A column of a contract may have it.
    """

    name: str
    delta: str
    duckdb: str
    arrow: tuple[str, ...]
    spark: str
    bits: int = 0
    in_contract: bool = False


COLUMN_TYPES = (
    ColumnType("string", "string", "VARCHAR", ("string",), "StringType", in_contract=True),
    ColumnType("bigint", "long", "BIGINT", ("int64",), "LongType", 64, in_contract=True),
    ColumnType("int", "integer", "INTEGER", ("int32",), "IntegerType", 32, in_contract=True),
    ColumnType("double", "double", "DOUBLE", ("float64",), "DoubleType", 64, in_contract=True),
    ColumnType("boolean", "boolean", "BOOLEAN", ("bool_",), "BooleanType", in_contract=True),
    ColumnType("date", "date", "DATE", ("date32",), "DateType", in_contract=True),
    ColumnType("timestamp", "timestamp", "TIMESTAMPTZ", ("timestamp", "us", "UTC"), "TimestampType", in_contract=True),
    ColumnType("short", "short", "SMALLINT", ("int16",), "ShortType", 16),
    ColumnType("byte", "byte", "TINYINT", ("int8",), "ByteType", 8),
    ColumnType("float", "float", "FLOAT", ("float32",), "FloatType", 32),
    ColumnType("binary", "binary", "BLOB", ("binary",), "BinaryType"),
    ColumnType("timestamp_ntz", "timestamp_ntz", "TIMESTAMP", ("timestamp", "us"), "TimestampNTZType"),
)
"""All plain types, those of a contract first."""

PLAIN_TYPES = tuple(kind.name for kind in COLUMN_TYPES if kind.in_contract)
"""The names that a contract knows beside `decimal(p,s)`."""

_BY_NAME: Mapping[str, ColumnType] = MappingProxyType(
    {kind.delta: kind for kind in COLUMN_TYPES} | {kind.name: kind for kind in COLUMN_TYPES}
)


def plain_type(name: str) -> ColumnType | None:
    """The plain type of a name; None for decimals, nested types and names that nobody knows.

    Args:
        name: Of a contract, or Delta's.
    """
    return _BY_NAME.get(name)


def bits_of(name: str) -> int:
    """The width of a number of a contract or Delta type, in bits; 0 of every other type."""
    kind = plain_type(name)
    return 0 if kind is None else kind.bits


def decimal_of(name: str) -> tuple[int, int] | None:
    """Precision and scale of a contract or Delta type; None when it is no decimal."""
    if not name.startswith("decimal("):
        return None
    precision, scale = name.removeprefix("decimal(").removesuffix(")").split(",")
    return int(precision), int(scale)


def contract_type(name: str) -> str:
    """A type of Delta in the words of a contract; one that a contract has no word for stays what it is."""
    kind = plain_type(name)
    return name if kind is None else kind.name
