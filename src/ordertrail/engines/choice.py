"""Which engine a config names. An engine's libraries are imported when it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ordertrail.config import Config
from ordertrail.engines.base import Engine
from ordertrail.model import Probe

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def engine_of(config: Config, probe: Probe, session: SparkSession | None = None) -> Engine:
    """The engine of one pass.

    Args:
        config: Names it.
        probe: Called after each effect.
        session: For Spark; None takes the active one, or begins one.

    Raises:
        UsageError: Its libraries are not installed, or Spark cannot begin.
    """
    if config.engine == "embedded":
        from ordertrail.engines.embedded import EmbeddedEngine

        return EmbeddedEngine(config, probe)
    if config.spark.tables == "path":
        from ordertrail.engines.spark_folders import FolderEngine

        return FolderEngine(config, probe, session)
    from ordertrail.engines.spark import SparkEngine

    return SparkEngine(config, probe, session)
