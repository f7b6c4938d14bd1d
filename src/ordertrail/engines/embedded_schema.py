"""Bring the schema of tables in folders up to what this release and the contract want, before a pass writes rows."""

from __future__ import annotations

from collections.abc import Sequence

from ordertrail.delta.alter import alter
from ordertrail.delta.table import Table
from ordertrail.errors import CommitConflictError
from ordertrail.model import Probe
from ordertrail.rules.schema import lacking

ATTEMPTS = 5
"""How often the columns are added when another writer takes the table's next version."""


def bring_up_to_date(tables: Sequence[Table], probe: Probe) -> None:
    """Add the columns that tables lack, one commit a table; rows that are there have NULL in them. Idempotent.

    All tables are looked at before the first one is written to.

    Args:
        tables: Those that are not there yet are left out: they are made with all columns.
        probe: Called after each commit.

    Raises:
        TableError: A table lacks a column that cannot be added; nothing was written.
        UnsupportedTableError: A table that lacks a column has a feature that we do not write to; nothing was written.
    """
    behind: list[Table] = []
    for table in tables:
        if table.log.exists():
            snapshot = table.snapshot()
            if lacking(table.columns, snapshot.metadata.columns):
                snapshot.require_writable()
                behind.append(table)
    for table in behind:
        add_columns(table)
        probe("columns.added")


def add_columns(table: Table) -> None:
    """Add the columns that a table lacks, in one commit; nothing is written when it has them all.

    Raises:
        TableError: As `bring_up_to_date`.
        CommitConflictError: Another writer was faster again and again; nothing was written.
    """
    for attempt in range(ATTEMPTS):
        base = table.snapshot()
        missing = lacking(table.columns, base.metadata.columns)
        if not missing:
            return
        try:
            alter(table, base, missing)
        except CommitConflictError:
            if attempt + 1 < ATTEMPTS:
                continue
            raise
        return
