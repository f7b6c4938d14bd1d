"""Brings tables that only Spark reaches to another contract: a batch whose rows follow from what it stages.

The stage's commit says all that decides the new rows, so a migration that was cut is done again from there: history,
target, rejects and, last, deliveries, the done mark. Whoever opens the tables next finishes it. Readers see each table
change in one commit. Rows are read under the new contract, and folded, by the code for tables in folders, in Spark's
Python workers (`portions`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import takewhile
from typing import TYPE_CHECKING

import pyarrow as pa
from msgspec import Struct
from msgspec.structs import replace

from ordertrail.arrow import conformed
from ordertrail.engines.batch_rows import delivery_rows, header_rows, staged_batch
from ordertrail.engines.load import overtaken
from ordertrail.engines.local.convert import converted_columns
from ordertrail.engines.spark.portions import ANSWER, KEY, Ask, Convert, Fold, Portion, Survey, Surveyed
from ordertrail.engines.spark.record import mark_archived, mark_batch, merge_deliveries
from ordertrail.engines.spark.stage import read_staged
from ordertrail.engines.spark.tables import SparkTable, TableState, Told, ticked
from ordertrail.engines.spark.work import SparkPass, arrow_schema_of, spark_schema
from ordertrail.engines.spark.workers import RELATION, run_sql
from ordertrail.errors import ConfigError, ForeignChangeError, TableError, UsageError
from ordertrail.log import Log
from ordertrail.model import Batch, RowCounts
from ordertrail.rules.migration import carried_contract
from ordertrail.rules.named_migration import NamedMigration, named_migration_from, readings_of
from ordertrail.rules.others import others_of
from ordertrail.rules.placing import contract_key_sql
from ordertrail.rules.schema import CONTRACT, Terms, declared_columns, lacking, terms_in, terms_of
from ordertrail.rules.sql import name_sql
from ordertrail.rules.tables import TableColumn, target_columns

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

KEEPS_ROWS = frozenset({
    "OPTIMIZE", "REORG", "VACUUM START", "VACUUM END", "FSCK", "COMPUTE STATS", "ANALYZE", "CREATE TABLE", "CLUSTER BY",
    "SET TBLPROPERTIES", "UNSET TBLPROPERTIES", "UPGRADE PROTOCOL", "ADD FEATURE", "DROP FEATURE", "ADD CONSTRAINT",
    "DROP CONSTRAINT", "ADD COLUMNS", "CHANGE COLUMN", "CHANGE COLUMNS", "UPDATE COLUMN METADATA",
})  # fmt: skip
"""Operations in a table's history that change no row."""

_STEP = "MIGRATE"
_TOLD = ("reason", "first_error", "archived_to", "changed_why", "doubts", "migrated")
"""Columns of the deliveries that no fold asks for: they need not go to the workers."""

_log = Log()


class Rewriting(Struct, frozen=True):
    """The rows of history and target under another contract. Reads only.

    Attributes:
        run: Its config has the new contract.
        terms: The contract that the tables carry.
        ledger: The deliveries, with what they lack under the contract that the rows are read by.
    """

    run: SparkPass
    terms: Terms
    ledger: pa.Table

    def survey(self, version: int) -> Surveyed:
        """What the values of the history at a version come to."""
        found = self._asked(self._history(version), Survey(self.terms), ANSWER)
        columns = [TableColumn(field.name, "string", "") for field in ANSWER]
        return Surveyed((row["kind"], row["said"]) for row in _answered(found, columns).collect())

    def history(self, version: int) -> DataFrame:
        """The rows of the history at a version, with the columns of the new contract."""
        rows = self._history(version)
        columns = converted_columns(declared_columns(rows.schema.json()), self.run.config.contract, self.terms)
        return _answered(self._asked(rows, Convert(self.terms), arrow_schema_of(columns)), columns)

    def target(self, history: DataFrame, done: int) -> DataFrame:
        """The target as the fold of a history, with the values of others in the rows of their keys.

        Args:
            history: Its rows under the new contract.
            done: The last batch that counts.
        """
        rows, others = self.folded(history, done), self.others()
        if others:
            rows = rows.join(self._carried(others), KEY, "left")
        columns = (*target_columns(self.run.config.contract), *others)
        return rows.select(*(ticked(column.name) for column in columns))

    def folded(self, history: DataFrame, done: int) -> DataFrame:
        """The fold of a history: the columns of the target, and `KEY`. Arguments as of `target`."""
        columns = (*target_columns(self.run.config.contract), TableColumn(KEY, "string", ""))
        keyed = history.repartition(*(history[ticked(name)] for name in self.run.config.contract.key))
        return _answered(self._asked(keyed, Fold(done), arrow_schema_of(columns)), columns)

    def others(self) -> tuple[TableColumn, ...]:
        """The columns of others on the target."""
        schema = self.run.spark.table(self.run.tables.target.sql_name).schema.json()
        before = carried_contract(self.terms, self.run.config.contract)
        return others_of(schema, target_columns(before))

    def _history(self, version: int) -> DataFrame:
        return self.run.spark.sql(f"SELECT * FROM {self.run.tables.history.sql_name} VERSION AS OF {version}")

    def _asked(self, rows: DataFrame, ask: Ask, answer: pa.Schema) -> tuple[DataFrame, Portion]:
        config = replace(self.run.config, alerts=())  # their secrets stay here
        return rows, Portion(config, rows.schema.json(), self.ledger, ask, answer)

    def _carried(self, others: Sequence[TableColumn]) -> DataFrame:
        """For every key of the target, as text, the values of others; of several rows of a key, those written last."""
        from pyspark.sql import Window
        from pyspark.sql import functions as f

        contract = carried_contract(self.terms, self.run.config.contract)
        rows = self.run.spark.table(self.run.tables.target.sql_name)
        keys = [ticked(name) for name in contract.key]
        last = Window.partitionBy(*keys).orderBy(
            f.col("_batch").desc_nulls_last(), f.col("_revision").desc_nulls_last()
        )
        rows = rows.withColumn("_place", f.row_number().over(last)).where("_place = 1")
        rows = rows.select(*keys, *(ticked(column.name) for column in others))
        types = {column.name: column for column in target_columns(contract)}
        columns = (*(types[name] for name in contract.key), TableColumn(KEY, "string", ""))
        listed = ", ".join(map(name_sql, contract.key))
        sql = f"SELECT {listed}, {contract_key_sql(contract)} AS {KEY} FROM {RELATION}"
        texts = rows.select(*keys).mapInArrow(partial(run_sql, sql), spark_schema(columns))
        return rows.join(texts, list(contract.key)).select(KEY, *(ticked(column.name) for column in others))


def rewriting_of(run: SparkPass, terms: Terms, absent: Mapping[str, tuple[str, ...]] | None = None) -> Rewriting:
    """A `Rewriting`, with the ledger as it is.

    Args:
        run: Its config has the new contract.
        terms: The contract that the tables carry.
        absent: By delivery id, the columns that a delivery lacks under the new contract, where they change.
    """
    ledger: pa.Table = run.tables.deliveries.rows().toArrow()
    ledger = ledger.cast(arrow_schema_of(run.tables.deliveries.columns))
    for name in _TOLD:
        place = ledger.schema.get_field_index(name)
        ledger = ledger.set_column(place, ledger.schema.field(place), pa.nulls(ledger.num_rows, pa.string()))
    if absent:
        pairs = zip(ledger["delivery_id"].to_pylist(), ledger["absent"].to_pylist(), strict=True)
        texts = [json.dumps(list(absent[one])) if one in absent else before for one, before in pairs]
        place = ledger.schema.get_field_index("absent")
        ledger = ledger.set_column(place, ledger.schema.field(place), pa.array(texts, pa.string()))
    return Rewriting(run, terms, ledger)


def stage_migration(run: SparkPass, batch: Batch) -> None:
    """Overwrite the stage with a migration, in one commit that also gives it the new contract's columns.

    Args:
        run: Its config has the new contract.
        batch: The migration; from here on it happens.

    Raises:
        CommitConflictError: Another pass has staged meanwhile; nothing was written.
        UsageError: As `_commit`.
    """
    table = run.tables.stage
    if table.standing(run.app_id)[1] >= batch.number:
        raise overtaken(batch)
    header, schema = header_rows(batch, [None for _ in batch.files]), arrow_schema_of(table.columns)
    rows = run.frame(pa.Table.from_batches([conformed(one, schema) for one in header.to_batches()]), table.columns)
    with _commit(run, batch) as told:
        table.replace(rows, told)
    if read_staged(run).run_id != batch.run_id:  # of two writes with one `txn` Delta skips the second
        raise overtaken(batch)
    run.probe("migrate.stage.committed")


def unfinished_migration(run: SparkPass, known: Mapping[SparkTable, TableState]) -> tuple[Batch, NamedMigration] | None:
    """The migration in the stage that lacks its done mark; None when there is none. Reads only.

    Args:
        run: The pass.
        known: The state of the existing tables.
    """
    stage, deliveries = known.get(run.tables.stage), known.get(run.tables.deliveries)
    if stage is None or deliveries is None:
        return None
    number = stage.batches.get(run.app_id, 0)
    if number <= deliveries.batches.get(run.app_id, 0):
        return None
    rows = run.spark.sql(f"SELECT _manifest FROM {run.tables.stage.sql_name} WHERE _kind = 'delivery'").take(2)
    if len(rows) != 1:
        return None
    batch = staged_batch(number, [str(rows[0]["_manifest"])])
    text = batch.manifests[0].migration
    return (batch, named_migration_from(text)) if text else None


def finish_migration(run: SparkPass, known: Mapping[SparkTable, TableState]) -> bool:
    """Do the commits that a staged migration lacks. Idempotent; called before anything else looks at the tables.

    Args:
        run: Its config must have the contract that the migration leads to.
        known: The state of the existing tables.

    Returns:
        Whether there was one.

    Raises:
        ConfigError: The config has another contract, or reads values in another way.
        ForeignChangeError: Somebody else wrote to the history meanwhile.
    """
    found = unfinished_migration(run, known)
    if found is None:
        return False
    batch, migration = found
    if terms_of(run.config.contract).text != migration.after:
        raise _changed_since(batch, migration, "[contract] was", "[contract]")
    _log.info("finishing a migration of the tables", batch=batch.number)
    commit_migration(run, batch, migration)
    return True


def commit_migration(run: SparkPass, batch: Batch, migration: NamedMigration) -> None:
    """Commit what a migration lacks: history, target, rejects and, last, deliveries.

    Args:
        run: Its config has the new contract.
        batch: As it is staged.
        migration: Likewise.
    """
    tables, rewrites = run.tables, not run.config.appends
    terms = terms_in(migration.before)
    if terms is None:
        raise TableError("the stage holds a migration from no contract", hint="restore orders_stage from a backup")
    if run.due(tables.history, batch):
        version = _same_rows(tables.history, migration.version)
        if migration.readings != readings_of(run.config.contract, run.config.vendors):
            raise _changed_since(batch, migration, "[contract] or [[vendors]] were", "them")
        if rewrites:
            rows = rewriting_of(run, terms).history(version)
            with _commit(run, batch) as told:
                tables.history.replace(rows, told)
        else:
            _widened(run, tables.history, batch)
        _done(run, tables.history, batch, "history")
    if tables.history.state().properties.get(CONTRACT) != migration.after:
        tables.history.alter((), {CONTRACT: migration.after})
        run.probe("migrate.contract.committed")
    if run.due(tables.target, batch):
        if rewrites:
            history = run.spark.table(tables.history.sql_name)
            done = tables.deliveries.standing(run.app_id)[1]
            rows = rewriting_of(run, terms, migration.absent).target(history, done)
            with _commit(run, batch) as told:
                tables.target.replace(rows, told)
        else:
            _widened(run, tables.target, batch)
        _done(run, tables.target, batch, "target")
    if run.due(tables.rejects, batch):
        with _commit(run, batch) as told:
            mark_batch(run, tables.rejects, batch, _STEP, told)
        _done(run, tables.rejects, batch, "rejects")
    if run.due(tables.deliveries, batch):
        _amend_deliveries(run, batch, migration)
        _done(run, tables.deliveries, batch, "deliveries")
    mark_archived(run, batch, {})


# -- parts ------------------------------------------------------------------------------------------------------------


def _answered(asked: tuple[DataFrame, Portion], columns: Sequence[TableColumn]) -> DataFrame:
    rows, portion = asked
    return rows.mapInArrow(portion, spark_schema(columns))


@contextmanager
def _commit(run: SparkPass, batch: Batch) -> Iterator[Told]:
    """`SparkPass.commit`, where the session lets a commit say which batch it is of: the rows do not show a migration.

    Raises:
        UsageError: It does not; nothing was written.
    """
    with run.commit(batch, _STEP) as told:
        if not run.carries_txn:
            raise UsageError(
                "this session does not allow the settings by which a commit says which batch it is of",
                hint="nothing was written; migrate on compute that allows spark.databricks.delta.write.txnAppId, such "
                "as a cluster of your own",
            )
        yield told


def _done(run: SparkPass, table: SparkTable, batch: Batch, role: str) -> None:
    run.saw(table, {run.app_id: batch.number})
    run.probe(f"migrate.{role}.committed")


def _widened(run: SparkPass, table: SparkTable, batch: Batch) -> None:
    """Add the missing columns to a table that keeps its rows, and mark that it has the batch."""
    state = table.state()
    present = [column.name for column in declared_columns(state.schema)]
    table.alter([(column.name, column.type) for column in lacking(table.columns, present)], {})
    with _commit(run, batch) as told:
        mark_batch(run, table, batch, _STEP, told)


def _amend_deliveries(run: SparkPass, batch: Batch, migration: NamedMigration) -> None:
    """Append the migration itself, and say of other deliveries what they lack, in one commit: the done mark."""
    table = run.tables.deliveries
    rows = delivery_rows(batch, {one.delivery_id: RowCounts() for one in batch.manifests})
    told = pa.array([migration.effect] * rows.num_rows, pa.string())
    rows = rows.set_column(rows.schema.get_field_index("migrated"), "migrated", told)
    both = run.frame(rows, table.columns)
    if migration.absent:
        changed = {
            "delivery_id": pa.array(list(migration.absent), pa.string()),
            "absent": pa.array([json.dumps(list(names)) for names in migration.absent.values()], pa.string()),
        }
        lacks = run.spark.createDataFrame(pa.table(changed), schema="delivery_id STRING, absent STRING")
        both = both.unionByName(lacks, allowMissingColumns=True)
    with _commit(run, batch):
        merge_deliveries(run, both, ("absent",))
    run.deliveries_changed()


def _same_rows(table: SparkTable, since: int) -> int:
    """The newest version of a table that must still hold the rows that it had at a version.

    Raises:
        ForeignChangeError: Somebody else wrote to it.
    """
    newer = list(takewhile(lambda commit: commit.version > since, table.commits()))
    newest = newer[0].version if newer else since
    if any(commit.operation not in KEEPS_ROWS for commit in newer):
        before, now = (
            table.spark.sql(f"SELECT * FROM {table.sql_name} VERSION AS OF {one}") for one in (since, newest)
        )
        if not same_bags(before, now):
            raise ForeignChangeError(
                f"somebody else wrote to {table.name} while it was brought to another contract",
                hint=f"RESTORE TABLE {table.sql_name} TO VERSION AS OF {since}, then run ordertrail run: it finishes "
                "the migration",
            )
    return newest


def same_bags(left: DataFrame, right: DataFrame) -> bool:
    """Whether two DataFrames have the same columns and the same rows, each as often."""
    if left.columns != right.columns:
        return False
    return not (left.exceptAll(right).head(1) or right.exceptAll(left).head(1))


def _changed_since(batch: Batch, migration: NamedMigration, what: str, it: str) -> ConfigError:
    return ConfigError(
        f"batch {batch.number}, which changes the tables to another contract ({'; '.join(migration.steps)}), is not "
        f"finished, and {what} changed since",
        hint=f"put {it} back as it was for ordertrail migrate --apply, then run ordertrail run: it finishes the batch",
    )
