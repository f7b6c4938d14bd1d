"""What a commit of the target says in its change data feed.

Where rows are only marked and added, a commit says enough by itself: readers find a delete and an insert for an updated
row (`pairs`). Files with changes are written where that would say too much, because files are written again with rows
that did not change, or cannot be read, and for `images`, where readers find both images of an updated row. A version is
wholly explicit or wholly inferable, so a commit that names one such file names all its changes. With `images` every
commit that marks rows is explicit: delta-rs 1.6 cannot work changes out of vectors on files of several row groups.
"""

from __future__ import annotations

from collections.abc import Sequence

from ordertrail.config import Config
from ordertrail.config.values import ChangeFeed
from ordertrail.delta.actions import AddFile
from ordertrail.delta.snapshot import Snapshot
from ordertrail.engines.local.net import key_sql, rows_at_sql
from ordertrail.engines.local.relations import WeighedBatch
from ordertrail.engines.local.session import Session
from ordertrail.model import Outcome
from ordertrail.parse.kernel import PARQUET
from ordertrail.rules.change_feed import CHANGE_TYPE, DELETE, INSERT, POSTIMAGE, PREIMAGE, feed_note
from ordertrail.rules.outcomes import CODES
from ordertrail.rules.sql import name_sql, quoted
from ordertrail.rules.tables import TableColumn, target_columns


def feed_of(config: Config, target: Snapshot) -> ChangeFeed:
    """How the feed of the target is written: the table says whether it has one, and the config how it is written.

    Args:
        config: Of the pipeline.
        target: As it is before the commit.
    """
    if not target.feeds_changes:
        return "off"
    return "images" if config.change_feed == "images" else "pairs"


def feed_notes(config: Config, target: Snapshot) -> tuple[str, ...]:
    """A line that says how config and target differ, if they do."""
    note = feed_note(config.change_feed, target.root.name, on=target.feeds_changes)
    return () if note is None else (note,)


def write_changes(session: Session, sql: str, batch: int) -> AddFile | None:
    """Write a file with changes; nothing is committed.

    Args:
        session: The pass.
        sql: SQL of the changes: the target's columns and `CHANGE_TYPE`.
        batch: The last batch that they belong to, for the file's name.

    Returns:
        The file; None when there are no changes.

    Raises:
        StorageError: The disk is full or fails; no file is left.
    """
    table = session.tables.target
    path = table.new_change_path(f"b{batch:06d}")
    try:
        if session.copy(sql, path, PARQUET):
            return table.added_changes(path)
        path.unlink()
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return None


def old_images_sql(
    session: Session, weighed: WeighedBatch, before: Snapshot, others: Sequence[TableColumn], gone: str
) -> str:
    """SQL of the changes that are rows of the target before a batch: images of updated rows, and deleted rows.

    Args:
        session: The pass.
        weighed: The batch.
        before: The target that it was weighed against.
        others: Columns of others on the target.
        gone: A relation with the positions, `pos`, of the rows that go.
    """
    columns = (*target_columns(session.config.contract), *others)
    names = ", ".join(name_sql(column.name) for column in columns)
    updated = f"SELECT pos FROM {weighed.outcomes} WHERE outcome = {CODES[Outcome.UPDATED]} AND pos IS NOT NULL"
    return (
        f"SELECT {names}, CASE WHEN _at IN ({updated}) THEN {quoted(PREIMAGE)} ELSE {quoted(DELETE)} END "
        f"AS {CHANGE_TYPE} FROM ({rows_at_sql(session, before, gone, columns)})"
    )


def images_sql(
    session: Session, before: str, after: str, others: Sequence[TableColumn], *, was_there: str = "false"
) -> str:
    """SQL of the changes from some rows of the target to others, matched by key.

    Args:
        session: The pass.
        before: SQL of the rows that go, with the target's columns.
        after: SQL of the rows that come, at most one a key.
        others: Columns of others in both.
        was_there: SQL that says of a row that comes whether its key had a row that nobody can read any more.
    """
    contract = session.config.contract
    columns = (*target_columns(contract), *others)
    names = ", ".join(name_sql(column.name) for column in columns)
    key = key_sql(contract)
    session.run(f"CREATE OR REPLACE TEMP TABLE keys_before AS SELECT DISTINCT {key} AS k FROM ({before})")
    session.run(f"CREATE OR REPLACE TEMP TABLE keys_after AS SELECT {key} AS k FROM ({after})")
    first = f"row_number() OVER (PARTITION BY {key}) = 1"
    return (
        f"SELECT {names}, CASE WHEN {key} IN (SELECT k FROM keys_after) AND {first} THEN {quoted(PREIMAGE)} "
        f"ELSE {quoted(DELETE)} END AS {CHANGE_TYPE} FROM ({before}) UNION ALL "
        f"SELECT {names}, CASE WHEN {key} IN (SELECT k FROM keys_before) OR {was_there} THEN {quoted(POSTIMAGE)} "
        f"ELSE {quoted(INSERT)} END AS {CHANGE_TYPE} FROM ({after})"
    )
