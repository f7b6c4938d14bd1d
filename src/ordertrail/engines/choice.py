"""Chooses the engine that a config names. An engine's libraries are imported only when it is chosen."""

from __future__ import annotations

from contextlib import AbstractContextManager, suppress
from typing import TYPE_CHECKING

from ordertrail.config import Config
from ordertrail.errors import StorageError, TableError
from ordertrail.model import Probe, no_probe

if TYPE_CHECKING:
    from ordertrail.engines.base import Engine, IncidentTable
    from ordertrail.engines.local.migrating import Migrating
    from ordertrail.engines.spark.session import SparkSession


def engine_of(config: Config, probe: Probe, session: SparkSession | None = None) -> Engine:
    """The engine of one pass.

    Args:
        config: Names the engine.
        probe: Called after each effect.
        session: For Spark; None uses the active one, or starts one.

    Raises:
        UsageError: Its libraries are not installed, or Spark cannot start.
    """
    if config.engine == "embedded":
        from ordertrail.engines.embedded.engine import EmbeddedEngine

        return EmbeddedEngine(config, probe)
    from ordertrail.engines.spark.engine import SparkEngine

    return SparkEngine(located(config, session), probe, session)


def incident_table(config: Config, session: SparkSession | None = None, *, probe: Probe = no_probe) -> IncidentTable:
    """The table of incidents. Spark keeps it where tables are found by name, as it does the others.

    Args:
        config: Of the pipeline.
        session: For tables by name; None uses the active one, or starts one.
        probe: Called after each effect.

    Raises:
        UsageError: Spark is needed, and is not installed or cannot start.
    """
    if config.by_name:
        from ordertrail.engines.spark.incidents import CatalogIncidents
        from ordertrail.engines.spark.session import session_of

        return CatalogIncidents(session or session_of(config), config, probe)
    from ordertrail.engines.local.incidents import FolderIncidents

    return FolderIncidents(config, probe=probe)


def migrating_by_name(
    config: Config, session: SparkSession | None = None, probe: Probe = no_probe
) -> AbstractContextManager[Migrating]:
    """The tables of a pipeline in a catalog that only Spark reaches, to bring them to the contract of the config.

    Args:
        config: Of the pipeline; `placed` found no folders for it.
        session: None uses the active one, or starts one.
        probe: Called after each effect.

    Raises:
        UsageError: Spark is not installed, or cannot start.
    """
    from ordertrail.engines.spark.migrating import by_name
    from ordertrail.engines.spark.session import session_of

    return by_name(session or session_of(config), config, probe)


def located(config: Config, session: SparkSession | None = None) -> Config:
    """The config with the folders of its tables, so that code that reads folders can read named tables.

    Args:
        config: The pipeline's config.
        session: Asked for the folders of named tables; None uses the active one, or starts one.

    Returns:
        See `spark.locations.placed_by`; the unchanged config when the tables have no names.

    Raises:
        UsageError: Spark is not installed, or cannot start.
    """
    if config.in_folders:
        return config
    from ordertrail.engines.spark.locations import placed_by
    from ordertrail.engines.spark.session import session_of

    return placed_by(session or session_of(config), config)


def placed(config: Config, session: SparkSession | None = None) -> Config:
    """The config as its tables are: `located` and, where this process reads them, with the columns that files brought.

    Args:
        config: As of `located`.
        session: Likewise.

    Raises:
        UsageError: Likewise.
    """
    config = located(config, session)
    if not config.in_folders:
        return config
    from ordertrail.engines.local.followed import followed

    with suppress(TableError, StorageError):  # whoever reads the table says it better
        return followed(config)
    return config
