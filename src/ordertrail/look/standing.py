"""The state of a pipeline: what `status` says, and where it comes from.

Reads the logs, the deliveries and the names in the source folder. DuckDB and Arrow are imported only when a table needs
them: `ordertrail status` must answer at once.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ordertrail.config import Config
from ordertrail.delta.debt import commits_behind, debt_of, reasons
from ordertrail.delta.log import DeltaLog
from ordertrail.delta.snapshot import Snapshot
from ordertrail.engines.local.whole import log_warnings, progress_of
from ordertrail.errors import OrdertrailError, StorageError, TableError
from ordertrail.model import SET_ASIDE, State
from ordertrail.rules.filekey import clean_name, take
from ordertrail.rules.losses import ROLES
from ordertrail.rules.sql import name_sql
from ordertrail.rules.tables import APP_ID, DELIVERIES
from ordertrail.sources.directory import source_of
from ordertrail.sources.names import claiming
from ordertrail.sources.settling import NOT_SETTLED, STILL_OPEN

if TYPE_CHECKING:
    import pyarrow as pa

RECENT = 5
"""How many quarantined or held deliveries `Status` names."""

NEXT_PASS = "waits for the next pass"
"""`Waiting.reason` of a complete file that a vendor takes."""

_SUMMARY = ("delivery_id", "vendor", "file_name", "batch", "state", "reason", "archived_to", "loaded_at")


@dataclass(frozen=True, slots=True)
class Waiting:
    """A file in the source folder.

    Attributes:
        file_name: Its path below the source, as clean text.
        vendor: The vendor that takes it; None when there is none.
        reason: `waits for the next pass`, or why a pass would leave it alone now.
        since: When a pass first saw that it waits; aware UTC, None when no pass has.
    """

    file_name: str
    vendor: str | None
    reason: str
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A quarantined or held delivery, as `orders_deliveries` has it."""

    delivery_id: str
    vendor: str
    file_name: str
    batch: int
    reason: str | None
    archived_to: str | None


@dataclass(frozen=True, slots=True)
class TableDebt:
    """The debt of the tables, which `ordertrail maintain` reduces.

    Attributes:
        due: Whether the debt is above the limits of `[maintenance]`.
        reasons: Where it is above them, one line each.
        target_files: Data files of the target.
        target_small_files: Of these, small ones.
        target_deleted_rows: Rows in them that deletion vectors mark.
        target_deleted_share: Share of these among all rows in them, 0 to 1.
        history_files: Data files of the history.
        log_entries: Commits in the logs of the five tables.
    """

    due: bool
    reasons: tuple[str, ...]
    target_files: int
    target_small_files: int
    target_deleted_rows: int
    target_deleted_share: float
    history_files: int
    log_entries: int


@dataclass(frozen=True, slots=True)
class Status:
    """The state of a pipeline.

    Attributes:
        pipeline: The pipeline's name.
        engine: `embedded` or `spark`.
        last_batch: The last batch with the done mark; None before the first.
        last_loaded_at: Clock of the last batch that loaded a delivery; aware UTC.
        staged_batch_unfinished: A batch is staged and lacks the done mark: a pass runs, or one was cut short.
        target_version: Version of the target's log; None when there are no tables yet: no pass has run.
        target_rows: Live rows of the target.
        target_files: Its data files.
        target_bytes: Their size.
        history_rows: Live rows of the history.
        rejects_rows: Live rows of the rejects.
        deliveries: How many deliveries there are, by state; states without any are left out.
        quarantined_recent: The last `RECENT` quarantined or held deliveries, newest first.
        waiting_files: Files in the source that a vendor takes: a pass takes them now, or once they are complete.
        waiting: All files in the source but hidden ones, and claims that no batch owns.
        debt: The debt that maintenance would reduce.
        warnings: What could not be read, one line each.
    """

    pipeline: str
    engine: str
    last_batch: int | None
    last_loaded_at: datetime | None
    staged_batch_unfinished: bool
    target_version: int | None
    target_rows: int
    target_files: int
    target_bytes: int
    history_rows: int
    rejects_rows: int
    deliveries: dict[str, int]
    quarantined_recent: tuple[Quarantined, ...]
    waiting_files: int
    waiting: tuple[Waiting, ...]
    debt: TableDebt
    warnings: tuple[str, ...] = ()


def standing(config: Config, snapshots: Mapping[str, Snapshot], read: Callable[[str], pa.Table]) -> Status:
    """Where a pipeline stands.

    Args:
        config: Of the pipeline.
        snapshots: Of its five tables, by name.
        read: Runs SQL over them; asked only where the deliveries cannot be read without.
    """
    names = config.tables
    target, deliveries = snapshots[names.target], snapshots[names.deliveries]
    app_id = deliveries.metadata.properties.get(APP_ID, "")
    tables = {role: snapshots[getattr(names, role)] for role in ROLES}
    stands = progress_of(tables, app_id)
    counts, last_loaded_at, quarantined = _summary(_deliveries(deliveries, names.deliveries, read))
    waiting, warnings = waiting_in(config)
    return Status(
        pipeline=config.name,
        engine=config.engine,
        last_batch=stands.done or None,
        last_loaded_at=last_loaded_at,
        staged_batch_unfinished=stands.unfinished,
        target_version=target.version,
        target_rows=live_rows(target),
        target_files=len(target.files),
        target_bytes=sum(file.size_bytes for file in target.files.values()),
        history_rows=live_rows(snapshots[names.history]),
        rejects_rows=live_rows(snapshots[names.rejects]),
        deliveries=counts,
        quarantined_recent=quarantined,
        waiting_files=_takeable(waiting),
        waiting=waiting,
        debt=_debt(config, snapshots),
        warnings=(*warnings, *log_warnings(tables, app_id)),
    )


def not_begun(config: Config) -> Status:
    """The state of a pipeline without tables: nothing is loaded, and these files wait."""
    waiting, warnings = waiting_in(config)
    return Status(
        pipeline=config.name,
        engine=config.engine,
        last_batch=None,
        last_loaded_at=None,
        staged_batch_unfinished=False,
        target_version=None,
        target_rows=0,
        target_files=0,
        target_bytes=0,
        history_rows=0,
        rejects_rows=0,
        deliveries={},
        quarantined_recent=(),
        waiting_files=_takeable(waiting),
        waiting=waiting,
        debt=TableDebt(False, (), 0, 0, 0, 0.0, 0, 0),
        warnings=warnings,
    )


def _takeable(waiting: Iterable[Waiting]) -> int:
    return sum(1 for file in waiting if file.reason in (NEXT_PASS, NOT_SETTLED, STILL_OPEN))


def waiting_in(config: Config) -> tuple[tuple[Waiting, ...], tuple[str, ...]]:
    """The files in the source folder by name, and what could not be read, one line each."""
    now = datetime.now(UTC)
    try:
        discovery = source_of(config).discover(now)
    except OrdertrailError as error:
        return (), (str(error),)
    found = [Waiting(clean_name(file.path), file.vendor, NEXT_PASS) for file in discovery.files]
    for skipped in discovery.skipped:
        since = None if skipped.since == now else skipped.since
        if since is None and claiming(skipped.file_name.rpartition("/")[2]) is not None:
            continue  # no pass has told of it: one is at work
        vendor = take(skipped.file_name, config.vendors)
        found.append(Waiting(skipped.file_name, None if vendor is None else vendor.name, skipped.reason, since))
    return tuple(sorted(found, key=lambda file: file.file_name)), ()


def _debt(config: Config, snapshots: Mapping[str, Snapshot]) -> TableDebt:
    names, limits = config.tables, config.maintenance
    target = debt_of(snapshots[names.target], limits)
    logs = {name: DeltaLog(snapshot.root) for name, snapshot in snapshots.items()}
    due = [
        reason
        for name, snapshot in snapshots.items()
        if name != names.stage
        for reason in reasons(snapshot, limits, commits_behind(logs[name]))
    ]
    return TableDebt(
        due=bool(due),
        reasons=tuple(due),
        target_files=target.files,
        target_small_files=target.small_files,
        target_deleted_rows=target.deleted_rows,
        target_deleted_share=round(target.deleted_share, 4),
        history_files=len(snapshots[names.history].files),
        log_entries=sum(len(log.entries()[0]) for log in logs.values()),
    )


def _summary(table: pa.Table) -> tuple[dict[str, int], datetime | None, tuple[Quarantined, ...]]:
    # Plain Python: importing Arrow's compute functions takes longer than counting some thousand deliveries.
    states: list[str] = table["state"].to_pylist()
    batches: list[int] = table["batch"].to_pylist()
    found = Counter(states)
    loaded = [i for i, state in enumerate(states) if state == State.LOADED]
    quarantined = [i for i, state in enumerate(states) if state in SET_ASIDE]
    last = max(loaded, key=lambda i: batches[i], default=None)
    loaded_at = None if last is None else table["loaded_at"][last].as_py()
    newest = sorted(quarantined, key=lambda i: str(table["delivery_id"][i].as_py()), reverse=True)[:RECENT]
    names = [name for name in _SUMMARY if name not in ("state", "loaded_at")]
    recent = tuple(Quarantined(**{name: table[name][i].as_py() for name in names}) for i in newest)
    counts = {str(state): found[state] for state in State if state in found}
    return counts, None if loaded_at is None else loaded_at.astimezone(UTC), recent


def _deliveries(snapshot: Snapshot, name: str, read: Callable[[str], pa.Table]) -> pa.Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from ordertrail.arrow import arrow_schema, conformed

    if snapshot.has_deletion_vectors or not snapshot.files:
        return read(f"SELECT {', '.join(_SUMMARY)} FROM {name_sql(name)}")
    snapshot.require_readable()
    # Engines write one type in several ways: Spark's times have nanoseconds and no zone.
    types = {column.name: column.type for column in DELIVERIES}
    schema = arrow_schema((name, types[name]) for name in _SUMMARY)
    batches: list[pa.RecordBatch] = []
    for path in snapshot.paths:
        try:
            with pq.ParquetFile(path) as file:
                batches += [conformed(rows, schema) for rows in file.iter_batches(columns=list(_SUMMARY))]
        except (OSError, pa.ArrowException) as error:
            raise _unreadable(path, error) from error
    return pa.Table.from_batches(batches, schema)


def live_rows(snapshot: Snapshot) -> int:
    """The number of rows of a table, from its log; for a file without statistics, from the file's footer."""
    total = 0
    for file in snapshot.files.values():
        rows = file.rows
        total += _footer_rows(snapshot.path_of(file)) if rows is None else rows
        if file.deletion_vector is not None:
            vector: dict[str, Any] = json.loads(file.deletion_vector)
            total -= int(vector["cardinality"])
    return total


def _footer_rows(path: Path) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            return int(file.metadata.num_rows)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> OrdertrailError:
    hint = "restore it from a backup; ordertrail verify says all that is wrong, and what cures it"
    if path.exists():
        return StorageError(f"cannot read {path}: {error}", hint=hint)
    return TableError(f"the data file {path.name} of {path.parent.name} is not there", hint=hint, path=path)
