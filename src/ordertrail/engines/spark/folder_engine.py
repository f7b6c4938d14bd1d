"""The Spark engine on tables in folders: a small batch is the embedded engine's, only the target is Spark's to write.

Folders that the driver reads as files need no Spark to be read, and a batch that fits the driver needs none to be
weighed: what Spark adds is Delta's own `MERGE`. A batch above `spark.driver_max_mb` goes to the executors
(`spark.SparkEngine`), as every batch does where only Spark reads the tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from ordertrail.config import Config
from ordertrail.delta.snapshot import Snapshot
from ordertrail.engines.base import Admit, Ledger, Staged, StageRequest, anyone
from ordertrail.engines.embedded.engine import EmbeddedEngine
from ordertrail.engines.embedded.load import Load
from ordertrail.engines.local.session import Session
from ordertrail.engines.spark.changes import changes_of
from ordertrail.engines.spark.engine import SparkEngine
from ordertrail.engines.spark.merge import apply
from ordertrail.engines.spark.session import spark_errors
from ordertrail.engines.spark.work import SparkPass, is_small, is_small_batch
from ordertrail.model import Batch, Probe, RowCounts, no_probe

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


class FolderEngine(EmbeddedEngine):
    """`Engine` on Spark and Delta Lake, for tables in folders.

    Args:
        config: Names, folders, contract and limits.
        probe: Called after each effect.
        session: As of `SparkEngine`.

    Raises:
        UsageError: Spark is not installed, or cannot begin.
    """

    def __init__(self, config: Config, probe: Probe = no_probe, session: SparkSession | None = None) -> None:
        self._spark = SparkEngine(config, probe, session)
        super().__init__(config, probe)

    @cached_property
    def _cluster(self) -> SparkEngine:
        """What large batches go to."""
        self._spark.open()
        return self._spark

    def open(self, admit: Admit = anyone) -> Ledger:
        """See `Engine.open`."""
        ledger = super().open(admit)
        self._spark.run.app_id, self._spark.run.resets = self._session.app_id, self.resets
        return ledger

    def stage(self, request: StageRequest) -> Staged:
        """See `Engine.stage`."""
        fresh = [c.identity.size_bytes for c in request.candidates if c.number not in request.duplicates]
        return super().stage(request) if is_small(self._session.config, fresh) else self._cluster.stage(request)

    def load(self, batch: Batch) -> Mapping[str, RowCounts]:
        """See `Engine.load`."""
        return super().load(batch) if is_small_batch(self._session.config, batch) else self._cluster.load(batch)

    def record(self, batch: Batch, counts: Mapping[str, RowCounts]) -> None:
        """See `Engine.record`."""
        if is_small_batch(self._session.config, batch):
            super().record(batch, counts)
        else:
            self._cluster.record(batch, counts)

    def close(self) -> None:
        """See `Engine.close`."""
        self._spark.close()
        super().close()

    def new_load(self, batch: Batch) -> Load:
        """A load that Spark applies."""
        return _MergedLoad(self._session, batch, self._spark.run)


class _MergedLoad(Load):
    """The embedded engine's load, applied by `MERGE`."""

    def __init__(self, session: Session, batch: Batch, run: SparkPass) -> None:
        super().__init__(session, batch)
        self._run = run

    def share(self, before: Snapshot) -> None:
        """See `Load.share`: Spark writes all that comes into the target."""

    def apply(self, before: Snapshot) -> None:
        """See `Load.apply`."""
        with spark_errors(f"cannot load batch {self.batch.number}"):
            apply(self._run, self.batch, changes_of(self._run, self, before))
