"""Finds the folders behind a catalog's names.

A catalog on one machine, or on a shared disk, keeps a Delta table in a folder. If this process can read and write all
five as files, they are treated like tables in folders: small batches need Spark only for the `MERGE`, and every command
works. Only Spark accesses tables on other storage, or tables to which only their catalog may commit.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from msgspec.structs import astuple, replace

from ordertrail.config import Config
from ordertrail.delta.log import DeltaLog
from ordertrail.delta.snapshot import read_snapshot
from ordertrail.engines.spark.tables import ticked
from ordertrail.errors import StorageError, TableError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_LOCATION = re.compile(r"^Location: (\S.*)$", re.MULTILINE)


def placed_by(spark: SparkSession, config: Config) -> Config:
    """Ask a catalog where it keeps the tables.

    Args:
        spark: The session with the catalog.
        config: Of a pipeline whose tables have names.

    Returns:
        The config with `folders`; unchanged when a table is missing, is in no folder that this process may read and
        write, or has a table feature that the embedded engine does not write to.
    """
    if type(spark).__module__.startswith("pyspark.sql.connect"):
        return config  # its paths are on the server's machine
    locations = locations_of(spark, config)
    found: list[tuple[str, Path]] = []
    for name in astuple(config.tables):
        folder = folder_at(locations.get(name.lower(), ""))
        if folder is None:
            return config
        found.append((name, folder))
    return replace(config, folders=tuple(found))


def locations_of(spark: SparkSession, config: Config) -> Mapping[str, str]:
    """The locations of the tables according to the catalog, by name in lower case; does not open any of them.

    Empty when the catalog has no such schema, or does not tell.
    """
    from pyspark.errors import PySparkException

    schema = ticked(config.schema)
    if config.spark.tables == "three-level":
        schema = f"{ticked(config.catalog)}.{schema}"
    try:
        told = spark.sql(f"SHOW TABLE EXTENDED IN {schema} LIKE '{'|'.join(astuple(config.tables))}'").collect()
    except PySparkException:
        return {}
    found: dict[str, str] = {}
    for row in told:
        # comments and properties by owners come before it
        for location in _LOCATION.findall(str(row["information"]))[-1:]:
            found[str(row["tableName"]).lower()] = location
    return found


def folder_at(location: str) -> Path | None:
    """The folder of a location; None when it is not on this machine, or has no table that we may write to."""
    scheme, _, path = location.partition(":")
    if scheme != "file":
        return None
    # Some catalogs escape characters that a URI cannot contain, some do not.
    folders = (Path(text) for text in dict.fromkeys((path, unquote(path))))
    return next((folder for folder in folders if _is_ours(folder)), None)


def _is_ours(folder: Path) -> bool:
    """Whether a folder holds a Delta table that this process may read and write."""
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return False
    try:
        read_snapshot(DeltaLog(folder)).require_writable()
    except (TableError, StorageError):
        return False
    return True
