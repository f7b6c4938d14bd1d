"""Decides who parses and weighs a batch, this process or Spark's executors; once, when the batch is staged.

The decision is stored in the batch's manifests, so that a pass that goes on with the batch takes the same way, whatever
the config says by then.
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
"""Spark's executors parse and weigh, and no row of the batch passes through the driver."""


def route_of(config: Config, sizes_bytes: Iterable[int]) -> Route:
    """The way of a batch that is about to be staged.

    Args:
        config: Its `driver_max_bytes` is the largest batch for the driver.
        sizes_bytes: Sizes of the files to parse; files that were loaded before are not parsed.
    """
    return DRIVER if sum(sizes_bytes) <= config.spark.driver_max_bytes else EXECUTORS


def route_of_batch(config: Config, batch: Batch) -> Route:
    """The way of a staged batch, from its manifests.

    Batches of the embedded engine, and of releases that did not record the way, are judged by the size of their files.
    """
    noted = {manifest.route for manifest in batch.manifests}
    if EXECUTORS in noted:
        return EXECUTORS
    if DRIVER in noted:
        return DRIVER
    fresh = (m.identity.size_bytes for m in batch.manifests if m.state is not State.DUPLICATE)
    return route_of(config, fresh)
