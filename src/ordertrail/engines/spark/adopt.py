"""Takes over a target that existed before ordertrail: adds columns and keeps the rows.

Its rows become batch 0, a delivery of their own, in the target and in the history, so that the target is the fold of
the history from the first day on. Of a key that is there several times the order rules tell the newest row, when asked
to; the others are in the history alone, as if they had come in one file. Every step can be repeated: interrupted
adopting goes on where it stopped. `survey` is the dry run.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import chain
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from msgspec import Struct
from msgspec.structs import replace

from ordertrail.config import Config
from ordertrail.delta.actions import VECTORS
from ordertrail.engines.batch_rows import delivery_rows
from ordertrail.engines.ledger import ADOPTED, adopt_id
from ordertrail.engines.spark.adoptable import Doubled, doubled_error, doubled_keys, refusals, several
from ordertrail.engines.spark.measured import measured
from ordertrail.engines.spark.session import kept, session_of, spark_errors
from ordertrail.engines.spark.tables import tables_of, ticked
from ordertrail.engines.spark.work import SparkPass
from ordertrail.errors import OrdertrailError, TableError, UsageError
from ordertrail.lock import make_warehouse, pipeline_lock
from ordertrail.markers import Belonging
from ordertrail.model import Batch, FileIdentity, Manifest, Outcome, RowCounts, State, no_probe
from ordertrail.rules import outcomes
from ordertrail.rules.audit import SPARK_TIME, clock_sql, inserted_sql, states_sql
from ordertrail.rules.change_feed import FEED
from ordertrail.rules.comparing import compare_sql
from ordertrail.rules.placing import OF_DELIVERY
from ordertrail.rules.tables import APP_ID, AUDIT, owned_by

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

ADOPTING = "ordertrail.adopting"
"""Table property of a target during adoption: its future application id, and the version that it had before, as
`id@version`."""

DELIVERY_ID = "000000-00000-adopted"
"""The delivery of rows that existed before ordertrail."""

VENDOR = "adopted"

_OURS = f"_delivery_id = '{DELIVERY_ID}'"
_ALL_ROWS = ".all"
"""Ends the application id of the commit that writes the target with rows which another commit takes out again."""

REFUSE, NEWEST = "refuse", "newest"
"""What becomes of a target with keys that are there more than once."""


class Adopted(Struct, frozen=True):
    """An adopted target, or what adopting it would do.

    Attributes:
        table: Its plain name.
        rows: The number of its rows; after adopting, without those that were taken out as doubled.
        columns_added: Audit columns that it lacked.
        doubled: Keys that were there more than once.
        before: The version of the table that was adopted, to go back to.
        sql_name: Its name in SQL.
        back: Statements that make it what it was before, one after the other.
        compare: SQL of the keys whose rows are not those of before.
        problems: Of a dry run: why it cannot be adopted as it is, each with what to do.
        adopted: Whether it was done.
    """

    table: str
    rows: int
    columns_added: tuple[str, ...]
    doubled: Doubled
    before: int
    sql_name: str
    back: tuple[str, ...]
    compare: str
    problems: tuple[OrdertrailError, ...] = ()
    adopted: bool = False


def survey(config: Config, session: SparkSession | None = None, *, doubled: str = REFUSE) -> Adopted:
    """What `adopt` would do, and all that stands in its way; writes nothing.

    Args:
        config: As for `adopt`.
        session: As for `adopt`.
        doubled: As for `adopt`.

    Raises:
        UsageError: The engine is not `spark`, or the table is ours already.
        TableError: There is no such table.
    """
    return _of(config, session, doubled).survey()


def adopt(config: Config, session: SparkSession | None = None, *, doubled: str = REFUSE) -> Adopted:
    """Take over the target, and create the other four tables.

    Args:
        config: Names the target; the engine must be `spark`.
        session: Used as it is; None uses the active one, or starts one.
        doubled: `refuse` or `newest`: what becomes of keys that the target has more than once.

    Raises:
        UsageError: The engine is not `spark`, the table is ours already, or its rows cannot meet the contract. Nothing
            was written.
        UnsupportedTableError: The table has a feature that no pass could write to. Nothing was written.
        TableError: There is no such table.
        PassRunningError: A pass is running.
    """
    adoption = _of(config, session, doubled)
    with pipeline_lock(config):
        return adoption.run()


def _of(config: Config, session: SparkSession | None, doubled: str) -> _Adoption:
    if doubled not in (REFUSE, NEWEST):
        raise UsageError(f"doubled = {doubled!r}", hint=f"say {REFUSE} or {NEWEST}")
    if config.engine != "spark":
        hint = 'set engine = "spark" for it; afterwards either engine will do'
        raise UsageError("adopt needs the engine spark", hint=hint)
    if config.appends:
        raise UsageError(
            'adopt takes over a table with one row a key, and mode = "append" keeps all rows',
            hint='adopt it with mode = "upsert"; or begin with a new target and load the archived files',
        )
    make_warehouse(config)
    with spark_errors("cannot adopt the target"):
        spark = session or session_of(config)
        return _Adoption(SparkPass(config, spark, tables_of(spark, config), no_probe), doubled)


class _Adoption:
    def __init__(self, run: SparkPass, doubled: str) -> None:
        self._run = run
        self._target = run.tables.target
        self._name = self._target.sql_name
        self._doubled = doubled

    def survey(self) -> Adopted:
        with spark_errors("cannot look at the target"):
            detail, properties = self._described()
            problems = [*self._taken_back(properties), *refusals(self._run, detail)]
            rows = self._run.spark.table(self._name)
            keyed = set(self._run.config.contract.key) <= set(rows.columns)
            doubled = doubled_keys(self._run, rows) if keyed else Doubled(0, 0)
            if doubled.keys and not self._reduces(properties):
                problems.append(doubled_error(self._run, doubled))
            left = rows.count() - (doubled.rows if self._reduces(properties) else 0)
            return self._found(left, doubled, self._version(detail), tuple(problems))

    def run(self) -> Adopted:
        run = self._run
        with spark_errors("cannot adopt the target"):
            detail, properties = self._described()
            for problem in chain(self._taken_back(properties), refusals(run, detail)):
                raise problem
            doubled = doubled_keys(run, run.spark.table(self._name))
            if doubled.keys and not self._reduces(properties):
                raise doubled_error(run, doubled)
            begun, _, before = properties.get(ADOPTING, "").rpartition("@")
            app_id = begun or self._app_id()
            found = self._found(0, doubled, int(before) if begun else self._version(detail))
            # from here on the tables are written to
            self._set({ADOPTING: f"{app_id}@{found.before}"})
            run.app_id = adopt_id(app_id)
            if found.columns_added:
                missing = [column for column in AUDIT if column.name in found.columns_added]
                listed = ", ".join(f"{ticked(column.name)} {column.type.upper()}" for column in missing)
                run.spark.sql(f"ALTER TABLE {self._name} ADD COLUMNS ({listed})")
            counts = self._record(app_id, doubled)
            wanted = ((VECTORS, run.config.vectors), (FEED, run.config.change_feed != "off"))
            self._set({**owned_by(app_id, run.config.name), **{name: "true" for name, on in wanted if on}})
            run.spark.sql(f"ALTER TABLE {self._name} UNSET TBLPROPERTIES ('{ADOPTING}')")
            run.close()
            return replace(found, rows=counts.inserted, adopted=True)

    def _found(self, rows: int, doubled: Doubled, before: int, problems: tuple[OrdertrailError, ...] = ()) -> Adopted:
        run, name = self._run, self._name
        present = set(run.spark.table(name).columns)
        return Adopted(
            table=self._target.name,
            rows=rows,
            columns_added=tuple(column.name for column in AUDIT if column.name not in present),
            doubled=doubled,
            before=before,
            sql_name=name,
            back=(f"RESTORE TABLE {name} TO VERSION AS OF {before}", *self._dropped()),
            compare=compare_sql(run.config.contract, f"{name} VERSION AS OF {before}", name, ticked),
            problems=problems,
        )

    def _dropped(self) -> tuple[str, ...]:
        """Statements that take away the tables beside the target."""
        return tuple(f"DROP TABLE IF EXISTS {one.sql_name}" for one in self._run.tables.all if one is not self._target)

    def _taken_back(self, properties: Mapping[str, str]) -> Iterator[OrdertrailError]:
        """A target that was adopted and then restored to what it was before, beside the tables made with it."""
        if ADOPTING in properties or not self._run.tables.history.exists() or not self._recorded().head(1):
            return
        yield UsageError(
            f"{self._target.name} was adopted before and restored since: the other tables know its rows of then",
            hint="take them away first: " + "; ".join(self._dropped()),
        )

    def _reduces(self, properties: Mapping[str, str]) -> bool:
        """Whether doubled keys are reduced: so adopting that was interrupted had begun with them."""
        return self._doubled == NEWEST or ADOPTING in properties

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

    def _record(self, app_id: str, doubled: Doubled) -> RowCounts:
        """Write the rows with their audit columns into the target and the history, and write their delivery.

        What tells whether a step is done is the `txn` of its commit, and the rows themselves, because some sessions
        write none. With doubled keys the target is written twice, at first with all rows: so the history is read from
        what does not change any more, and which rows lose is told by the same rows at each attempt.
        """
        run, tables = self._run, self._run.tables
        batch = Batch(ADOPTED, uuid.uuid4().hex, datetime.now(UTC), ())
        if not (tables.history.exists() and self._recorded().head(1)):
            with run.commit(batch, "ADOPT", f"{run.app_id}{_ALL_ROWS}" if doubled.keys else None) as told:
                self._target.overwrite(run.spark.table(self._name).withColumns(self._audit(batch)), told)
        for table in tables.all:
            if table is not self._target:
                table.create(owned_by(app_id, run.config.name), vectors=False)
        rows = self._target.rows()
        losers = self._losers(rows) if doubled.keys else None
        if not self._recorded().head(1):
            with run.commit(batch, "ADOPT") as told:
                tables.history.append(self._judged(rows, losers, batch), told)
        if losers is not None:
            with run.commit(batch, "ADOPT") as told:
                whole = run.spark.table(self._name)
                kept = whole.join(losers, whole["_file_row"] == losers["fr"], "left_anti")
                self._target.overwrite(kept, told)
        by_outcome = {row["_outcome"]: row["count"] for row in self._recorded().groupBy("_outcome").count().collect()}
        counts = RowCounts(parsed=sum(by_outcome.values()), **by_outcome)
        if not tables.deliveries.rows().where(f"delivery_id = '{DELIVERY_ID}'").head(1):
            with run.commit(batch, "ADOPT") as told:
                tables.deliveries.append(self._delivery(counts, batch), told)
        return counts

    def _audit(self, batch: Batch) -> dict[str, Column]:
        """The audit columns of all rows, as of one file."""
        from pyspark.sql import functions as f

        return {
            "_vendor": f.lit(VENDOR), "_delivery_id": f.lit(DELIVERY_ID), "_file_name": f.lit(self._target.name),
            "_file_row": f.monotonically_increasing_id() + 1,
            **{name: f.expr(sql) for name, sql in inserted_sql(0, clock_sql(batch.clock, SPARK_TIME)).items()},
        }  # fmt: skip

    def _recorded(self) -> DataFrame:
        """The rows of the history that adopting wrote."""
        return self._run.tables.history.rows().where(_OURS)

    def _losers(self, rows: DataFrame) -> DataFrame:
        """Of keys that are there several times all rows but the newest: `fr` and `outcome`.

        Args:
            rows: The target's, with their audit columns.
        """
        from pyspark.sql import functions as f

        run, contract = self._run, self._run.config.contract
        ours = rows.join(several(run, rows), list(contract.key), "left_semi")
        same = {name: f.lit(0) for name in ("dn", *OF_DELIVERY)}  # all are of one delivery
        staged = f"SELECT * FROM {run.view(kept(measured(ours, contract, {}).withColumns(same)))}"
        relations = {"staged": staged, "repeated": outcomes.several("staged"), "ranked": outcomes.RANKED}
        return kept(run.run_rule(outcomes.SUPERSEDED, relations))

    def _judged(self, rows: DataFrame, losers: DataFrame | None, batch: Batch) -> DataFrame:
        """The rows as the history has them; one that lost never was a state of its key."""
        from pyspark.sql import functions as f

        rows = rows.withColumn("_loaded_at", f.expr(clock_sql(batch.clock, SPARK_TIME)))
        if losers is None:
            return rows.withColumn("_outcome", f.lit(str(Outcome.INSERTED)))
        joined = rows.join(losers, rows["_file_row"] == losers["fr"], "left")
        states = {name: f.expr(f"CASE WHEN outcome IS NULL THEN {name} END") for name in states_sql("", "", "")}
        outcome = f.coalesce("outcome", f.lit(str(Outcome.INSERTED)))
        return joined.withColumns({**states, "_outcome": outcome}).drop("fr", "outcome")

    def _delivery(self, counts: RowCounts, batch: Batch) -> DataFrame:
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
            rows_parsed=counts.parsed,
            rows_rejected=0,
            rows_duplicate=0,
            first_error=None,
            discovered_at=batch.clock,
        )
        zero = Batch(0, batch.run_id, batch.clock, (manifest,))
        found = delivery_rows(zero, {DELIVERY_ID: counts})
        place = found.schema.get_field_index("archived_to")
        found = found.set_column(place, "archived_to", pa.nulls(found.num_rows, pa.string()))
        return self._run.frame(found, self._run.tables.deliveries.columns)

    # -- parts ----------------------------------------------------------------------------------------------

    def _described(self) -> tuple[dict[str, Any], dict[str, str]]:
        """What Delta says of a target that is there and not ours yet, and the properties in it."""
        if not self._target.exists():
            raise TableError(
                f"there is no table {self._target.name} to adopt", hint="ordertrail run makes a new one by itself"
            )
        detail = self._run.spark.sql(f"DESCRIBE DETAIL {self._name}").collect()[0].asDict()
        properties = dict(detail["properties"] or {})
        if APP_ID in properties:
            raise UsageError(f"the table {self._target.name} is ordertrail's already", hint="there is nothing to do")
        return detail, properties

    def _version(self, detail: Mapping[str, Any]) -> int:
        """The newest version of the target; 0 for what is no Delta table."""
        if detail["format"] != "delta":
            return 0
        return int(self._run.spark.sql(f"DESCRIBE HISTORY {self._name} LIMIT 1").collect()[0]["version"])

    def _set(self, properties: dict[str, str]) -> None:
        listed = ", ".join(f"'{name}' = '{value}'" for name, value in properties.items())
        self._run.spark.sql(f"ALTER TABLE {self._name} SET TBLPROPERTIES ({listed})")
