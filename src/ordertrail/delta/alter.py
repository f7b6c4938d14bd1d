"""Change a table's schema and properties in one commit that touches no row."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from ordertrail.delta.actions import Json, Metadata, delta_type
from ordertrail.delta.said import commit_info
from ordertrail.delta.snapshot import Snapshot
from ordertrail.delta.table import Table, said_after
from ordertrail.rules.change_feed import FEED
from ordertrail.rules.tables import TableColumn


def alter(
    table: Table,
    base: Snapshot,
    columns: Sequence[TableColumn] = (),
    properties: Mapping[str, str] | None = None,
) -> int:
    """Add columns and set properties in one commit; keep what others wrote into schema and properties.

    Old rows have NULL in the new columns: no data file is written, and readers return NULL for a column that a file
    lacks.

    Args:
        table: Which one.
        base: Its newest snapshot.
        columns: Nullable columns that the table lacks, in the order in which they follow the others.
        properties: Properties to set; others stay.

    Returns:
        The new version.

    Raises:
        CommitConflictError: Somebody else took the version; nothing was written.
        CommitUnknownError: As in `DeltaLog.commit`.
        UnsupportedTableError: The table has a feature we do not write to.
    """
    base.require_writable()
    now_ms = time.time_ns() // 1_000_000
    operation, parameters = "ADD COLUMNS", {"columns": json.dumps([column.name for column in columns])}
    if not columns:
        operation, parameters = "SET TBLPROPERTIES", {"properties": json.dumps(dict(properties or {}))}
    said = said_after(base.said, base, (), ())
    info = commit_info(now_ms, operation, {**parameters}, base.version, blind=True, said=said)
    metadata = _with_columns(base.metadata, columns)
    metadata = replace(metadata, properties={**metadata.properties, **(properties or {})})
    table.log.commit(base.version + 1, [{"commitInfo": info}, metadata.action()])
    return base.version + 1


def switch_feed(table: Table, base: Snapshot, *, on: bool) -> int:
    """Switch a table's change data feed on or off, in one commit that touches no row.

    Changes before it is switched on, and while it is off, cannot be asked for.

    Args:
        table: Which one.
        base: Its newest snapshot.
        on: Whether readers may ask for the changes of all later versions.

    Returns:
        The new version.

    Raises:
        CommitConflictError: Somebody else took the version; nothing was written.
        CommitUnknownError: As in `DeltaLog.commit`.
        UnsupportedTableError: The table has a feature we do not write to.
    """
    base.require_writable()
    now_ms = time.time_ns() // 1_000_000
    properties = {FEED: "true" if on else "false"}
    said = said_after(base.said, base, (), ())
    words: dict[str, Json] = {"properties": json.dumps(properties)}
    info = commit_info(now_ms, "SET TBLPROPERTIES", words, base.version, blind=True, said=said)
    protocol = base.protocol.with_change_feed() if on else base.protocol
    metadata = replace(base.metadata, properties={**base.metadata.properties, **properties})
    raised = [] if protocol == base.protocol else [protocol.action()]
    table.log.commit(base.version + 1, [{"commitInfo": info}, *raised, metadata.action()])
    return base.version + 1


def _with_columns(metadata: Metadata, columns: Sequence[TableColumn]) -> Metadata:
    schema = json.loads(metadata.schema_string)
    schema["fields"] += [
        {"name": column.name, "type": delta_type(column.type), "nullable": True, "metadata": {}} for column in columns
    ]
    return replace(metadata, schema_string=json.dumps(schema))
