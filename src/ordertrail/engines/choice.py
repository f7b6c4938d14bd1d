"""Which engine a config names. An engine's libraries are imported when it is asked for."""

from __future__ import annotations

from ordertrail.config import Config
from ordertrail.engines.base import Engine
from ordertrail.model import Probe


def engine_of(config: Config, probe: Probe) -> Engine:
    """The engine of one pass.

    Args:
        config: Names it.
        probe: Called after each effect.

    Raises:
        UsageError: Its libraries are not installed, or Spark cannot begin.
    """
    match config.engine:
        case "embedded":
            from ordertrail.engines.embedded import EmbeddedEngine

            return EmbeddedEngine(config, probe)
        case "spark":
            from ordertrail.engines.spark import SparkEngine

            return SparkEngine(config, probe)
