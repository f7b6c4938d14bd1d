"""What the steps of a pass on Spark share."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pyarrow as pa
from msgspec import Struct, field
from msgspec.structs import replace

from ordertrail.arrow import arrow_schema
from ordertrail.config import Config
from ordertrail.engines.ledger import RESETS, archive_id
from ordertrail.engines.spark.session import commit_of, options_of
from ordertrail.engines.spark.tables import SparkTable, SparkTables, Told, tables_of, user_metadata
from ordertrail.model import Batch, Contract, Probe
from ordertrail.rules.column_types import decimal_of, plain_type
from ordertrail.rules.tables import TableColumn

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import DataType, StructType

    from ordertrail.engines.spark.weigh_driver import LookAhead
    from ordertrail.rules.constraints import Constraint

_PLACING = (
    "delivery_id", "vendor", "file_name", "path", "modified_at", "sha256", "file_key", "absent", "state", "batch",
    "contract_hash", "rows_parsed", "size_bytes", "changed_by", "changed_why", "newest_first",
)  # fmt: skip


class StagedHere(Struct, frozen=True):
    """The stage as this pass has written it.

    Attributes:
        batch: The number of its batch.
        version: The version of the stage; None when it is not known, because the write carried no `txn`.
        rows: All its rows; None when they are only in the table.
    """

    batch: int
    version: int | None
    rows: pa.Table | None


class SparkPass(Struct):
    """One pass of the Spark engine.

    Attributes:
        config: Names, folders, contract and limits.
        spark: The session.
        tables: The five tables.
        probe: Called after each effect.
        app_id: The pipeline's application id; known once the tables are open.
        resets: Warnings about commits of others on the target, which our next commit passes on.
        constraints: The target's constraints; known once the tables are open.
        target_version: The newest version of the target when the tables were opened.
        ahead: Fetches what the batch that is being staged will be weighed against; None for no such batch.
    """

    config: Config
    spark: SparkSession
    tables: SparkTables
    probe: Probe
    app_id: str = ""
    resets: tuple[str, ...] = ()
    constraints: Sequence[Constraint] = ()
    target_version: int = 0
    ahead: LookAhead | None = None
    _views: list[str] = field(default_factory=list)
    _variables: list[str] = field(default_factory=list)
    _staged: StagedHere | None = None
    _deliveries: pa.Table | None = None
    _seen: dict[tuple[str, str], int] = field(default_factory=dict)
    _carries_txn: bool = False

    @property
    def archive_id(self) -> str:
        """The application id, in the deliveries table, of the mark that a batch's files are archived."""
        return archive_id(self.app_id)

    def follow(self, contract: Contract) -> None:
        """Work under another contract from here on: the one that the tables carry or are about to get."""
        if contract != self.config.contract:
            self.config = replace(self.config, contract=contract)
            self.tables = tables_of(self.spark, self.config)

    @contextmanager
    def commit(self, batch: Batch, step: str, app_id: str | None = None) -> Iterator[Told]:
        """Give the one write of a step within the block the batch's `txn`.

        Args:
            batch: Its number is the version.
            step: For the table's history.
            app_id: The application id; None means the pipeline's.

        Yields:
            Options for the write of a DataFrame: it carries the `txn` also where the session allows no settings.
        """
        name = app_id or self.app_id
        info = {"step": step, "run_id": batch.run_id, "deliveries": len(batch.manifests)}
        if step == "LOAD" and self.resets:
            info[RESETS] = list(self.resets)
        words = user_metadata(name, batch.number, **info)
        with commit_of(self.spark, name, batch.number, words) as self._carries_txn:
            yield options_of(name, batch.number, words)

    @property
    def carries_txn(self) -> bool:
        """Whether the session let statements of the last `commit` carry its `txn`: some do not allow that."""
        return self._carries_txn

    def saw(self, table: SparkTable, batches: Mapping[str, int]) -> None:
        """Remember the last batches of a table by application id, 0 for none: as it was opened, or just written."""
        self._seen |= {(table.name, app_id): batch for app_id, batch in batches.items()}

    def due(self, table: SparkTable, batch: Batch, app_id: str | None = None) -> bool:
        """Whether a table lacks a batch.

        Once a write of this pass has carried its `txn`, what the pass saw and wrote says so: if another machine has
        committed the batch meanwhile, Delta skips our write. Before that the table is asked, and always where a
        session's writes cannot carry one.

        Args:
            table: The table.
            batch: The batch.
            app_id: The application id; None means the pipeline's.
        """
        name = app_id or self.app_id
        seen = self._seen.get((table.name, name)) if self._carries_txn else None
        if seen is None:
            seen = table.standing(name, in_rows=app_id is None)[1]
        return seen < batch.number

    # -- rows between here and Spark ------------------------------------------------------------------------

    def frame(self, rows: pa.Table, columns: Sequence[TableColumn]) -> DataFrame:
        """Rows of this process as a DataFrame with the given columns."""
        schema = spark_schema(columns)
        return self.spark.createDataFrame(rows.select(schema.names), schema=schema)

    def keep_staged(self, staged: StagedHere) -> None:
        """Remember the stage that was just committed, so that a load need not look for it."""
        self._staged = staged

    def staged_version(self, batch: Batch) -> int | None:
        """The version of the stage that has a batch; None when this pass does not know it."""
        return self._staged.version if self._staged is not None and self._staged.batch == batch.number else None

    def staged_here(self, batch: Batch, version: int) -> pa.Table:
        """All rows of the stage of a small batch, in this process."""
        if (here := self._staged) is not None and here.batch == batch.number and here.rows is not None:
            return here.rows
        rows: pa.Table = self.tables.stage.rows(version).toArrow()
        return rows

    def deliveries(self) -> pa.Table:
        """What the rules need to know about the deliveries, in this process; read once, until `deliveries_changed`."""
        if self._deliveries is None:
            self._deliveries = self.tables.deliveries.rows().select(*_PLACING).toArrow()
        return self._deliveries

    def deliveries_changed(self) -> None:
        """Forget the deliveries that were read: a batch was recorded."""
        self._deliveries = None

    # -- relations of the rules -----------------------------------------------------------------------------

    def view(self, rows: DataFrame) -> str:
        """Give rows a name in SQL that is unique in this session, until `close`."""
        name = f"ordertrail_{uuid.uuid4().hex}"
        rows.createOrReplaceTempView(name)
        self._views.append(name)
        return name

    def variable(self, kind: str, value: pa.Table) -> str | None:
        """Give a value a name in SQL that is unique in this session, until `close`.

        Args:
            kind: Its type in SQL.
            value: One row with the column `value`.

        Returns:
            The name; None where a session knows no variables.
        """
        from pyspark.errors import PySparkException

        name = f"ordertrail_{uuid.uuid4().hex}"
        try:
            self.spark.sql(f"DECLARE VARIABLE {name} {kind}")
        except PySparkException:
            return None
        self._variables.append(name)
        rows = self.view(self.spark.createDataFrame(value, schema=f"value {kind}"))
        self.spark.sql(f"SET VARIABLE {name} = (SELECT value FROM {rows})")
        return f"session.{name}"

    def run_rule(self, rule: str, relations: dict[str, str]) -> DataFrame:
        """The rows of an SQL text of `rules` or `engines`.

        Args:
            rule: Reads relations by name.
            relations: SQL of each relation, by name; one may read those before it.
        """
        steps = ", ".join(f"{name} AS ({sql})" for name, sql in relations.items())
        return self.spark.sql(f"WITH {steps} {rule}")

    def close(self) -> None:
        """Drop the names, and wait for what looks ahead. Idempotent."""
        if self.ahead is not None:
            self.ahead.close()
            self.ahead = None
        while self._views:
            self.spark.catalog.dropTempView(self._views.pop())
        while self._variables:
            self.spark.sql(f"DROP TEMPORARY VARIABLE IF EXISTS {self._variables.pop()}")


def arrow_schema_of(columns: Sequence[TableColumn]) -> pa.Schema:
    """Columns as Arrow types."""
    return arrow_schema((column.name, column.type) for column in columns)


def spark_schema(columns: Sequence[TableColumn]) -> StructType:
    """Columns as Spark's types, all nullable."""
    from pyspark.sql.types import StructField, StructType

    return StructType([StructField(column.name, spark_type(column.type)) for column in columns])


def spark_type(name: str) -> DataType:
    """Spark's type for a contract type, or for a type of Delta as `rules.others` gives it."""
    from pyspark.sql import types

    if name.startswith("{"):
        field = {"name": "nested", "type": json.loads(name), "nullable": True, "metadata": {}}
        return types.StructType.fromJson({"type": "struct", "fields": [field]})[0].dataType
    if (decimal := decimal_of(name)) is not None:
        return types.DecimalType(*decimal)
    plain = plain_type(name)
    if plain is None:
        raise KeyError(name)
    made: DataType = getattr(types, plain.spark)()
    return made
