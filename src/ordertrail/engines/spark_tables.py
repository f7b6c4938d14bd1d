"""The five tables on Spark: their names in SQL, making them, and what their history says of batches.

A batch that a table has is known from the `txn` in its log where the log is a folder of this machine. Where a catalog
keeps the tables elsewhere it is known from the table's history, into which every commit of ours writes the batch, and,
where the history was cleaned up, from the batch numbers in the rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ordertrail.config import Config
from ordertrail.delta.actions import PLAIN, WITH_VECTORS, Txn
from ordertrail.delta.log import DeltaLog
from ordertrail.delta.table import Change, Table
from ordertrail.engines.embedded_schema import add_columns
from ordertrail.errors import TableError
from ordertrail.rules.schema import lacking, may_be_added
from ordertrail.rules.tables import (
    APP_ID,
    DELIVERIES,
    REJECTS,
    TableColumn,
    history_columns,
    stage_columns,
    target_columns,
)

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

VECTORS = "delta.enableDeletionVectors"
"""The table property by which rows may be marked in deletion vectors."""

RECENT = 50
"""So many commits of a table's history are looked at first; nearly always the last of ours is among them."""


@dataclass(frozen=True, slots=True)
class TableState:
    """A table as it stands.

    Attributes:
        version: The newest.
        properties: Of the table.
        batches: By application id, the last batch that the table has.
        columns: Names.
        by_commits: The batches come from the commits; otherwise from the rows, where batches without any do not show.
    """

    version: int
    properties: Mapping[str, str]
    batches: Mapping[str, int]
    columns: tuple[str, ...]
    by_commits: bool = True


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit in a table's history: its version, what it did, and which batch of ours, if any, by application id."""

    version: int
    operation: str
    mode: str
    batches: Mapping[str, int] = field(default_factory=dict)


class SparkTable:
    """One Delta table.

    Args:
        spark: The session.
        config: Says how tables are found.
        name: The plain name.
        columns: What the table must have.
        batch_column: The column with batch numbers; None in the stage.
    """

    def __init__(
        self,
        spark: SparkSession,
        config: Config,
        name: str,
        columns: Sequence[TableColumn],
        batch_column: str | None,
    ) -> None:
        self.spark = spark
        self.name = name
        self.columns = tuple(columns)
        self._batch_column = batch_column
        self._local: Table | None = None
        if config.in_folders:
            self._local = Table(config.table_path(name), columns)
        match config.spark.tables:
            case "path":
                self.sql_name = f"delta.{ticked(str(config.table_path(name)))}"
            case "two-level":
                self.sql_name = f"{ticked(config.schema)}.{ticked(name)}"
            case "three-level":
                self.sql_name = f"{ticked(config.catalog)}.{ticked(config.schema)}.{ticked(name)}"

    # -- making it, and what it is --------------------------------------------------------------------------

    def exists(self) -> bool:
        """Whether the table is there."""
        if self._local is not None:
            return self._local.log.exists()
        return bool(self.spark.catalog.tableExists(self.sql_name))

    def create(self, properties: Mapping[str, str], *, vectors: bool) -> None:
        """Make the table unless it is there; in a folder as the embedded engine makes it.

        Args:
            properties: Of the table.
            vectors: Its rows may be marked in deletion vectors.
        """
        properties = {**properties, VECTORS: "true"} if vectors else properties
        if self._local is not None:
            self._local.create(properties, WITH_VECTORS if vectors else PLAIN)
            return
        columns = ", ".join(
            f"{ticked(c.name)} {c.type.upper()}{' NOT NULL' if c.required else ''}" for c in self.columns
        )
        listed = ", ".join(f"{_text(name)} = {_text(value)}" for name, value in properties.items())
        self.spark.sql(f"CREATE TABLE IF NOT EXISTS {self.sql_name} ({columns}) USING delta TBLPROPERTIES ({listed})")

    def state(self) -> TableState:
        """How the table stands.

        Raises:
            TableError: It is missing or damaged, or in a folder and has a feature that the embedded engine refuses.
        """
        return self._local_state() if self._local is not None else self._catalog_state()

    def standing(self, app_id: str, *, in_rows: bool = True) -> tuple[int, int]:
        """The newest version, and the last batch of an application id that the table has, 0 for none.

        Args:
            app_id: Of the batch.
            in_rows: Its batches have rows, which tell where the history is too short.
        """
        if self._local is not None:
            state = self._local_state()
            return state.version, state.batches.get(app_id, 0)
        version, batches, _ = self._recent(app_id if in_rows else "")
        return version, batches.get(app_id, 0)

    def lacking(self, state: TableState) -> tuple[TableColumn, ...]:
        """Our columns that the table does not have; all may be added.

        Raises:
            TableError: It lacks one that every release made.
        """
        found = lacking(self.columns, state.columns)
        missing = [column.name for column in found if not may_be_added(column, state.columns)]
        if missing:
            raise TableError(
                f"the table {self.name} has no column {', '.join(missing)}",
                hint="the contract was changed or the table was replaced: use another table name, or restore the table",
            )
        return found

    def add_columns(self, columns: Sequence[TableColumn]) -> None:
        """Add columns that the table lacks, in one commit; rows that are there have NULL in them."""
        if self._local is not None:
            add_columns(self._local)
            return
        listed = ", ".join(f"{ticked(column.name)} {column.type.upper()}" for column in columns)
        self.spark.sql(f"ALTER TABLE {self.sql_name} ADD COLUMNS ({listed})")

    def commits(self) -> Iterator[Commit]:
        """The commits still in the history, newest first."""
        if self._local is not None:
            yield from _local_commits(self._local.log)
            return
        recent = self._history(RECENT)
        yield from recent
        if len(recent) == RECENT:
            yield from self._history(None)[RECENT:]

    def version_of(self, app_id: str, batch: int) -> int | None:
        """The version whose commit brought a batch; None when it is not in the history."""
        return next((commit.version for commit in self.commits() if commit.batches.get(app_id) == batch), None)

    # -- its rows -------------------------------------------------------------------------------------------

    def rows(self, version: int | None = None) -> DataFrame:
        """Our columns of all rows, as of a version. One that the table did not have yet is NULL."""
        pinned = "" if version is None else f" VERSION AS OF {version}"
        rows = self.spark.sql(f"SELECT * FROM {self.sql_name}{pinned}")
        there = set(rows.columns)
        return rows.selectExpr(
            *(
                ticked(c.name) if c.name in there else f"CAST(NULL AS {c.type}) AS {ticked(c.name)}"
                for c in self.columns
            )
        )

    def append(self, rows: DataFrame) -> None:
        """Add rows, in one commit. Columns are matched by name."""
        rows.writeTo(self.sql_name).append()

    def mark(self, rows: DataFrame, txn: Txn, operation: str) -> None:
        """Note a `txn`, in one commit that changes no row.

        Args:
            rows: None, with the table's columns.
            txn: Who notes, and which batch. By name it is the session that carries it.
            operation: For the table's history.
        """
        if self._local is None:
            self.append(rows)
        else:
            self._local.commit(self._local.snapshot(), Change(txn, operation))

    def overwrite(self, rows: DataFrame) -> None:
        """Put rows in the place of all others, in one commit."""
        from pyspark.sql import functions as f

        rows.writeTo(self.sql_name).overwrite(f.lit(True))

    # -- parts ----------------------------------------------------------------------------------------------

    def _local_state(self) -> TableState:
        assert self._local is not None
        snapshot = self._local.newest()
        # Tables in folders are the embedded engine's too: what it would not write to is refused here as well.
        snapshot.require_writable()
        metadata = snapshot.metadata
        return TableState(snapshot.version, metadata.properties, dict(snapshot.txns), metadata.columns)

    def _catalog_state(self) -> TableState:
        found = self.spark.sql(f"SHOW TBLPROPERTIES {self.sql_name}").collect()
        properties = {str(row["key"]): str(row["value"]) for row in found}
        app_id = properties.get(APP_ID, "")
        version, batches, by_commits = self._recent(app_id)
        columns = tuple(self.spark.table(self.sql_name).columns)
        return TableState(version, properties, batches, columns, by_commits)

    def _recent(self, app_id: str) -> tuple[int, dict[str, int], bool]:
        """The newest version, and by application id the last batch; that of `app_id` from the rows, if need be.

        The last value says whether the commits told it.
        """
        recent = self._history(RECENT)
        batches: dict[str, int] = {}
        for commit in recent:
            for name, batch in commit.batches.items():
                batches.setdefault(name, batch)
        by_commits = app_id in batches
        if app_id and not by_commits and self._batch_column is not None:
            newest = self.spark.sql(f"SELECT max({self._batch_column}) AS batch FROM {self.sql_name}").collect()[0]
            batches[app_id] = int(newest["batch"] or 0)
        return recent[0].version, batches, by_commits

    def _history(self, limit: int | None) -> list[Commit]:
        cut = "" if limit is None else f" LIMIT {limit}"
        rows = (
            self.spark.sql(f"DESCRIBE HISTORY {self.sql_name}{cut}")
            .select("version", "operation", "operationParameters", "userMetadata")
            .collect()
        )
        found = [_commit(r["version"], r["operation"], r["operationParameters"], r["userMetadata"]) for r in rows]
        return sorted(found, key=lambda commit: commit.version, reverse=True)


@dataclass(frozen=True, slots=True)
class SparkTables:
    """The five tables."""

    stage: SparkTable
    target: SparkTable
    history: SparkTable
    rejects: SparkTable
    deliveries: SparkTable

    @property
    def all(self) -> tuple[SparkTable, ...]:
        """In the order in which a batch writes them."""
        return self.stage, self.target, self.history, self.rejects, self.deliveries


def tables_of(spark: SparkSession, config: Config) -> SparkTables:
    """The five tables where a config has them; nothing is read or made."""
    names, contract = config.tables, config.contract
    return SparkTables(
        stage=SparkTable(spark, config, names.stage, stage_columns(contract), None),
        target=SparkTable(spark, config, names.target, target_columns(contract), "_batch"),
        history=SparkTable(spark, config, names.history, history_columns(contract), "_batch"),
        rejects=SparkTable(spark, config, names.rejects, REJECTS, "batch"),
        deliveries=SparkTable(spark, config, names.deliveries, DELIVERIES, "batch"),
    )


def ticked(name: str) -> str:
    """A quoted identifier in Spark's SQL."""
    return "`" + name.replace("`", "``") + "`"


def user_metadata(app_id: str, batch: int, **info: object) -> str:
    """What a commit of ours says in the table's history: by it the batch is found again."""
    return json.dumps({"ordertrail": {"app": app_id, "batch": batch, **info}})


def _text(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _commit(version: int, operation: object, parameters: object, metadata: object) -> Commit:
    mode = parameters.get("mode") if isinstance(parameters, dict) else None
    return Commit(int(version), str(operation), str(mode), _batches_in(metadata))


def _batches_in(metadata: object) -> Mapping[str, int]:
    try:
        ours = json.loads(metadata).get("ordertrail") if isinstance(metadata, str) else None
        return {str(ours["app"]): int(ours["batch"])} if ours else {}
    except (ValueError, AttributeError, KeyError, TypeError):
        return {}  # somebody else's words


def _local_commits(log: DeltaLog) -> Iterator[Commit]:
    for version, actions in log.backwards():
        info: Any = next((a["commitInfo"] for a in actions if "commitInfo" in a), {})
        txns: list[Any] = [action["txn"] for action in actions if "txn" in action]
        parameters = info.get("operationParameters")
        mode = parameters.get("mode") if isinstance(parameters, dict) else None
        batches = {str(txn["appId"]): int(txn["version"]) for txn in txns}
        yield Commit(version, str(info.get("operation")), str(mode), batches)
