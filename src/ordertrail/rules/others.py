"""Columns that somebody else added to the target: which ones they are, and DuckDB's names of their types.

Every writer of ours copies their values from the old row to the row that replaces it; new rows have NULL there.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from ordertrail.rules.column_types import plain_type
from ordertrail.rules.sql import name_sql
from ordertrail.rules.tables import TableColumn


def others_of(schema: str, ours: Iterable[TableColumn]) -> tuple[TableColumn, ...]:
    """The columns of a table that are not ours, in its order.

    Args:
        schema: The table's schema as JSON text.
        ours: Our columns of the table.

    Returns:
        The columns with Delta's names of their types; a nested type is its JSON text.
    """
    known = {column.name for column in ours}
    fields = [one for one in json.loads(schema)["fields"] if one["name"] not in known]
    return tuple(TableColumn(str(one["name"]), type_text(one["type"]), "somebody else's") for one in fields)


def type_text(kind: Any) -> str:  # noqa: ANN401 - JSON
    """The type of a schema's field as one text."""
    return kind.replace(" ", "") if isinstance(kind, str) else json.dumps(kind, sort_keys=True)


def carried_type(type_name: str) -> str | None:
    """DuckDB's name of a Delta type; None when DuckDB has no type that writes back what it read.

    Args:
        type_name: As `type_text` returns it.
    """
    return _carried(json.loads(type_name) if type_name.startswith("{") else type_name)


def _carried(kind: Any) -> str | None:  # noqa: ANN401 - JSON
    match kind:
        case str() if kind.startswith("decimal("):
            return kind.upper()
        case str():
            plain = plain_type(kind)
            return None if plain is None else plain.duckdb
        case {"type": "array", "elementType": element}:
            inner = _carried(element)
            return None if inner is None else f"{inner}[]"
        case {"type": "map", "keyType": key, "valueType": value}:
            pair = _carried(key), _carried(value)
            return None if None in pair else f"MAP({pair[0]}, {pair[1]})"
        case {"type": "struct", "fields": [_, *_] as fields}:
            parts = [(name_sql(str(field["name"])), _carried(field["type"])) for field in fields]
            listed = ", ".join(f"{name} {inner}" for name, inner in parts)
            return None if any(inner is None for _, inner in parts) else f"STRUCT({listed})"
        case _:
            return None
