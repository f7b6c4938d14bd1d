"""The read model: what the five tables and the source folder contain, for the command line, the API and the pages.

Nothing here writes. The tables are opened from the last one a batch writes to the first, so that everything the
deliveries name is in the others, too, even while a pass runs. `status` reads only the logs and the deliveries, without
DuckDB, because it must answer at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ordertrail.config import Config
from ordertrail.delta.log import DeltaLog
from ordertrail.engines.choice import placed
from ordertrail.engines.local.whole import places_of, read_whole
from ordertrail.errors import UsageError
from ordertrail.look.rejected import rejected_rows
from ordertrail.look.rows import Cell, Row, Rows, json_value, rows_of
from ordertrail.look.standing import NEXT_PASS, Quarantined, Status, TableDebt, Waiting, not_begun, standing
from ordertrail.markers import Belonging
from ordertrail.model import State
from ordertrail.rules.cell_sql import sql_type
from ordertrail.rules.cells import rank_sql
from ordertrail.rules.sql import name_sql, quoted
from ordertrail.rules.tables import (
    DELIVERIES,
    REJECTS,
    TableColumn,
    history_columns,
    stage_columns,
    target_columns,
)

if TYPE_CHECKING:
    from ordertrail.look.query import ReadOnlyTables

__all__ = [
    "NEXT_PASS",
    "Cell",
    "Quarantined",
    "Reader",
    "Row",
    "Rows",
    "Status",
    "TableDebt",
    "Track",
    "Waiting",
    "json_value",
    "status_of",
]

_BLANKS = "\t\n\v\f\r \u00a0"


@dataclass(frozen=True, slots=True)
class Track:
    """Everything known about one key.

    Attributes:
        key: As it was looked for; several columns are joined by `/`.
        current: The target's row, None when there is none.
        history: Every accepted row with its outcome, oldest first by the total order.
        rejected: The rejects of its rejected rows, oldest batch first; a row has one for each bad cell.
    """

    key: str
    current: Row | None
    history: tuple[Row, ...]
    rejected: tuple[Row, ...] = ()


def status_of(config: Config) -> Status:
    """The state of a pipeline, even before its first pass.

    Raises:
        TableError: A table is damaged, or missing though it was made.
        SourceError: There are no tables, and a pass would not make any: there is no source, or archive or source are
            another pipeline's.
    """
    config = placed(config)
    if any(DeltaLog(root).exists() for root in places_of(config).values()):
        with Reader(config) as reader:
            return reader.status()
    Belonging(config).refuse_beginning()
    return not_begun(config)


class Reader:
    """The tables of a pipeline as they were when the reader was created. A context manager; never writes.

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
        found = read_whole(config)
        self._snapshots = {getattr(names, role): snapshot for role, snapshot in found.items()}
        self._tables: ReadOnlyTables | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release all resources. Idempotent."""
        if self._tables is not None:
            self._tables.close()
            self._tables = None

    # -- the whole ------------------------------------------------------------------------------------------

    def status(self) -> Status:
        """The state of the pipeline; reads the logs, the deliveries and the names in the source folder."""
        return standing(self.config, self._snapshots, lambda sql: self._opened().read(sql))

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
        """The target's row of a key, all its history, and its rejected rows.

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
        rejected = rejected_rows(self.config, parts, self._opened().read)
        return Track("/".join(parts), current[0] if current else None, tuple(history), rejected)

    def query(self, sql: str, *, max_rows: int | None = None, timeout_s: float | None = None) -> Rows:
        """Run one reading statement of DuckDB's SQL over the five tables.

        They have the configured names: `orders_target`, `default.orders_target`,
        `incremental_load.default.orders_target`. No other file can be read, and nothing can be written.

        Args:
            sql: The statement.
            max_rows: Most rows to return; None means all.
            timeout_s: Longest time in seconds; None waits for ever.

        Raises:
            QueryError: The statement does not run or does not only read, takes longer, or its result is larger than
                the memory limit.
        """
        found, cut = self._opened().query(sql, max_rows=max_rows, timeout_s=timeout_s)
        return replace(rows_of(found), cut=cut)

    def _opened(self) -> ReadOnlyTables:
        if self._tables is None:
            from ordertrail.look.query import ReadOnlyTables

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
        if limit is None:
            return rows_of(self._opened().read(sql))
        found = self._opened().read(f"{sql} LIMIT {limit + 1}")
        return replace(rows_of(found.slice(0, limit)), cut=len(found) > limit)

    def _key_parts(self, number: str | Sequence[str]) -> list[str]:
        key = self.config.contract.key
        whole = isinstance(number, str) and len(key) == 1
        parts = [str(number)] if whole else number.split("/") if isinstance(number, str) else list(number)
        if len(parts) != len(key):
            raise UsageError(f"the key {number!r} does not have {len(key)} parts", hint=f"give {' / '.join(key)}")
        trimmed = [part.strip(_BLANKS) for part in parts]
        if not all(trimmed):
            raise UsageError("the key is blank", hint=f"give {' / '.join(key)}")
        return trimmed

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
