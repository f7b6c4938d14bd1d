"""Load on Spark: composes a batch's load from parts, depending on the batch's way."""

from __future__ import annotations

from ordertrail.engines.embedded.record import LocalRecorder
from ordertrail.engines.load import Load, require_staged
from ordertrail.engines.local.session import Session
from ordertrail.engines.local.weighing import weighing_of
from ordertrail.engines.spark.changes import LocalFrames
from ordertrail.engines.spark.merge import applier_of
from ordertrail.engines.spark.record import CatalogRecorder
from ordertrail.engines.spark.route import DRIVER, Route
from ordertrail.engines.spark.weigh_cluster import ClusterWeighing
from ordertrail.engines.spark.weigh_driver import FetchedTables
from ordertrail.engines.spark.work import SparkPass
from ordertrail.model import Batch


def load_in_folders(run: SparkPass, session: Session, batch: Batch) -> Load:
    """The load of a small batch whose tables this process reads: only the target is written by Spark.

    Args:
        run: The pass in Spark.
        session: The pass in this process.
        batch: As it is staged.

    Raises:
        ForeignChangeError: The stage does not hold it.
    """
    weighing = weighing_of(session, batch)
    applier = applier_of(run, batch, LocalFrames(run, weighing))
    return Load(batch, weighing, applier, LocalRecorder(weighing))


def load_through_spark(run: SparkPass, batch: Batch, route: Route) -> Load:
    """The load of a batch whose tables Spark reads and writes.

    Args:
        run: The pass.
        batch: As it is staged.
        route: The batch's way: a small batch is weighed here, on the rows of its keys.

    Raises:
        ForeignChangeError: The stage does not hold it.
    """
    version = run.staged_version(batch)
    if version is None:
        version, staged = run.tables.stage.standing(run.app_id)
        require_staged(staged, batch)
    if route == DRIVER:
        fetched = FetchedTables(run, batch, version)
        local = weighing_of(fetched.session, batch, fetched)
        frames = LocalFrames(run, local)
        return Load(batch, local, applier_of(run, batch, frames), CatalogRecorder(run, batch, frames))
    cluster = ClusterWeighing(run, batch, version)
    return Load(batch, cluster, applier_of(run, batch, cluster), CatalogRecorder(run, batch, cluster))
