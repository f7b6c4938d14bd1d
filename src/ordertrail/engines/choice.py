"""Which engine a config names. An engine's libraries are imported when it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ordertrail.config import Config

if TYPE_CHECKING:
    from ordertrail.engines.base import Engine
    from ordertrail.engines.spark.session import SparkSession
    from ordertrail.model import Probe


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
        from ordertrail.engines.embedded.engine import EmbeddedEngine

        return EmbeddedEngine(config, probe)
    from ordertrail.engines.spark.engine import SparkEngine

    return SparkEngine(placed(config, session), probe, session)


def placed(config: Config, session: SparkSession | None = None) -> Config:
    """The config with the folders of its tables, so that what reads folders can read tables with names.

    Args:
        config: Of the pipeline.
        session: Asked where the tables have names; None takes the active one, or begins one.

    Returns:
        See `spark.locations.placed_by`; as it was where tables have no names.

    Raises:
        UsageError: Spark is not installed, or cannot begin.
    """
    if config.in_folders:
        return config
    from ordertrail.engines.spark.locations import placed_by
    from ordertrail.engines.spark.session import session_of

    return placed_by(session or session_of(config), config)
