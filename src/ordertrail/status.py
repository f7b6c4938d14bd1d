"""The read model: what the five tables and the source folder say, for the command line, the API and the pages.

Nothing here writes. The tables are opened from the last one a batch writes to the first, so that everything the
deliveries name is in the others too, also while a pass runs. `status` reads the logs and the deliveries only, and
keeps DuckDB out, because it must answer at once.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ordertrail.config import Config
from ordertrail.delta.debt import commits_behind, debt_of, reasons
from ordertrail.delta.log import DeltaLog
from ordertrail.delta.snapshot import Snapshot, read_snapshot
from ordertrail.engines.choice import placed
from ordertrail.errors import OrdertrailError, StorageError, UsageError
from ordertrail.model import State
from ordertrail.rows import Cell, Row, Rows, json_value, rows_of
from ordertrail.rules.cells import name_sql, quoted, rank_sql, sql_type
from ordertrail.rules.filekey import clean_name, take
from ordertrail.rules.tables import (
    APP_ID,
    DELIVERIES,
    REJECTS,
    TableColumn,
    history_columns,
    stage_columns,
    target_columns,
)
from ordertrail.sources.directory import DirectorySource

if TYPE_CHECKING:
    import pyarrow as pa

    from ordertrail.query import ReadOnlyTables

__all__ = ["Cell", "Quarantined", "Reader", "Row", "Rows", "Status", "TableDebt", "Track", "Waiting", "json_value"]

RECENT = 5
"""How many quarantined deliveries `Status` names."""

NEXT_PASS = "waits for the next pass"
"""`Waiting.reason` of a complete file that a vendor takes."""

_BLANKS = "\t\n\v\f\r \u00a0"
_SUMMARY = ("delivery_id", "vendor", "file_name", "batch", "state", "reason", "archived_to", "loaded_at")


@dataclass(frozen=True, slots=True)
class Waiting:
    """A file in the source folder.

    Attributes:
        file_name: Its path below the source, as clean text.
        vendor: Who takes it, None when nobody does.
        reason: `waits for the next pass`, or why a pass would leave it alone now.
    """

    file_name: str
    vendor: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A quarantined delivery, as `orders_deliveries` has it."""

    delivery_id: str
    vendor: str
    file_name: str
    batch: int
    reason: str | None
    archived_to: str | None


@dataclass(frozen=True, slots=True)
class TableDebt:
    """What the tables owe their readers, and `ordertrail maintain` pays.

    Attributes:
        due: The debt is above the limits of `[maintenance]`.
        reasons: Where it is, one line each.
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
    """Where a pipeline stands.

    Attributes:
        pipeline: The pipeline's name.
        engine: `embedded` or `spark`.
        last_batch: The last batch with the done mark; None before the first.
        last_loaded_at: Clock of the last batch that loaded a delivery; aware UTC.
        staged_batch_unfinished: A batch is staged and lacks the done mark: a pass runs, or one was cut short.
        target_version: Version of the target's log.
        target_rows: Live rows of the target.
        target_files: Its data files.
        target_bytes: Their size.
        history_rows: Live rows of the history.
        rejects_rows: Live rows of the rejects.
        deliveries: How many deliveries there are, by state; states without any are left out.
        quarantined_recent: The last `RECENT` quarantined deliveries, newest first.
        waiting_files: Files in the source that a vendor takes: a pass takes them now, or once they are settled.
        waiting: All files in the source but hidden ones.
        debt: What maintenance would pay.
        warnings: What could not be looked at, one line each.
    """

    pipeline: str
    engine: str
    last_batch: int | None
    last_loaded_at: datetime | None
    staged_batch_unfinished: bool
    target_version: int
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


@dataclass(frozen=True, slots=True)
class Track:
    """All that is known of one key.

    Attributes:
        key: As it was looked for; several columns are joined by `/`.
        current: The target's row, None when there is none.
        history: Every accepted row with its outcome, oldest first by the total order.
    """

    key: str
    current: Row | None
    history: tuple[Row, ...]


class Reader:
    """The tables of a pipeline as they were when the reader was made. A context manager; never writes.

    Args:
        config: Of the pipeline.

    Raises:
        TableError: A table is not there (then no pass has run yet) or damaged.
    """

    def __init__(self, config: Config) -> None:
        config = placed(config)
        names, contract = config.tables, config.contract
        self.config = config
        self._columns: dict[str, Sequence[TableColumn]] = {
            names.deliveries: DELIVERIES,
            names.rejects: REJECTS,
            names.history: history_columns(contract),
            names.target: target_columns(contract),
            names.stage: stage_columns(contract),
        }
        self._snapshots = {name: read_snapshot(DeltaLog(config.table_path(name))) for name in self._columns}
        self._tables: ReadOnlyTables | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of everything. Idempotent."""
        if self._tables is not None:
            self._tables.close()
            self._tables = None

    # -- the whole ------------------------------------------------------------------------------------------

    def status(self) -> Status:
        """Where the pipeline stands; reads the logs, the deliveries and the names in the source folder."""
        names = self.config.tables
        target, deliveries = self._snapshots[names.target], self._snapshots[names.deliveries]
        app_id = deliveries.metadata.properties.get(APP_ID, "")
        done = deliveries.txns.get(app_id, 0)
        counts, last_loaded_at, quarantined = self._deliveries_summary()
        waiting, warnings = self._waiting()
        return Status(
            pipeline=self.config.name,
            engine=self.config.engine,
            last_batch=done or None,
            last_loaded_at=last_loaded_at,
            staged_batch_unfinished=self._snapshots[names.stage].txns.get(app_id, 0) > done,
            target_version=target.version,
            target_rows=live_rows(target),
            target_files=len(target.files),
            target_bytes=sum(file.size_bytes for file in target.files.values()),
            history_rows=live_rows(self._snapshots[names.history]),
            rejects_rows=live_rows(self._snapshots[names.rejects]),
            deliveries=counts,
            quarantined_recent=quarantined,
            waiting_files=sum(1 for file in waiting if file.reason in (NEXT_PASS, "not settled")),
            waiting=waiting,
            debt=self._debt(),
            warnings=warnings,
        )

    def _debt(self) -> TableDebt:
        names, limits = self.config.tables, self.config.maintenance
        target = debt_of(self._snapshots[names.target], limits)
        logs = {name: DeltaLog(snapshot.root) for name, snapshot in self._snapshots.items()}
        due = [
            reason
            for name, snapshot in self._snapshots.items()
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
            history_files=len(self._snapshots[names.history].files),
            log_entries=sum(len(log.entries()[0]) for log in logs.values()),
        )

    def _deliveries_summary(self) -> tuple[dict[str, int], datetime | None, tuple[Quarantined, ...]]:
        # Plain Python: importing Arrow's compute functions takes longer than counting some thousand deliveries.
        table = self._deliveries_table()
        states: list[str] = table["state"].to_pylist()
        batches: list[int] = table["batch"].to_pylist()
        found = Counter(states)
        loaded = [i for i, state in enumerate(states) if state == State.LOADED]
        quarantined = [i for i, state in enumerate(states) if state == State.QUARANTINED]
        last = max(loaded, key=lambda i: batches[i], default=None)
        loaded_at = None if last is None else table["loaded_at"][last].as_py()
        newest = sorted(quarantined, key=lambda i: str(table["delivery_id"][i].as_py()), reverse=True)[:RECENT]
        names = [name for name in _SUMMARY if name not in ("state", "loaded_at")]
        recent = tuple(Quarantined(**{name: table[name][i].as_py() for name in names}) for i in newest)
        counts = {str(state): found[state] for state in State if state in found}
        return counts, None if loaded_at is None else loaded_at.astimezone(UTC), recent

    def _deliveries_table(self) -> pa.Table:
        import pyarrow as pa
        import pyarrow.parquet as pq

        from ordertrail.arrow import arrow_schema, conformed

        name = self.config.tables.deliveries
        snapshot = self._snapshots[name]
        if snapshot.has_deletion_vectors or not snapshot.files:
            return self._opened().read(f"SELECT {', '.join(_SUMMARY)} FROM {name_sql(name)}")
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

    def _waiting(self) -> tuple[tuple[Waiting, ...], tuple[str, ...]]:
        config = self.config
        source = DirectorySource(config.source, config.archive, config.vendors, config.settle_s)
        try:
            discovery = source.discover(datetime.now(UTC))
        except OrdertrailError as error:
            return (), (str(error),)
        found = [Waiting(clean_name(file.path), file.vendor, NEXT_PASS) for file in discovery.files]
        for skipped in discovery.skipped:
            vendor = take(skipped.file_name, config.vendors)
            found.append(Waiting(skipped.file_name, None if vendor is None else vendor.name, skipped.reason))
        return tuple(sorted(found, key=lambda file: file.file_name)), ()

    # -- rows -----------------------------------------------------------------------------------------------

    def deliveries(
        self,
        *,
        vendor: str | None = None,
        since: datetime | None = None,
        state: str | None = None,
        limit: int | None = None,
    ) -> Rows:
        """The deliveries, those of the newest batch first.

        Args:
            vendor: Only of this vendor.
            since: Only those discovered then or later; aware.
            state: Only with this state.
            limit: At most so many.

        Raises:
            UsageError: There is no such state, or `since` has no time zone.
        """
        if state is not None and state not in tuple(State):
            raise UsageError(f"there is no state {state!r}", hint=f"the states are: {', '.join(State)}")
        wanted = {"vendor": vendor, "state": state}
        return self._rows(self.config.tables.deliveries, wanted, ("discovered_at", since), "delivery_id", limit)

    def rejects(
        self,
        *,
        vendor: str | None = None,
        since: datetime | None = None,
        delivery: str | None = None,
        limit: int | None = None,
    ) -> Rows:
        """The rejects, those of the newest batch first, then in file order.

        Args:
            vendor: Only of this vendor.
            since: Only those rejected then or later; aware.
            delivery: Only of the delivery with this id.
            limit: At most so many.

        Raises:
            UsageError: `since` has no time zone.
        """
        wanted = {"vendor": vendor, "delivery_id": delivery}
        order = "delivery_id, file_row NULLS FIRST"
        return self._rows(self.config.tables.rejects, wanted, ("rejected_at", since), order, limit)

    def track(self, number: str | Sequence[str]) -> Track:
        """The target's row of a key and all its history.

        Args:
            number: The key, trimmed before it is compared. A key of several columns: its parts joined by `/`, or
                as a list where a part may hold a `/` itself.

        Raises:
            UsageError: It does not have a part for each key column.
        """
        parts = self._key_parts(number)
        types = {column.name: column.type for column in self.config.contract.columns}
        where = " AND ".join(
            f"{name_sql(name)} = TRY_CAST({quoted(part)} AS {sql_type(types[name])})"
            for name, part in zip(self.config.contract.key, parts, strict=True)
        )
        names = self.config.tables
        current = self._ordered(names.target, where, "DESC").dicts()
        history = self._ordered(names.history, where, "ASC").dicts()
        return Track("/".join(parts), current[0] if current else None, tuple(history))

    def query(self, sql: str) -> Rows:
        """Run one reading statement of DuckDB's SQL over the five tables.

        They go by the configured names: `orders_target`, `default.orders_target`,
        `incremental_load.default.orders_target`. No other file can be read, and nothing can be written.

        Raises:
            QueryError: The statement does not run or does not only read.
        """
        return rows_of(self._opened().query(sql))

    def _opened(self) -> ReadOnlyTables:
        if self._tables is None:
            from ordertrail.query import ReadOnlyTables

            snapshots = self._snapshots
            tables = {name: (snapshots[name], columns) for name, columns in reversed(self._columns.items())}
            self._tables = ReadOnlyTables(self.config, tables)
        return self._tables

    def _rows(
        self,
        table: str,
        wanted: Mapping[str, str | None],
        since: tuple[str, datetime | None],
        order: str,
        limit: int | None,
    ) -> Rows:
        column, start = since
        where = [f"{name_sql(name)} = {quoted(value)}" for name, value in wanted.items() if value is not None]
        if start is not None:
            if start.tzinfo is None:
                raise UsageError(f"the time {start} has no time zone", hint="give an aware time, such as one in UTC")
            where.append(f"{name_sql(column)} >= {quoted(start.astimezone(UTC).isoformat())}")
        sql = f"SELECT * FROM {name_sql(table)} WHERE {' AND '.join(where) or 'true'} ORDER BY batch DESC, {order}"
        return rows_of(self._opened().read(sql if limit is None else f"{sql} LIMIT {max(limit, 0)}"))

    def _key_parts(self, number: str | Sequence[str]) -> list[str]:
        key = self.config.contract.key
        whole = isinstance(number, str) and len(key) == 1
        parts = [str(number)] if whole else number.split("/") if isinstance(number, str) else list(number)
        if len(parts) != len(key):
            raise UsageError(f"the key {number!r} does not have {len(key)} parts", hint=f"give {' / '.join(key)}")
        return [part.strip(_BLANKS) for part in parts]

    def _ordered(self, table: str, where: str, direction: str) -> Rows:
        """The rows of a key in the total order (design, section 6)."""
        contract = self.config.contract
        columns = [name_sql(column.name) for column in self._columns[table]]
        inner = ", ".join(f"{column} AS c{i}" for i, column in enumerate(columns))
        outer = ", ".join(f"c{i} AS {column}" for i, column in enumerate(columns))
        rank = rank_sql(contract, name_sql(contract.status)) if contract.status else "-2"
        order = ("ev", "d.file_key", "rk", "d.vendor", "d.path", "d.modified_at", "d.sha256", "fr")
        by = ", ".join(f"{column} {direction} NULLS {'FIRST' if direction == 'ASC' else 'LAST'}" for column in order)
        return rows_of(
            self._opened().read(
                f"SELECT {outer} FROM (SELECT {inner}, {name_sql(contract.order_by)} AS ev, {rank} AS rk, "
                f"_file_row AS fr, _delivery_id AS id FROM {name_sql(table)} WHERE {where}) "
                f"LEFT JOIN {name_sql(self.config.tables.deliveries)} d ON id = d.delivery_id ORDER BY {by}"
            )
        )


def live_rows(snapshot: Snapshot) -> int:
    """Rows of a table, from its log; of a file whose writer left no statistics, from the file's footer."""
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


def _unreadable(path: Path, error: Exception) -> StorageError:
    return StorageError(f"cannot read {path}: {error}", hint="run ordertrail verify: it says which files are missing")
