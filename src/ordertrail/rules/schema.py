"""What a table has and what it should have: which columns it lacks, and which of them may simply be added."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ordertrail.rules.tables import TableColumn

ALWAYS = frozenset(
    {
        *("_vendor", "_delivery_id", "_file_name", "_file_row", "_batch", "_inserted_at", "_updated_at", "_revision"),
        *("_row_hash", "_rescued", "_outcome", "_loaded_at", "_kind", "_raw", "_errors", "_manifest", "_delivery_no"),
    }
)
"""Names of our own columns that every release made: a table without one of them was replaced by somebody."""


def lacking(columns: Iterable[TableColumn], present: Iterable[str]) -> tuple[TableColumn, ...]:
    """Those of our columns that a table does not have.

    Args:
        columns: What the table should have.
        present: Names of the columns that it has.
    """
    there = frozenset(present)
    return tuple(column for column in columns if column.name not in there)


def may_be_added(column: TableColumn, present: Sequence[str]) -> bool:
    """Whether a column that a table lacks can be added to it: the rows that are there have NULL in it.

    Args:
        column: The table lacks it.
        present: Names of the columns that the table has; Delta tells them apart without regard to case.
    """
    known = {name.lower() for name in present}
    return not column.required and column.name not in ALWAYS and column.name.lower() not in known
