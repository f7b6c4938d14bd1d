"""Load on Spark: give every staged row its outcome and bring the target up to date in one `MERGE`.

A small batch is weighed on the driver (`weigh_driver`), a large one in the executors (`weigh_cluster`); how the
change set is applied: `merge`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

from ordertrail.engines.batch_rows import check_balance, counted
from ordertrail.engines.spark.merge import Changes, apply
from ordertrail.engines.spark.weigh_cluster import ClusterWeighing
from ordertrail.engines.spark.weigh_driver import DriverWeighing
from ordertrail.engines.spark.work import SparkPass, is_small_batch
from ordertrail.errors import ForeignChangeError
from ordertrail.model import Batch, RowCounts

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


class Weighing(Protocol):
    """What becomes of every row of a staged batch. All methods read only."""

    def weigh(self, target_version: int) -> Mapping[str, RowCounts]:
        """Give every row its outcome against the target at a version, without this batch.

        Returns:
            Rows by outcome, by delivery id.

        Raises:
            BalanceError: P3 does not hold.
        """
        ...

    def weigh_again(self, target_version: int) -> Mapping[str, RowCounts]:
        """As `weigh`, against the target at the version that carries the batch's `txn`."""
        ...

    def changes(self) -> Changes:
        """What is to be applied to the target; after `weigh`."""
        ...

    def history(self) -> DataFrame:
        """The batch's rows of `orders_history`; after `weigh` or `weigh_again`."""
        ...

    def rejects(self) -> DataFrame:
        """The batch's rows of `orders_rejects`."""
        ...

    def close(self) -> None:
        """Let go of everything. Idempotent."""
        ...


class Load:
    """One batch's load.

    Args:
        run: The pass.
        batch: As it is staged.
    """

    def __init__(self, run: SparkPass, batch: Batch) -> None:
        version, staged = run.tables.stage.standing(run.app_id)
        if staged != batch.number:
            raise ForeignChangeError(
                f"the stage holds batch {staged}, not {batch.number}",
                hint="another pass has staged meanwhile; run again",
            )
        self.batch = batch
        self._run = run
        small = is_small_batch(run.config, batch)
        self.weighing: Weighing = (DriverWeighing if small else ClusterWeighing)(run, batch, version)

    def run(self) -> Mapping[str, RowCounts]:
        """See `Engine.load`."""
        run = self._run
        recorded = self._recorded()
        version, loaded = run.tables.target.standing(run.app_id)
        if loaded >= self.batch.number:
            counts = recorded or self.weighing.weigh_again(self._committed())
        else:
            counts = self.weighing.weigh(version)
            apply(run, self.batch, self.weighing.changes())
        return recorded or counts

    def close(self) -> None:
        """Let go of everything. Idempotent."""
        self.weighing.close()

    def _committed(self) -> int:
        """The target's version that carries the batch, of a pass that did not live to record it."""
        run = self._run
        version = run.tables.target.version_of(run.app_id, self.batch.number)
        if version is None:
            raise ForeignChangeError(
                f"the commit of batch {self.batch.number} is gone from the history of {run.tables.target.name}",
                hint="run ordertrail rebuild, then run again: it takes the batch from the stage",
            )
        return version

    def _recorded(self) -> Mapping[str, RowCounts] | None:
        """The outcomes that the history has of this batch, None when it has not the batch yet; they are what counts."""
        run = self._run
        if run.tables.history.standing(run.app_id)[1] < self.batch.number:
            return None
        rows = run.tables.history.rows().where(f"_batch = {self.batch.number}")
        found = rows.groupBy("_delivery_id", "_outcome").count().collect()
        counts = counted(self.batch, [tuple(row) for row in found])
        check_balance(counts)
        return counts
