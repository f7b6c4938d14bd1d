"""Weighs a small batch when only Spark reads the tables: its rows, and the target's of its keys, come to the driver.

`local.weigh` weighs them, on tables in a scratch folder that hold just these rows. So a small batch costs Spark one
query of the target, and the commits. The query needs only the keys, so it runs beside the commit of the stage. It reads
the target as it was when the tables were opened; when the load finds another version, Spark is asked again.
"""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from msgspec import Struct

from ordertrail.delta.alter import alter
from ordertrail.delta.snapshot import Snapshot
from ordertrail.delta.table import Change, Table, scan_sql
from ordertrail.engines.local.session import Session
from ordertrail.engines.local.session import tables_of as local_tables
from ordertrail.engines.spark.changes import frame_of
from ordertrail.engines.spark.tables import ticked
from ordertrail.engines.spark.work import SparkPass
from ordertrail.model import Batch, Contract, no_probe
from ordertrail.parse.database import connect, release
from ordertrail.rules.accepted import recorded_sql
from ordertrail.rules.others import others_of
from ordertrail.rules.placing import contract_key_sql
from ordertrail.rules.sql import name_sql
from ordertrail.rules.tables import APP_ID, TableColumn, stage_columns, target_columns

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


class Fetched(Struct, frozen=True):
    """Rows of the target for some keys.

    Attributes:
        rows: Our columns, and those of others that can be kept.
        others: The latter.
    """

    rows: pa.Table
    others: tuple[TableColumn, ...]


class LookAhead:
    """The target's rows of a batch's keys, which a thread fetches while the batch is being staged. It only reads.

    Args:
        run: The pass.
        batch: Its number.
        staged: The rows of its stage.
    """

    def __init__(self, run: SparkPass, batch: int, staged: pa.Table) -> None:
        self._batch = batch
        contract = run.config.contract
        rows = staged.filter(pc.equal(staged["_kind"], "row")).select(list(contract.key))
        self._keys = rows.group_by(list(contract.key), use_threads=False).aggregate([])
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ordertrail-look-ahead")
        self._found = self._pool.submit(self._fetch, run)

    def at(self, batch: Batch, version: int) -> Fetched | None:
        """The rows, once they are here; None when they are of another batch, or of another version of the target.

        Raises:
            PySparkException, Py4JError: Spark could not read them.
        """
        found_version, fetched = self._found.result()
        return fetched if (self._batch, found_version) == (batch.number, version) else None

    def close(self) -> None:
        """Wait for the thread. Idempotent."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _fetch(self, run: SparkPass) -> tuple[int, Fetched]:
        contract, version = run.config.contract, run.target_version
        return version, fetch(run, version, run.frame(self._keys, key_columns(contract)))


def fetch(run: SparkPass, version: int, keys: DataFrame) -> Fetched:
    """The target's rows of some keys, at a version.

    Args:
        run: The pass.
        version: Of the target.
        keys: Each once, with the columns `key_columns`.
    """
    target = run.tables.target
    rows = target.rows(version, others=True)
    others = others_of(rows.schema.json(), target.columns)
    return Fetched(of_keys(rows, keys, run.config.contract).toArrow(), others)


def of_keys(rows: DataFrame, keys: DataFrame, contract: Contract) -> DataFrame:
    """The rows of some keys; `keys` has the columns `key_columns`."""
    from pyspark.sql import functions as f

    wanted = keys.toDF(*(f"_wanted{i}" for i in range(len(contract.key))))
    same = [f.col(ticked(name)) == f.col(f"_wanted{i}") for i, name in enumerate(contract.key)]
    return rows.join(f.broadcast(wanted), same, "left_semi")


def key_columns(contract: Contract) -> list[TableColumn]:
    """The columns of the key, in the contract's order of them."""
    columns = {column.name: column for column in target_columns(contract)}
    return [columns[name] for name in contract.key]


class FetchedTables:
    """`Reads` on the rows of the batch's keys, in tables of a temporary folder.

    Attributes:
        session: On these tables; the stage holds the batch.

    Args:
        run: The pass in Spark.
        batch: As it is staged.
        stage_version: The version of the stage that has the batch.
    """

    def __init__(self, run: SparkPass, batch: Batch, stage_version: int) -> None:
        self._run = run
        self._batch = batch
        self._held = ExitStack()
        scratch = Path(self._held.enter_context(tempfile.TemporaryDirectory(prefix="ordertrail-")))
        config = run.config.embedded_in(scratch / "tables")
        con = connect(config.threads, config.memory_limit_mb, scratch / "spill")
        self._held.callback(release, con)
        pool = self._held.enter_context(ThreadPoolExecutor(max_workers=1))
        self.session = Session(config, con, pool, local_tables(config), run.app_id, no_probe)
        self._history: Snapshot | None = None
        for table in self.session.tables.all:
            table.create({APP_ID: run.app_id})
        self._put(self.session.tables.stage, run.staged_here(batch, stage_version))

    def target(self, version: int) -> Snapshot:
        """See `Reads.target`; the deliveries come with it."""
        here = self.session.tables
        self._put(here.deliveries, self._run.deliveries())
        found = self._looked_up(version) or fetch(self._run, version, self._keys(None))
        if found.others:
            alter(here.target, here.target.snapshot(), found.others)
        self._put(here.target, found.rows)
        return here.target.snapshot()

    def history(self, keys: str) -> Snapshot:
        """See `Reads.history`. For a correction these are the rows of all keys that it touches."""
        if self._history is None:
            rows = of_keys(self._past(), self._keys(keys), self._run.config.contract)
            self._put(self.session.tables.history, rows.toArrow())
            self._history = self.session.tables.history.snapshot()
        return self._history

    def close(self) -> None:
        """See `Reads.close`."""
        self._held.close()

    def _past(self) -> DataFrame:
        return self._run.tables.history.rows().where(recorded_sql(self._batch.number - 1))

    def _looked_up(self, version: int) -> Fetched | None:
        """What was fetched beside the stage; asked for once, so that a load that begins again asks Spark."""
        ahead, self._run.ahead = self._run.ahead, None
        if ahead is None:
            return None
        try:
            return ahead.at(self._batch, version)
        finally:
            ahead.close()

    def _keys(self, only: str | None) -> DataFrame:
        """Some staged keys, and those that a correction is about, each once.

        `only` is SQL of the staged keys as text, None or "" for all.
        """
        from pyspark.sql import functions as f

        contract, session = self._run.config.contract, self.session
        staged = scan_sql(session.con, session.tables.stage.snapshot(), stage_columns(contract))
        names = ", ".join(map(name_sql, contract.key))
        some = f" AND {contract_key_sql(contract)} IN ({only})" if only else ""
        found = f"SELECT DISTINCT {names} FROM {staged} WHERE _kind = 'row'{some}"
        keys = frame_of(self._run, session.con, found, key_columns(contract))
        if (manifest := self._batch.corrects) is not None and manifest.correction is not None:
            concerned = self._past().where(f.col("_delivery_id").isin(list(manifest.correction.of)))
            keys = keys.unionByName(concerned.select(*map(ticked, contract.key))).distinct()
        return keys

    def _put(self, table: Table, rows: pa.Table) -> None:
        path = table.new_path("rows")
        pq.write_table(rows, path)
        base = table.snapshot()
        table.commit(base, Change(self.session.txn(self._batch), "WRITE", [table.added(path, rows.num_rows)]))
