"""What the logs say of the tables: size, files, debt, and what was done to them last. No data file is opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice

from msgspec import Struct

from ordertrail.config import Config
from ordertrail.delta.debt import commits_behind, debt_of, reasons
from ordertrail.delta.log import DeltaLog
from ordertrail.delta.snapshot import Snapshot
from ordertrail.rules.tables import TableColumn, columns_by_role

LAST_COMMITS = 5
"""How many of the last commits of a table are told."""

LOOK_BACK = 200
"""So many commits are searched for the last maintenance."""

_MAINTENANCE = "OPTIMIZE"

WHAT_FOR: Mapping[str, str] = {
    "target": "every shipment's latest state",
    "history": "all accepted rows",
    "rejects": "rejected cells and rows",
    "deliveries": "the files that came",
    "stage": "the batch that was staged last",
}
"""What a table holds, by its role, in the order in which people look for them."""


class Commit(Struct, frozen=True):
    """A commit of a table.

    Attributes:
        version: Of the log.
        at: When it was written; aware UTC.
        operation: What it says that it did, such as `MERGE`.
    """

    version: int
    at: datetime
    operation: str


class TableFacts(Struct, frozen=True):
    """A table as its log describes it.

    Attributes:
        role: `target`, `history`, `rejects`, `deliveries` or `stage`.
        name: As configured.
        rows: Live rows; None when the log does not say.
        files: Live data files.
        small_files: Of these, small ones.
        size_bytes: Of the live data files.
        deleted_rows: Rows in them that deletion vectors mark.
        version: Of the log.
        log_entries: Commits in the log.
        due: Why maintenance is due, one line each; of the stage never.
        commits: The last `LAST_COMMITS`, newest first.
        maintained_at: When its files were last compacted, as far as the last `LOOK_BACK` commits tell.
        columns: Its columns, in order.
        others: Names of further columns, which somebody else added.
    """

    role: str
    name: str
    rows: int | None
    files: int
    small_files: int
    size_bytes: int
    deleted_rows: int
    version: int
    log_entries: int
    due: tuple[str, ...]
    commits: tuple[Commit, ...]
    maintained_at: datetime | None
    columns: tuple[TableColumn, ...]
    others: tuple[str, ...]


def table_facts(config: Config, snapshots: Mapping[str, Snapshot]) -> tuple[TableFacts, ...]:
    """Describe the tables, in the order of `WHAT_FOR`.

    Args:
        config: Of the pipeline, with the contract that the tables carry.
        snapshots: Of the five tables, by role.
    """
    columns = columns_by_role(config.contract)
    return tuple(_facts(config, role, snapshots[role], columns[role]) for role in WHAT_FOR)


def _facts(config: Config, role: str, snapshot: Snapshot, columns: Sequence[TableColumn]) -> TableFacts:
    log, debt = DeltaLog(snapshot.root), debt_of(snapshot, config.maintenance)
    due = () if role == "stage" else tuple(reasons(snapshot, config.maintenance, commits_behind(log)))
    ours = {column.name.lower() for column in columns}
    commits = list(_commits(log))
    optimized = (one.at for one in commits if one.operation == _MAINTENANCE)
    return TableFacts(
        role=role,
        name=getattr(config.tables, role),
        rows=snapshot.live_rows,
        files=debt.files,
        small_files=debt.small_files,
        size_bytes=sum(file.size_bytes for file in snapshot.files.values()),
        deleted_rows=debt.deleted_rows,
        version=snapshot.version,
        log_entries=len(log.entries()[0]),
        due=due,
        commits=tuple(commits[:LAST_COMMITS]),
        maintained_at=next(optimized, None),
        columns=tuple(columns),
        others=tuple(name for name in snapshot.metadata.columns if name.lower() not in ours),
    )


def _commits(log: DeltaLog) -> list[Commit]:
    """The last commits, newest first; those that are cleaned up meanwhile are left out."""
    found: list[Commit] = []
    with suppress(FileNotFoundError):
        for version, actions in islice(log.backwards(), LOOK_BACK):
            info = next((body for one in actions if isinstance(body := one.get("commitInfo"), dict)), {})
            at = datetime.fromtimestamp(log.written_s(version), UTC)
            found.append(Commit(version, at, str(info.get("operation", ""))))
    return found
