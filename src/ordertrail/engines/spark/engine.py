"""The Spark engine: tables that only Spark reads, and large batches of all others; on a laptop, a cluster, Databricks.

The steps of a batch, and the file of this package where each is: stage (`stage`), load (`load`), record
(`record`). Rules are those of the embedded engine: rows go through the row kernel (`workers`), sets through
the SQL of `rules.outcomes`; only applying the change set is Delta's own `MERGE`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from ordertrail.config import Config
from ordertrail.engines.base import Admit, Ledger, Staged, StageRequest, anyone
from ordertrail.engines.ledger import agreed_app_id, app_id_in, reset_warnings
from ordertrail.engines.local.session import adopt_id
from ordertrail.engines.local.whole import require_whole
from ordertrail.engines.spark.causes import RowsLostError
from ordertrail.engines.spark.constraints import constraints_of
from ordertrail.engines.spark.load import Load
from ordertrail.engines.spark.record import mark_archived, record_batch
from ordertrail.engines.spark.schema import bring_up_to_date
from ordertrail.engines.spark.session import lost_for_good, session_of, spark_errors
from ordertrail.engines.spark.stage import read_staged, stage_batch
from ordertrail.engines.spark.tables import SparkTable, TableState, tables_of
from ordertrail.engines.spark.work import SparkPass
from ordertrail.errors import TableError, UnsupportedTableError
from ordertrail.model import Batch, Probe, RowCounts, no_probe
from ordertrail.parse.compiled import refuse_unreadable
from ordertrail.rules.losses import ROLES, Standing
from ordertrail.rules.planning import LoadedFile
from ordertrail.rules.tables import APP_ID

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ATTEMPTS = 4
"""How often a step is done again whose rows an executor took with it."""

RETENTION = "delta.setTransactionRetentionDuration"
"""A table property that makes Delta forget `txn`s; refused on our tables."""


class SparkEngine:
    """`Engine` on Spark and Delta Lake.

    Attributes:
        run: The pass, for who shares it.

    Args:
        config: Names, folders, contract and limits.
        probe: Called after each effect.
        session: Used as it is, and left open; None takes the active one, or begins one.

    Raises:
        UsageError: Spark is not installed, or cannot begin.
    """

    def __init__(self, config: Config, probe: Probe = no_probe, session: SparkSession | None = None) -> None:
        spark = session or session_of(config)
        self.run = SparkPass(config, spark, tables_of(spark, config), probe)
        self._load: Load | None = None

    def open(self, admit: Admit = anyone) -> Ledger:
        """See `Engine.open`."""
        refuse_unreadable(self.run.config)
        with spark_errors("cannot open the tables"):
            run = self.run
            states = self._made(admit)
            run.constraints = constraints_of(run.config.contract, states[1].properties)
            batches = [state.batches.get(run.app_id, 0) for state in states]
            staged, target, *_, done = batches
            archived = states[-1].batches.get(run.archive_id, 0)
            run.resets = self._foreign_resets(target, done)
            return Ledger(staged, done, archived, max(batches), run.resets, run.app_id)

    def loaded_files(self, sizes_bytes: Sequence[int]) -> tuple[LoadedFile, ...]:
        """See `Engine.loaded_files`."""
        with spark_errors("cannot read the deliveries"):
            known = self.run.deliveries()
        sizes = pa.array(sorted(set(sizes_bytes)), pa.int64())
        known = known.filter(pc.and_(pc.equal(known["state"], "loaded"), pc.is_in(known["size_bytes"], sizes)))
        times_us = known["modified_at"].cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_pylist()
        return tuple(
            LoadedFile(
                delivery_id=row["delivery_id"],
                vendor=row["vendor"],
                sha256=row["sha256"],
                contract_hash=row["contract_hash"],
                file_key=row["file_key"],
                clean_path=row["path"],
                mtime_ms=time_us // 1000,
                rows_parsed=row["rows_parsed"],
                size_bytes=row["size_bytes"],
            )
            for row, time_us in zip(known.to_pylist(), times_us, strict=True)
        )

    def stage(self, request: StageRequest) -> Staged:
        """See `Engine.stage`."""
        with lost_for_good(), spark_errors("cannot stage the batch"):
            return stage_batch(self.run, request)

    def staged(self) -> Batch:
        """See `Engine.staged`."""
        with spark_errors("cannot read the stage"):
            return read_staged(self.run)

    def load(self, batch: Batch) -> Mapping[str, RowCounts]:
        """See `Engine.load`."""
        for _ in range(ATTEMPTS - 1):
            with suppress(RowsLostError):
                return self._loaded(batch)
        with lost_for_good():
            return self._loaded(batch)

    def record(self, batch: Batch, counts: Mapping[str, RowCounts]) -> None:
        """See `Engine.record`."""
        if self._load is None or self._load.batch.number != batch.number:
            raise TableError(f"batch {batch.number} is not loaded", hint="load it first")
        for _ in range(ATTEMPTS - 1):
            with suppress(RowsLostError):
                self._record(batch, counts)
                return
            with suppress(RowsLostError):
                self._loaded(batch)
        with lost_for_good():
            self._record(batch, counts)

    def archived(self, batch: Batch, elsewhere: Mapping[str, str | None]) -> None:
        """See `Engine.archived`."""
        with spark_errors("cannot note what is archived"):
            mark_archived(self.run, batch, elsewhere)

    def close(self) -> None:
        """See `Engine.close`."""
        with spark_errors("cannot let go of Spark"):
            self._let_go()
            self.run.close()

    # -- parts ----------------------------------------------------------------------------------------------

    def _loaded(self, batch: Batch) -> Mapping[str, RowCounts]:
        with spark_errors(f"cannot load batch {batch.number}"):
            self._let_go()
            self._load = Load(self.run, batch)
            return self._load.run()

    def _record(self, batch: Batch, counts: Mapping[str, RowCounts]) -> None:
        assert self._load is not None
        with spark_errors(f"cannot record batch {batch.number}"):
            record_batch(self.run, self._load, counts)

    def _let_go(self) -> None:
        if self._load is not None:
            self._load.close()
            self._load = None

    def _made(self, admit: Admit) -> list[TableState]:
        """All five tables as they stand; those that were missing are made, of the application id of the others."""
        run = self.run
        tables = run.tables.all
        known = {table: table.state() for table in tables if table.exists()}
        app_ids: list[str] = []
        for table, state in known.items():
            app_ids.append(app_id_in(state.properties, table.name))
            _require_lasting(table.name, state)
        place = f"{run.config.catalog}.{run.config.schema}"
        found = agreed_app_id(app_ids, place)
        run.app_id = found or ""
        _require_whole(run, known)
        run.app_id = admit(found)
        for table in bring_up_to_date(run, known):
            known[table] = table.state()
        missing = [table for table in tables if table not in known]
        properties = {APP_ID: run.app_id, "ordertrail.pipeline": run.config.name}
        for table in missing:
            table.create(properties, vectors=table is run.tables.target and run.config.deletion_vectors)
        return [known.get(table) or table.state() for table in tables]

    def _foreign_resets(self, target: int, done: int) -> tuple[str, ...]:
        """Warnings about commits of others that took rows of the target away wholesale, until it is written anew."""
        run = self.run
        name = run.tables.target.name
        ours = {run.app_id, adopt_id(run.app_id)}
        if not target and not done:
            return ()
        since: list[tuple[int, str, str]] = []
        for one in run.tables.target.commits():
            if ours & one.batches.keys():
                return tuple(dict.fromkeys((*reset_warnings(name, since), *one.resets)))
            if not one.batches:
                since.append((one.version, one.operation, one.mode))
        return reset_warnings(name, since)


def _require_whole(run: SparkPass, known: Mapping[SparkTable, TableState]) -> None:
    """Refuse tables of which one is lost, see `whole.require_whole`."""
    found: list[Standing] = []
    done = max((state.batches.get(run.app_id, 0) for state in known.values()), default=0)
    if (ledger := known.get(run.tables.deliveries)) is not None:
        done = ledger.batches.get(run.app_id, 0)
    for role, table in zip(ROLES, run.tables.all, strict=True):
        state = known.get(table)
        # Rows alone do not tell that a batch without any is there.
        known_batch = state is not None and (state.by_commits or table is run.tables.deliveries)
        batch = state.batches.get(run.app_id, 0) if state is not None else None
        found.append(Standing(role, table.name, batch if known_batch or state is None else max(done, batch or 0)))
    try:
        require_whole(found)
    except TableError as error:
        hint = "restore the table as its catalog offers it (UNDROP TABLE, RESTORE TABLE), or from a backup"
        raise TableError(error.message, hint=error.hint if run.config.in_folders else hint) from error


def _require_lasting(name: str, state: TableState) -> None:
    if RETENTION in state.properties:
        raise UnsupportedTableError(
            f"the table {name} has the property {RETENTION}: batches that are loaded would be forgotten",
            hint=f"ALTER TABLE {name} UNSET TBLPROPERTIES ('{RETENTION}')",
        )
