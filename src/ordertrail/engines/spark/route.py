"""Who parses and weighs a batch: this process, or Spark's executors. Decided once, when the batch is staged.

The decision lies in the batch's manifests, so that a pass that goes on with the batch takes the same way, whatever the
config says by then.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Literal

from ordertrail.config import Config
from ordertrail.model import Batch, State

Route = Literal["driver", "executors"]

DRIVER: Final = "driver"
"""The process of the pass parses the files and weighs the rows, in DuckDB."""

EXECUTORS: Final = "executors"
"""Spark's executors do, and nothing of the batch passes the driver."""


def route_of(config: Config, sizes_bytes: Iterable[int]) -> Route:
    """The way of a batch that is to be staged.

    Args:
        config: Says up to which size a batch is the driver's.
        sizes_bytes: Of the files that are to be parsed; of those that were loaded before nobody parses a byte.
    """
    return DRIVER if sum(sizes_bytes) <= config.spark.driver_max_bytes else EXECUTORS


def route_of_batch(config: Config, batch: Batch) -> Route:
    """The way of a batch that is staged: what its manifests say.

    Batches of the embedded engine and of releases that did not note it are judged by the size of their files.
    """
    noted = {manifest.route for manifest in batch.manifests}
    if EXECUTORS in noted:
        return EXECUTORS
    if DRIVER in noted:
        return DRIVER
    fresh = (m.identity.size_bytes for m in batch.manifests if m.state is not State.DUPLICATE)
    return route_of(config, fresh)
