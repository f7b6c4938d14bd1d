"""The read model: what the five tables and the source folder contain, for the command line, the API and the pages.

Nothing here writes. The tables are opened from the last one a batch writes to the first, so that everything the
deliveries name is in the others, too, even while a pass runs. `status` reads only the logs and the deliveries, without
DuckDB, because it must answer at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Self

from msgspec.structs import replace

from ordertrail.config import Config
from ordertrail.delta.columns import Columns
from ordertrail.delta.log import DeltaLog
from ordertrail.delta.snapshot import Snapshot
from ordertrail.engines.choice import located, placed
from ordertrail.engines.local.held import held
from ordertrail.engines.local.whole import places_of, read_whole
from ordertrail.errors import StorageError, TableError, UsageError
from ordertrail.look.arrivals import DAYS, Arrivals
from ordertrail.look.as_of import AsOf, moment
from ordertrail.look.delivered import Delivered, columns_in, delivered, kept_columns
from ordertrail.look.drift import Drift, drift
from ordertrail.look.heartbeat import heard
from ordertrail.look.open_items import NEXT_PASS, Facts, OpenItem, Waiting, open_items
from ordertrail.look.rows import Cell, Row, Rows, json_value, rows_of
from ordertrail.look.standing import Quarantined, Status, TableDebt, arrivals_in, in_catalog, not_begun, standing
from ordertrail.look.track import Track
from ordertrail.markers import Belonging
from ordertrail.model import State
from ordertrail.rules.quiet import Quiet
from ordertrail.rules.sql import name_sql, quoted
from ordertrail.rules.tables import (
    DELIVERIES,
    INCIDENTS,
    REJECTS,
    TableColumn,
    history_columns,
    stage_columns,
    target_columns,
)

if TYPE_CHECKING:
    import pyarrow as pa

    from ordertrail.engines.spark.session import SparkSession
    from ordertrail.look.query import ReadOnlyTables
    from ordertrail.look.quick import QuickLook

__all__ = [
    "NEXT_PASS",
    "Arrivals",
    "Cell",
    "OpenItem",
    "Quarantined",
    "Reader",
    "Row",
    "Rows",
    "Status",
    "TableDebt",
    "Track",
    "Waiting",
    "json_value",
    "live_items_of",
    "open_items_of",
    "status_of",
]


def status_of(config: Config, *, service_expected: bool = False) -> Status:
    """The state of a pipeline, even before its first pass.

    Args:
        config: Of the pipeline.
        service_expected: Whether it needs a person when no service runs.

    Raises:
        TableError: A table is damaged, or missing though it was made.
        SourceError: There are no tables, and a pass would not make any: there is no source, or archive or source are
            another pipeline's.
    """
    config = located(config)
    if any(DeltaLog(root).exists() for root in places_of(config).values()):
        with Reader(config) as reader:
            return reader.status(service_expected=service_expected)
    Belonging(config).refuse_beginning()
    return not_begun(config, service_expected=service_expected)


def open_items_of(
    config: Config, *, session: SparkSession | None = None, service_expected: bool = False
) -> tuple[OpenItem, ...]:
    """Everything that needs a person now; where only Spark reaches the tables, Spark reads them.

    Args:
        config: Of the pipeline.
        session: For tables by name; None uses the active one, or starts one.
        service_expected: Whether it needs a person when no service runs.

    Raises:
        TableError: A table is damaged, or missing though it was made.
        SourceError: There are no tables, and a pass would not make any.
    """
    return looked_at(config, session=session, service_expected=service_expected)[0]


def looked_at(
    config: Config, *, session: SparkSession | None = None, service_expected: bool = False
) -> tuple[tuple[OpenItem, ...], Quiet | None]:
    """Everything that needs a person now, and what would change it, where that is known; as `open_items_of`."""
    config = located(config, session)
    if not config.in_folders:
        return in_catalog(config, session, service_expected=service_expected), None
    status = status_of(config, service_expected=service_expected)
    return status.open_items, status.quiet


def live_items_of(config: Config) -> tuple[OpenItem, ...]:
    """Those open items that say that the service is dead or its passes fail; reads nothing but its heartbeat.

    Args:
        config: Of the pipeline.
    """
    return open_items(config, Facts(heartbeat=heard(config), service_expected=True), datetime.now(UTC))


class Reader:
    """The tables of a pipeline as they were when the reader was created. A context manager; never writes.

    Args:
        config: Of the pipeline.
        found: Its five tables by role, for who has read them already; None reads them.
        like: A reader of the same deliveries; what it has read of them is not read again.

    Attributes:
        config: With the contract that the tables carry; the rows are those of its columns.
        differs: What differs from the contract of the config, when no pass could bring the tables up to it; else "".

    Raises:
        TableError: A table is not there (then no pass has run yet) or damaged.
    """

    def __init__(
        self, config: Config, *, found: Mapping[str, Snapshot] | None = None, like: Reader | None = None
    ) -> None:
        self._asked = placed(config)
        found = read_whole(self._asked) if found is None else found
        holds = held(self._asked, found)
        self.config, self.differs, self._holds = holds.config, holds.differs, holds
        names, contract = self.config.tables, self.config.contract
        self._columns: dict[str, Sequence[TableColumn]] = {
            names.deliveries: DELIVERIES,
            names.rejects: REJECTS,
            names.history: history_columns(contract),
            names.target: target_columns(contract),
            names.stage: stage_columns(contract),
        }
        self._snapshots = {getattr(names, role): snapshot for role, snapshot in found.items()}
        self._by_role = found
        self._quick: QuickLook | None = None
        self._closing = ExitStack()
        self._tables: dict[tuple[int | None, tuple[int, ...]], ReadOnlyTables] = {}
        self._read_columns: Columns = (
            columns_in(self._snapshots[names.deliveries]) if like is None else like._read_columns
        )
        self._kept_columns: Columns = kept_columns(self._read_columns) if like is None else like._kept_columns
        self._came: Delivered | None = None if like is None else like._came

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release all resources. Idempotent."""
        while self._tables:
            self._tables.popitem()[1].close()
        self._quick = None
        self._closing.close()

    # -- the whole ------------------------------------------------------------------------------------------

    def status(self, *, service_expected: bool = False) -> Status:
        """The state of the pipeline; reads the logs, the deliveries and the names in the source folder.

        Args:
            service_expected: Whether it needs a person when no service runs.
        """
        if self._came is None:
            self._came = delivered(self._read_columns)
        return standing(self._asked, self._snapshots, self._came, self._kept_columns, service_expected=service_expected)

    def delivery_columns(self, names: Sequence[str], *, keep: bool = True) -> pa.Table:
        """Columns of the deliveries.

        Args:
            names: Of the columns.
            keep: Whether they stay in memory for the next call.

        Returns:
            One row a delivery, in the same order at each call.

        Raises:
            TableError: A data file or a deletion vector is damaged or gone.
            StorageError: A data file cannot be read.
        """
        return self._kept_columns(names) if keep else self._read_columns(names)

    def arrivals(self, *, days: int = DAYS, now: datetime | None = None) -> tuple[Arrivals, ...]:
        """What came of each vendor, and what is expected; reads three columns of the deliveries.

        Args:
            days: How many days of each vendor are told, today included; 1 or more.
            now: Aware UTC; None reads the clock.
        """
        return arrivals_in(self._asked, self._kept_columns, days=days, now=now)

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

    def open_rejects(
        self, *, vendor: str | None = None, since: datetime | None = None, delivery: str | None = None
    ) -> Rows:
        """Those of the rejects that are still open, see `look.open_rejects`; arguments as for `rejects`."""
        from ordertrail.look.open_rejects import open_rejects

        found = self.rejects(vendor=vendor, since=since, delivery=delivery)
        return open_rejects(self.config, found, self._opened().read)

    def drift(self, *, vendor: str | None = None, limit: int | None = None) -> Drift:
        """What vendors send beyond the contract.

        Args:
            vendor: Only what this vendor sends.
            limit: At most so many columns.
        """
        names = self.config.tables
        of_rows = (self._snapshots[name] for name in (names.stage, names.target, names.history))
        taken = {name for snapshot in of_rows for name in snapshot.metadata.columns}
        return drift(self._asked, self._opened().read, taken=taken, vendor=vendor, limit=limit)

    def track(self, number: str | Sequence[str], *, as_of: int | datetime | None = None) -> Track:
        """The target's row of a key, all its history, and its rejected rows.

        When there is no row of exactly this key, the key is searched for as `look.tracking.track` says.

        Args:
            number: The key, trimmed before it is compared. A key of several columns: its parts joined by `/`, or
                as a list where a part may hold a `/` itself; a list is not looked for otherwise.
            as_of: Everything as it was then: after this batch, or at this aware time. None means now.

        Raises:
            UsageError: It does not have a part for each key column, and nothing else is found; or no batch was done
                by then.
            TableError: A migration is not finished.
        """
        from ordertrail.look.finder import Finder
        from ordertrail.look.tracking import track

        self._holds.require_finished()
        quick = self.quick()
        then = None if as_of is None else moment(quick.read, quick.relation("deliveries"), as_of)
        return track(quick, Finder(quick), number, then)

    def quick(self) -> QuickLook:
        """The same tables, for the read models that pages and commands share."""
        if self._quick is None:
            from ordertrail.look.quick import QuickTables

            tables = QuickTables(self.config.memory_limit_mb, self.config.threads)
            self._closing.enter_context(closing(tables))
            self._quick = tables.look(self.config, self._by_role)
        return self._quick

    def query(
        self,
        sql: str,
        *,
        max_rows: int | None = None,
        timeout_s: float | None = None,
        as_of: int | datetime | None = None,
    ) -> Rows:
        """Run one reading statement of DuckDB's SQL over the five tables.

        They have the configured names: `orders_target`, `default.orders_target`,
        `incremental_load.default.orders_target`. No other file can be read, and nothing can be written.

        Args:
            sql: The statement. `orders_target AT (BATCH => 12)` is the table as it was after that batch.
            max_rows: Most rows to return; None means all.
            timeout_s: Longest time in seconds; None waits for ever.
            as_of: The tables but the stage as they were then: after this batch, or at this aware time. None means now.

        Raises:
            QueryError: The statement does not run or does not only read, takes longer, or its result is larger than
                the memory limit.
            UsageError: No batch was done by then.
            TableError: A migration is not finished.
        """
        from ordertrail.look.at_batch import with_views

        self._holds.require_finished()
        then = None if as_of is None else self._moment(as_of)
        views = (self.config.current,) if self.config.appends else ()
        text, also_at = with_views(sql, [name.lower() for name in (*self._columns, *views)])
        for batch in also_at:
            self._moment(batch)
        found, cut = self._opened(then, also_at).query(text, max_rows=max_rows, timeout_s=timeout_s)
        return replace(rows_of(found), cut=cut)

    def _moment(self, wanted: int | datetime) -> AsOf:
        return moment(self._opened().read, name_sql(self.config.tables.deliveries), wanted)

    def _opened(self, then: AsOf | None = None, also_at: tuple[int, ...] = ()) -> ReadOnlyTables:
        key = None if then is None else then.batch, also_at
        if key not in self._tables:
            from ordertrail.engines.local.incidents import incident_snapshot
            from ordertrail.look.query import ReadOnlyTables

            snapshots = self._snapshots
            tables = {name: (snapshots[name], columns) for name, columns in reversed(self._columns.items())}
            with suppress(TableError, StorageError):  # `verify` says what is wrong; the five can be read
                if (incidents := incident_snapshot(self._asked)) is not None:
                    tables[self.config.incidents] = incidents, INCIDENTS
            self._tables[key] = ReadOnlyTables(self.config, tables, *key)
        return self._tables[key]

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
        if limit is None:
            return rows_of(self._opened().read(sql))
        found = self._opened().read(f"{sql} LIMIT {limit + 1}")
        return replace(rows_of(found.slice(0, limit)), cut=len(found) > limit)
