"""Quote texts and names for SQL."""

from __future__ import annotations

DELETED = "memory.ordertrail_deleted"
"""A schema of DuckDB with tables of the positions that deletion vectors mark; `SHOW TABLES` does not list them."""


def quoted(text: str) -> str:
    """An SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def name_sql(name: str) -> str:
    """A quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'
