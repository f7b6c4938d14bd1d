"""The five tables on Spark: their names in SQL, their creation, and what their history says about batches.

The batches of a table are read from the `txn`s in its log if the log is a folder of this machine. Otherwise they come
from the table's history, into which every commit of ours writes the batch, and, when the history was cleaned up, from
the batch numbers in the rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

from ordertrail.config import Config
from ordertrail.delta.actions import VECTORS, Json, Txn
from ordertrail.delta.log import DeltaLog
from ordertrail.delta.said import said_by
from ordertrail.delta.table import Change, Table
from ordertrail.engines.ledger import resets_in
from ordertrail.engines.local.schema import alter_table
from ordertrail.rules.change_feed import FEED
from ordertrail.rules.others import carried_type, others_of
from ordertrail.rules.schema import CONTRACT, terms_of
from ordertrail.rules.tables import (
    APP_ID,
    DELIVERIES,
    OF_APPEND,
    REJECTS,
    TableColumn,
    history_columns,
    stage_columns,
    target_columns,
)

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

Told = Mapping[str, str]
"""What a commit says beside its rows: options of the write of a DataFrame, from `SparkPass.commit`."""

RECENT = 50
"""How many commits of a table's history are read first; our last one is nearly always among them."""


class Commit(Struct, frozen=True):
    """A commit in a table's history: its version, what it did, and which batch of ours, if any, by application id.

    A commit of ours also names its pass; on the target it lists the resets by others since the target was last rebuilt.
    """

    version: int
    operation: str
    mode: str
    batches: Mapping[str, int] = field(default_factory=dict)
    resets: tuple[str, ...] = ()
    run_id: str = ""


class TableState(Struct, frozen=True):
    """The state of a table.

    Attributes:
        version: The newest version.
        properties: The table's properties.
        batches: By application id, the last batch of the table.
        schema: The schema as JSON text.
        by_commits: Whether the batches come from the commits; otherwise they come from the rows, which do not show
            batches without rows.
        recent: The newest commits, newest first; none for a table in a folder.
    """

    version: int
    properties: Mapping[str, str]
    batches: Mapping[str, int]
    schema: str
    by_commits: bool = True
    recent: tuple[Commit, ...] = ()


class SparkTable:
    """One Delta table.

    Args:
        spark: The session.
        config: Says how tables are found.
        name: The plain name.
        columns: What the table must have.
        batch_column: The column with batch numbers; None in the stage.
        properties: Properties of the table besides those passed to `create`.
    """

    def __init__(
        self,
        spark: SparkSession,
        config: Config,
        name: str,
        columns: Sequence[TableColumn],
        batch_column: str | None,
        properties: Mapping[str, str] | None = None,
    ) -> None:
        self.spark = spark
        self.name = name
        self.columns = tuple(columns)
        self._batch_column = batch_column
        self._properties = dict(properties or {})
        self._local: Table | None = None
        if config.in_folders:
            self._local = Table(config.table_path(name), columns, properties=properties)
        match config.spark.tables:
            case "path":
                self.sql_name = f"delta.{ticked(str(config.table_path(name)))}"
            case "two-level":
                self.sql_name = f"{ticked(config.schema)}.{ticked(name)}"
            case "three-level":
                self.sql_name = f"{ticked(config.catalog)}.{ticked(config.schema)}.{ticked(name)}"

    # -- making it, and what it is --------------------------------------------------------------------------

    def exists(self) -> bool:
        """Whether the table exists."""
        if self._local is not None:
            return self._local.log.exists()
        return bool(self.spark.catalog.tableExists(self.sql_name))

    def create(self, properties: Mapping[str, str], *, vectors: bool, feed: bool = False) -> None:
        """Create the table unless it exists; in a folder, as the embedded engine creates it.

        Args:
            properties: Further properties of the table.
            vectors: Whether its rows may be marked in deletion vectors.
            feed: Whether its change data feed is on.
        """
        properties = {**properties, **self._properties}
        if self._local is not None:
            self._local.create(properties, vectors=vectors, feed=feed)
            return
        properties |= {name: "true" for name, on in ((VECTORS, vectors), (FEED, feed)) if on}
        columns = ", ".join(
            f"{ticked(c.name)} {c.type.upper()}{' NOT NULL' if c.required else ''}" for c in self.columns
        )
        listed = _listed(properties)
        self.spark.sql(f"CREATE TABLE IF NOT EXISTS {self.sql_name} ({columns}) USING delta TBLPROPERTIES ({listed})")

    def state(self) -> TableState:
        """The state of the table.

        Raises:
            TableError: It is missing or damaged, or it is in a folder and has a feature that the embedded engine
                refuses.
        """
        return self._local_state() if self._local is not None else self._catalog_state()

    def require_writable(self) -> None:
        """Refuse a table in a folder that the embedded engine would not write to; accept any other.

        Raises:
            UnsupportedTableError: Naming the feature.
        """
        if self._local is not None:
            self._local.newest().require_writable()

    def standing(self, app_id: str, *, in_rows: bool = True) -> tuple[int, int]:
        """The newest version, and the last batch of an application id that the table has, 0 for none.

        Args:
            app_id: The application id.
            in_rows: Whether its batches have rows, which are used when the history is too short.
        """
        if self._local is not None:
            state = self._local_state()
            return state.version, state.batches.get(app_id, 0)
        recent = self._history(RECENT)
        batches, _ = self._batches(recent, app_id if in_rows else "")
        return recent[0].version, batches.get(app_id, 0)

    def alter(self, columns: Sequence[tuple[str, str]], properties: Mapping[str, str]) -> None:
        """Add columns and set properties; in a folder in one commit, by name the properties first.

        Args:
            columns: Name and type of the missing columns; existing rows have NULL in them.
            properties: The properties to set.
        """
        if self._local is not None:
            alter_table(self._local, properties)
            return
        if properties:
            self.spark.sql(f"ALTER TABLE {self.sql_name} SET TBLPROPERTIES ({_listed(properties)})")
        if columns:
            listed = ", ".join(f"{ticked(name)} {kind.upper()}" for name, kind in columns)
            self.spark.sql(f"ALTER TABLE {self.sql_name} ADD COLUMNS ({listed})")

    def commits(self, recent: Sequence[Commit] = ()) -> Iterator[Commit]:
        """The commits still in the history, newest first.

        Args:
            recent: Those of the table's state, if it was just read.
        """
        if self._local is not None:
            yield from _local_commits(self._local.log)
            return
        recent = recent or self._history(RECENT)
        yield from recent
        if len(recent) == RECENT:
            yield from self._history(None)[RECENT:]

    def last_of(self, app_id: str) -> Commit | None:
        """The newest commit of an application id; None when it is not in the history."""
        return next((commit for commit in self.commits() if app_id in commit.batches), None)

    def version_of(self, app_id: str, batch: int) -> int | None:
        """The version whose commit added a batch; None when it is not in the history.

        A `MERGE` of a session that allows no settings does not say it: then it is the first version with its rows.
        """
        unsaid: list[int] = []
        said = False
        for commit in self.commits():
            if commit.batches.get(app_id) == batch:
                return commit.version
            said |= app_id in commit.batches
            if not said:
                unsaid.append(commit.version)
        shown = list(takewhile(lambda version: self._shows(batch, version), unsaid))
        return shown[-1] if shown else None

    def _shows(self, batch: int, version: int) -> bool:
        """Whether a version has rows of a batch."""
        wanted = f"SELECT 1 FROM {self.sql_name} VERSION AS OF {version} WHERE {self._batch_column} = {batch} LIMIT 1"
        return self._batch_column is not None and bool(self.spark.sql(wanted).collect())

    # -- its rows -------------------------------------------------------------------------------------------

    def rows(self, version: int | None = None, *, others: bool = False) -> DataFrame:
        """Our columns of all rows at a version. A column that the table did not have yet is NULL.

        Args:
            version: The version; None for the newest.
            others: Whether to add the columns of others that can be kept, after ours.
        """
        pinned = "" if version is None else f" VERSION AS OF {version}"
        rows = self.spark.sql(f"SELECT * FROM {self.sql_name}{pinned}")
        there = set(rows.columns)
        theirs = others_of(rows.schema.json(), self.columns) if others else ()
        return rows.selectExpr(
            *(
                ticked(c.name) if c.name in there else f"CAST(NULL AS {c.type}) AS {ticked(c.name)}"
                for c in self.columns
            ),
            *(ticked(one.name) for one in theirs if carried_type(one.type) is not None),
        )

    def append(self, rows: DataFrame, told: Told) -> None:
        """Add rows, in one commit. Columns are matched by name.

        Args:
            rows: The rows.
            told: What the commit says beside them, from `SparkPass.commit`.
        """
        rows.writeTo(self.sql_name).options(**told).append()

    def mark(self, rows: DataFrame, txn: Txn, operation: str, told: Told) -> None:
        """Record a `txn` in one commit that changes no row.

        Args:
            rows: An empty DataFrame with the table's columns.
            txn: The application id and the batch. For a named table `told` has it.
            operation: For the table's history.
            told: As of `append`.
        """
        if self._local is None:
            self.append(rows, told)
        else:
            self._local.commit(self._local.snapshot(), Change(txn, operation))

    def overwrite(self, rows: DataFrame, told: Told) -> None:
        """Replace all rows, in one commit; the arguments are those of `append`."""
        from pyspark.sql import functions as f

        rows.writeTo(self.sql_name).options(**told).overwrite(f.lit(True))

    def replace(self, rows: DataFrame, told: Told) -> None:
        """Replace all rows and the columns of a named table, in one commit.

        Its properties, how its rows are laid out, and comments on columns that stay are kept. No column is NOT NULL
        afterwards: Spark makes such columns only in an empty table.

        Args:
            rows: With the new columns. They may be computed from the table as it is.
            told: As of `append`.
        """
        detail = self.spark.sql(f"DESCRIBE DETAIL {self.sql_name}").collect()[0].asDict()
        for column in self.spark.table(self.sql_name).schema:
            if "comment" in column.metadata and column.name in rows.columns:
                rows = rows.withMetadata(column.name, {"comment": column.metadata["comment"]})
        writer = rows.write.format("delta").mode("overwrite").option("overwriteSchema", "true").options(**told)
        if partitions := laid_out_by(detail, "partitionColumns"):
            writer = writer.partitionBy(*partitions)
        if clusters := laid_out_by(detail, "clusteringColumns"):
            writer = writer.clusterBy(*clusters)
        writer.saveAsTable(self.sql_name)

    # -- parts ----------------------------------------------------------------------------------------------

    def _local_state(self) -> TableState:
        assert self._local is not None
        snapshot = self._local.newest()
        # The embedded engine shares tables in folders: a table that it would not write to is refused here, too.
        snapshot.require_writable()
        metadata = snapshot.metadata
        return TableState(snapshot.version, metadata.properties, dict(snapshot.txns), metadata.schema_string)

    def _catalog_state(self) -> TableState:
        found = self.spark.sql(f"SHOW TBLPROPERTIES {self.sql_name}").collect()
        properties = {str(row["key"]): str(row["value"]) for row in found}
        app_id = properties.get(APP_ID, "")
        recent = self._history(RECENT)
        batches, by_commits = self._batches(recent, app_id)
        schema = self.spark.table(self.sql_name).schema.json()
        return TableState(recent[0].version, properties, batches, schema, by_commits, tuple(recent))

    def _batches(self, recent: Sequence[Commit], app_id: str) -> tuple[dict[str, int], bool]:
        """The last batch by application id; that of `app_id` from the rows if necessary.

        The last value says whether the batches come from the commits. One that says nothing, above all that do, may be
        another writer's, or a `MERGE` of ours in a session that allows no settings.
        """
        batches: dict[str, int] = {}
        unsaid = False
        for commit in recent:
            unsaid |= app_id not in batches and not commit.batches
            for name, batch in commit.batches.items():
                batches.setdefault(name, batch)
        by_commits = app_id in batches and not unsaid
        if app_id and not by_commits and self._batch_column is not None:
            newest = self.spark.sql(f"SELECT max({self._batch_column}) AS batch FROM {self.sql_name}").collect()[0]
            batches[app_id] = max(int(newest["batch"] or 0), batches.get(app_id, 0))
        return batches, by_commits

    def _history(self, limit: int | None) -> list[Commit]:
        cut = "" if limit is None else f" LIMIT {limit}"
        # As it comes: to select columns of it would be another query, with a job of its own.
        rows = self.spark.sql(f"DESCRIBE HISTORY {self.sql_name}{cut}").collect()
        found = [_commit(r["version"], r["operation"], r["operationParameters"], r["userMetadata"]) for r in rows]
        return sorted(found, key=lambda commit: commit.version, reverse=True)


class SparkTables(Struct, frozen=True):
    """The five tables."""

    stage: SparkTable
    target: SparkTable
    history: SparkTable
    rejects: SparkTable
    deliveries: SparkTable

    @property
    def all(self) -> tuple[SparkTable, ...]:
        """The tables in the order in which a batch writes them."""
        return self.stage, self.target, self.history, self.rejects, self.deliveries


def tables_of(spark: SparkSession, config: Config) -> SparkTables:
    """The five tables of a config; reads and creates nothing."""
    names, contract = config.tables, config.contract
    holds = {CONTRACT: terms_of(contract).text}
    appends = OF_APPEND if config.appends else None
    return SparkTables(
        stage=SparkTable(spark, config, names.stage, stage_columns(contract), None),
        target=SparkTable(spark, config, names.target, target_columns(contract), "_batch", appends),
        history=SparkTable(spark, config, names.history, history_columns(contract), "_batch", holds),
        rejects=SparkTable(spark, config, names.rejects, REJECTS, "batch"),
        deliveries=SparkTable(spark, config, names.deliveries, DELIVERIES, "batch"),
    )


def laid_out_by(detail: Mapping[str, Any], kind: str) -> list[str]:
    """Columns by which a table is partitioned or clustered.

    Args:
        detail: What `DESCRIBE DETAIL` says of the table.
        kind: `partitionColumns` or `clusteringColumns`.
    """
    return [str(name) for name in detail.get(kind) or ()]


def ticked(name: str) -> str:
    """A quoted identifier in Spark's SQL."""
    return "`" + name.replace("`", "``") + "`"


def user_metadata(app_id: str, batch: int, **info: object) -> str:
    """The note of a commit of ours in the table's history, by which the batch is found again."""
    return json.dumps({"ordertrail": {"app": app_id, "batch": batch, **info}})


def _listed(properties: Mapping[str, str]) -> str:
    return ", ".join(f"{sql_text(name)} = {sql_text(value)}" for name, value in properties.items())


def sql_text(value: str) -> str:
    """A text in Spark's SQL."""
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _commit(version: int, operation: object, parameters: object, metadata: object) -> Commit:
    mode = parameters.get("mode") if isinstance(parameters, dict) else None
    said = said_by([{"commitInfo": {"userMetadata": metadata if isinstance(metadata, str) else None}}])
    run_id = str(said.get("run_id", ""))
    return Commit(int(version), str(operation), str(mode), _batches_in(said), resets_in(said), run_id)


def _batches_in(said: Mapping[str, Json]) -> Mapping[str, int]:
    app_id, batch = said.get("app"), said.get("batch")
    return {app_id: batch} if isinstance(app_id, str) and isinstance(batch, int) else {}


def _local_commits(log: DeltaLog) -> Iterator[Commit]:
    for version, actions in log.backwards():
        info: Any = next((a["commitInfo"] for a in actions if "commitInfo" in a), {})
        txns: list[Any] = [action["txn"] for action in actions if "txn" in action]
        parameters = info.get("operationParameters")
        mode = parameters.get("mode") if isinstance(parameters, dict) else None
        batches = {str(txn["appId"]): int(txn["version"]) for txn in txns}
        said = said_by(actions)
        run_id = str(said.get("run_id", ""))
        yield Commit(version, str(info.get("operation")), str(mode), batches, resets_in(said), run_id)
