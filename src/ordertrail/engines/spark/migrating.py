"""A migration of tables by name, to which only Spark has access: what `mend.migration` asks of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from msgspec.structs import replace

from ordertrail.config import Config
from ordertrail.delta.table import duckdb_errors
from ordertrail.engines.ledger import adopt_id
from ordertrail.engines.local.convert import converted_columns
from ordertrail.engines.local.migrating import Converted
from ordertrail.engines.spark.books import existing
from ordertrail.engines.spark.migrate import (
    KEEPS_ROWS,
    Rewriting,
    commit_migration,
    finish_migration,
    rewriting_of,
    same_bags,
    stage_migration,
    unfinished_migration,
)
from ordertrail.engines.spark.schema import bring_up_to_date, declared_tables, require_same_mode
from ordertrail.engines.spark.session import lost_for_good, spark_errors
from ordertrail.engines.spark.tables import SparkTable, TableState, laid_out_by, tables_of, ticked
from ordertrail.engines.spark.work import SparkPass
from ordertrail.errors import TableError
from ordertrail.model import Batch, Probe
from ordertrail.rules.agreement import agree, refuse_taken
from ordertrail.rules.change_feed import FEED
from ordertrail.rules.constraints import Constraint, constraints_of
from ordertrail.rules.migration import Step, carried_contract, effect_of
from ordertrail.rules.named_migration import NamedMigration, readings_of
from ordertrail.rules.schema import CONTRACT, DeclaredTable, Terms, accepted_terms, declared_columns, terms_of

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_REPLACES = ("CREATE OR REPLACE TABLE AS SELECT", "REPLACE TABLE AS SELECT")
"""Operations of a commit of ours that writes the target anew."""


class NamedMigrating:
    """`Migrating` on tables by name.

    Args:
        run: The pass.

    Raises:
        TableError: A table is not there, or not what it should be.
    """

    def __init__(self, run: SparkPass) -> None:
        self._run = run
        self._known: dict[SparkTable, TableState] = {}
        self._terms: Terms | None = None
        self._rewriting: Rewriting | None = None
        self._deliveries = ""
        self._look()

    @property
    def config(self) -> Config:
        """See `Migrating.config`."""
        return self._run.config

    @property
    def terms(self) -> Terms:
        """See `Migrating.terms`."""
        if self._terms is None:
            text = self._state(self._run.tables.history).properties.get(CONTRACT)
            self._terms = accepted_terms(text, declared_tables(self._known), self.config.contract)
        return self._terms

    @property
    def highest(self) -> int:
        """See `Migrating.highest`."""
        return max(state.batches.get(self._run.app_id, 0) for state in self._known.values())

    @property
    def under_way(self) -> bool:
        """See `Migrating.under_way`."""
        tables = self._run.tables
        staged, done = (self._batch(table) for table in (tables.stage, tables.deliveries))
        return staged > done and unfinished_migration(self._run, self._known) is None

    @property
    def target_columns(self) -> tuple[str, ...]:
        """See `Migrating.target_columns`."""
        return tuple(one.name for one in declared_columns(self._state(self._run.tables.target).schema))

    @property
    def feeds_changes(self) -> bool:
        """See `Migrating.feeds_changes`."""
        return self._state(self._run.tables.target).properties.get(FEED, "").lower() == "true"

    def finish(self) -> None:
        """See `Migrating.finish`."""
        if finish_migration(self._run, self._known):
            self._look()

    def convert(self) -> Converted:
        """See `Migrating.convert`."""
        run, contract = self._run, self.config.contract
        if unfinished_migration(run, self._known) is not None:
            raise TableError("a migration to another contract is not finished", hint="ordertrail run finishes it")
        require_same_mode(run, self._known)
        before = carried_contract(self.terms, contract)
        old = tables_of(run.spark, replace(run.config, contract=before))
        there = [
            DeclaredTable(table.name, declared_columns(self._state(now).schema), table.columns)
            for table, now in zip(old.all, run.tables.all, strict=True)
        ]
        agree(there, self.terms.text, before, lambda _: False, merged=True)
        refuse_taken(declared_tables(self._known), self.terms, contract)
        self._rewriting = rewriting_of(run, self.terms)
        return self._rewriting.survey(self._state(run.tables.history).version)

    def ask(self, sql: str) -> list[tuple[object, ...]]:
        """See `Migrating.ask`."""
        self._deliveries = self._deliveries or self._run.view(self._run.tables.deliveries.rows())
        return [tuple(row) for row in self._run.spark.sql(sql.format(deliveries=self._deliveries)).collect()]

    def refusals(self, steps: Sequence[Step]) -> Iterator[str]:
        """See `Migrating.refusals`."""
        if self.config.appends or all(step.by_itself or step.kind == "feed" for step in steps):
            return
        yield from self._of_others(steps)
        yield from self._of_layout()
        yield from self._of_constraints(steps)

    def foreign_write(self) -> tuple[int, str] | None:
        """See `Migrating.foreign_write`. Where rows are as the history says, nobody wrote any that would be lost."""
        run = self._run
        state = self._state(run.tables.target)
        adopted = adopt_id(run.app_id)
        for commit in run.tables.target.commits(state.recent):
            if adopted in commit.batches or (run.app_id in commit.batches and commit.operation in _REPLACES):
                break
            if run.app_id not in commit.batches and commit.operation not in KEEPS_ROWS:
                return None if self._is_fold() else (commit.version, commit.operation)
        return None

    def add_columns(self) -> None:
        """See `Migrating.add_columns`."""
        bring_up_to_date(self._run, self._known)

    def switch_feed(self, *, on: bool) -> None:
        """See `Migrating.switch_feed`."""
        if self.feeds_changes != on:
            self._run.tables.target.alter((), {FEED: "true" if on else "false"})
            self._run.probe("schema.feed")

    def carry_out(self, batch: Batch, steps: Sequence[Step], absent: Mapping[str, tuple[str, ...]]) -> None:
        """See `Migrating.carry_out`. The rows are computed after the stage's commit, from what it says."""
        run, contract = self._run, self.config.contract
        migration = NamedMigration(
            before=self.terms.text,
            after=terms_of(contract).text,
            steps=tuple(step.text for step in steps),
            version=self._state(run.tables.history).version,
            absent=dict(absent),
            effect=effect_of(steps).text,
            readings=readings_of(contract, run.config.vendors),
        )
        (manifest,) = batch.manifests
        batch = replace(batch, manifests=(replace(manifest, migration=migration.text),))
        stage_migration(run, batch)
        commit_migration(run, batch, migration)

    def _is_fold(self) -> bool:
        """Whether the target is the fold of the history under the contract that both carry."""
        run = replace(self._run)
        run.follow(carried_contract(self.terms, self.config.contract))
        rewriting = rewriting_of(run, self.terms)
        history = run.spark.table(run.tables.history.sql_name)
        names = [ticked(name) for name in (*run.config.contract.names, "_rescued")]
        wanted = rewriting.folded(history, self._batch(self._run.tables.deliveries)).select(*names)
        found = run.spark.table(run.tables.target.sql_name).select(*names)
        return same_bags(wanted, found)

    # -- what stands in the way -----------------------------------------------------------------------------

    def _of_others(self, steps: Sequence[Step]) -> Iterator[str]:
        """Columns of others on the target whose values would lose their rows."""
        assert self._rewriting is not None  # the steps come from it
        names = [column.name for column in self._rewriting.others()]
        if names and any(step.kind == "key" for step in steps):
            yield f"others added columns to the target ({', '.join(names)}), and their values go with the old key"

    def _of_layout(self) -> Iterator[str]:
        """Columns by which the files of a table are laid out, and which it would no longer have."""
        assert self._rewriting is not None
        tables, contract = self._run.tables, self.config.contract
        others = self._rewriting.others()
        fields = declared_columns(self._state(tables.history).schema)
        stay = {
            tables.target: (*tables.target.columns, *others),
            tables.history: converted_columns(fields, contract, self.terms),
        }
        for table, columns in stay.items():
            names = {column.name for column in columns}
            detail = self._run.spark.sql(f"DESCRIBE DETAIL {table.sql_name}").collect()[0].asDict()
            for kind, words in (("partitionColumns", "partitioned"), ("clusteringColumns", "clustered")):
                for name in laid_out_by(detail, kind):
                    if name not in names:
                        yield f"{table.name} is {words} by {name}, which it would not have any more"

    def _of_constraints(self, steps: Sequence[Step]) -> Iterator[str]:
        """The owner's constraints on the target that new rows would not meet, or that speak of other columns."""
        run = self._run
        properties = self._state(run.tables.target).properties
        drop = f"ALTER TABLE {run.tables.target.sql_name} DROP CONSTRAINT"
        touched = {step.before if step.kind == "rename" else step.column for step in steps if step.kind in _RESHAPES}
        usable: list[Constraint] = []
        for one in constraints_of(carried_contract(self.terms, self.config.contract), properties):
            if changed := touched & set(one.columns):
                yield (
                    f"the target's constraint {one.name} speaks of {', '.join(sorted(map(str, changed)))}, which is to "
                    f"change: {drop} {one.name} first"
                )
            else:
                usable.append(one)
        if not usable:
            return
        rewriting = self._rewriting
        assert rewriting is not None
        history = rewriting.history(self._state(run.tables.history).version)
        rows = rewriting.target(history, self._batch(run.tables.deliveries))
        counted = ", ".join(f"count_if(NOT coalesce({one.condition}, false)) AS `{i}`" for i, one in enumerate(usable))
        (broken,) = run.spark.sql(f"SELECT {counted} FROM {run.view(rows)}").collect()
        for one, number in zip(usable, broken, strict=True):
            if number:
                yield f"the target's constraint {one.name} ({one.condition}) refuses {number:,} of the new rows"

    # -- parts ----------------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Read the state of the tables."""
        run = self._run
        self._known, found = existing(run)
        self._terms, self._deliveries = None, ""
        if found is None:
            raise TableError(
                f"there are no tables of pipeline {run.config.name} in {run.config.catalog}.{run.config.schema}",
                hint="run a pass first: ordertrail run",
            )
        if missing := [table.name for table in run.tables.all if table not in self._known]:
            raise TableError(f"the tables {', '.join(missing)} are not there yet", hint="run a pass first")

    def _state(self, table: SparkTable) -> TableState:
        return self._known[table]

    def _batch(self, table: SparkTable) -> int:
        return self._state(table).batches.get(self._run.app_id, 0)


_RESHAPES = frozenset({"type", "rename", "drop"})


@contextmanager
def by_name(spark: SparkSession, config: Config, probe: Probe) -> Iterator[NamedMigrating]:
    """The five tables, whatever contract they carry.

    Args:
        spark: The session.
        config: Of the pipeline, with the new contract.
        probe: Called after every effect with its name.
    """
    doing = "cannot migrate the tables"
    run = SparkPass(config, spark, tables_of(spark, config), probe)
    with lost_for_good(), duckdb_errors(doing), spark_errors(doing):
        try:
            yield NamedMigrating(run)
        finally:
            run.close()
