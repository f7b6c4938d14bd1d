"""Takes over a target that existed before ordertrail: adds columns and keeps the rows.

Its rows become batch 0, a delivery of their own, in the target and in the history, so that the target is the fold of
the history from the first day on. Every step can be repeated: interrupted adopting goes on where it stopped.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pyarrow as pa

from ordertrail.config import Config
from ordertrail.delta.actions import VECTORS
from ordertrail.engines.batch_rows import delivery_rows
from ordertrail.engines.ledger import ADOPTED, adopt_id
from ordertrail.engines.spark.adoptable import require_adoptable
from ordertrail.engines.spark.session import session_of, spark_errors
from ordertrail.engines.spark.tables import tables_of, ticked
from ordertrail.engines.spark.work import SparkPass
from ordertrail.errors import TableError, UsageError
from ordertrail.lock import make_warehouse, pipeline_lock
from ordertrail.markers import Belonging
from ordertrail.model import Batch, FileIdentity, Manifest, RowCounts, State, no_probe
from ordertrail.rules.audit import SPARK_TIME, clock_sql, inserted_sql
from ordertrail.rules.change_feed import FEED
from ordertrail.rules.tables import APP_ID, AUDIT, owned_by

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

ADOPTING = "ordertrail.adopting"
"""Table property of a target during adoption: its future application id."""

DELIVERY_ID = "000000-00000-adopted"
"""The delivery of rows that existed before ordertrail."""

VENDOR = "adopted"


@dataclass(frozen=True, slots=True)
class Adopted:
    """An adopted target.

    Attributes:
        table: Its plain name.
        rows: The number of its rows, unchanged.
        columns_added: Audit columns that it lacked.
    """

    table: str
    rows: int
    columns_added: tuple[str, ...]


def adopt(config: Config, session: SparkSession | None = None) -> Adopted:
    """Take over the target, and create the other four tables.

    Args:
        config: Names the target; the engine must be `spark`.
        session: Used as it is; None uses the active one, or starts one.

    Raises:
        UsageError: The engine is not `spark`, the table is ours already, or its rows cannot meet the contract. Nothing
            was written.
        UnsupportedTableError: The table has a feature that no pass could write to. Nothing was written.
        TableError: There is no such table.
        PassRunningError: A pass is running.
    """
    if config.engine != "spark":
        hint = 'set engine = "spark" for it; afterwards either engine will do'
        raise UsageError("adopt needs the engine spark", hint=hint)
    if config.appends:
        raise UsageError(
            'adopt takes over a table with one row a key, and mode = "append" keeps all rows',
            hint='adopt it with mode = "upsert"; or begin with a new target and load the archived files',
        )
    make_warehouse(config)
    with pipeline_lock(config), spark_errors("cannot adopt the target"):
        spark = session or session_of(config)
        run = SparkPass(config, spark, tables_of(spark, config), no_probe)
        return _Adoption(run).run()


class _Adoption:
    def __init__(self, run: SparkPass) -> None:
        self._run = run
        self._target = run.tables.target
        self._name = self._target.sql_name

    def run(self) -> Adopted:
        run, target = self._run, self._target
        if not target.exists():
            raise TableError(
                f"there is no table {target.name} to adopt", hint="ordertrail run makes a new one by itself"
            )
        properties = self._properties()
        if APP_ID in properties:
            raise UsageError(f"the table {target.name} is ordertrail's already", hint="there is nothing to do")
        require_adoptable(run)
        app_id = properties.get(ADOPTING) or self._app_id()
        # from here on the tables are written to
        self._set({ADOPTING: app_id})
        run.app_id = adopt_id(app_id)
        present = set(run.spark.table(self._name).columns)
        missing = [column for column in AUDIT if column.name not in present]
        if missing:
            listed = ", ".join(f"{ticked(column.name)} {column.type.upper()}" for column in missing)
            run.spark.sql(f"ALTER TABLE {self._name} ADD COLUMNS ({listed})")
        rows = self._record(app_id)
        wanted = ((VECTORS, run.config.vectors), (FEED, run.config.change_feed != "off"))
        self._set({**owned_by(app_id, run.config.name), **{name: "true" for name, on in wanted if on}})
        run.spark.sql(f"ALTER TABLE {self._name} UNSET TBLPROPERTIES ('{ADOPTING}')")
        return Adopted(target.name, rows, tuple(column.name for column in missing))

    def _app_id(self) -> str:
        """The application id that the other existing tables agree on, else a new one."""
        others = [table for table in self._run.tables.all if table is not self._target and table.exists()]
        found = {table.state().properties.get(APP_ID, "") for table in others}
        if len(found) > 1 or "" in found:
            raise UsageError(
                "the other tables belong to different pipelines, or are not ordertrail's",
                hint="give the pipeline tables of its own: see the table names in the config",
            )
        return found.pop() if found else Belonging(self._run.config)(None)

    # -- steps ----------------------------------------------------------------------------------------------

    def _record(self, app_id: str) -> int:
        """Write the rows with their audit columns into the target and the history, and write their delivery."""
        from pyspark.sql import functions as f

        run, tables = self._run, self._run.tables
        batch = Batch(ADOPTED, uuid.uuid4().hex, datetime.now(UTC), ())
        clock = clock_sql(batch.clock, SPARK_TIME)
        audit = {
            "_vendor": f.lit(VENDOR), "_delivery_id": f.lit(DELIVERY_ID), "_file_name": f.lit(self._target.name),
            "_file_row": f.monotonically_increasing_id() + 1,
            **{name: f.expr(sql) for name, sql in inserted_sql(0, clock).items()},
        }  # fmt: skip
        with run.commit(batch, "ADOPT"):
            self._target.overwrite(run.spark.table(self._name).withColumns(audit))
        for table in tables.all:
            if table is not self._target:
                table.create(owned_by(app_id, run.config.name), vectors=False)
        rows = self._target.rows()
        with run.commit(batch, "ADOPT"):
            tables.history.append(rows.withColumns({"_outcome": f.lit("inserted"), "_loaded_at": f.expr(clock)}))
        count = rows.count()
        with run.commit(batch, "ADOPT"):
            tables.deliveries.append(self._delivery(count, batch))
        return count

    def _delivery(self, rows: int, batch: Batch) -> DataFrame:
        manifest = Manifest(
            delivery_id=DELIVERY_ID,
            vendor=VENDOR,
            path="",
            file_name=self._target.name,
            identity=FileIdentity(0, 0, 0, 0, 0),
            sha256="",
            file_key=0,
            contract_hash="",
            state=State.LOADED,
            reason="the rows that were there before ordertrail",
            archive_path="",
            absent=(),
            rows_parsed=rows,
            rows_rejected=0,
            rows_duplicate=0,
            first_error=None,
            discovered_at=batch.clock,
        )
        zero = Batch(0, batch.run_id, batch.clock, (manifest,))
        found = delivery_rows(zero, {DELIVERY_ID: RowCounts(parsed=rows, inserted=rows)})
        place = found.schema.get_field_index("archived_to")
        found = found.set_column(place, "archived_to", pa.nulls(found.num_rows, pa.string()))
        return self._run.frame(found, self._run.tables.deliveries.columns)

    # -- parts ----------------------------------------------------------------------------------------------

    def _properties(self) -> dict[str, str]:
        row = self._run.spark.sql(f"DESCRIBE DETAIL {self._name}").select("properties").collect()[0]
        return dict(row["properties"])

    def _set(self, properties: dict[str, str]) -> None:
        listed = ", ".join(f"'{name}' = '{value}'" for name, value in properties.items())
        self._run.spark.sql(f"ALTER TABLE {self._name} SET TBLPROPERTIES ({listed})")
