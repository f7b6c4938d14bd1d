"""The `ordertrail.toml` of a bundle: the given config, except for the settings that Databricks determines."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from ordertrail.config import Config, SparkSettings, parse_config
from ordertrail.config.template import toml_value
from ordertrail.errors import UsageError

SCRATCH = "/tmp/ordertrail"  # the driver's own disk, for the lock and for parsing; the tables are in the catalog
NOTICE = """\
# For Databricks, by `ordertrail deploy databricks`. The job's parameters override catalog, schema, source and archive;
# environment variables do not. The tables are in the catalog; warehouse is only a folder of the driver, for its lock.

"""
_SECTION = re.compile(r"\s*\[")


def databricks_toml(text: str, catalog: str, schema: str, folders: tuple[str, str]) -> str:
    """Rewrite a config for Databricks; contract, vendors and comments stay.

    The session settings of `[spark]`, with any passwords in them, are removed: the workspace provides the session, and
    the bundle is committed.

    Args:
        text: The config's TOML.
        catalog: Of the tables and the Volumes.
        schema: Of the tables and the Volumes.
        folders: The source and the archive.

    Raises:
        ConfigError: The config is wrong.
        UsageError: It is written in a way that cannot be changed line by line.
    """
    source, archive = folders
    wanted: dict[str, object] = {
        "engine": "spark",
        "source": source,
        "archive": archive,
        "warehouse": SCRATCH,
        "catalog": catalog,
        "schema": schema,
        # In a Volume files appear complete: there is nothing to wait for.
        "settle_s": 0.0,
    }
    made = with_settings(text, "pipeline", wanted)
    before = _parse(text)
    driver_max_mb = before.spark.driver_max_bytes >> 20
    kept = {} if driver_max_mb == SparkSettings().driver_max_bytes >> 20 else {"driver_max_mb": driver_max_mb}
    made = with_settings(without_section(made, "spark"), "spark", {"tables": "three-level", **kept})
    after = _parse(made)
    _check(before, after, wanted)
    return made if made.startswith(NOTICE) else NOTICE + made


def with_settings(text: str, section: str, values: Mapping[str, object]) -> str:
    """Set some settings of a section, each on its own line; all other lines stay.

    Args:
        text: TOML.
        section: A plain table; created when it is missing.
        values: By the setting's name.
    """
    lines = text.splitlines()
    header = re.compile(rf"\s*\[\s*{re.escape(section)}\s*\]\s*(#.*)?")
    begin = next((number for number, line in enumerate(lines) if header.fullmatch(line)), None)
    if begin is None:
        lines += ["", f"[{section}]"]
        begin = len(lines) - 1
    end = next((n for n in range(begin + 1, len(lines)) if _SECTION.match(lines[n])), len(lines))
    while end > begin + 1 and not lines[end - 1].strip():
        end -= 1
    for name, value in values.items():
        line = f"{name} = {toml_value(value)}"
        place = next((n for n in range(begin + 1, end) if re.match(rf"\s*{re.escape(name)}\s*=", lines[n])), None)
        if place is None:
            lines.insert(end, line)
            end += 1
        else:
            lines[place] = line
    return "\n".join(lines) + "\n"


def without_section(text: str, section: str) -> str:
    """Remove a section and its subsections; all other lines stay.

    Args:
        text: TOML.
        section: A plain table.
    """
    name = rf"(?:{re.escape(section)}|\"{re.escape(section)}\"|'{re.escape(section)}')"
    own = re.compile(rf"\s*\[\s*{name}\s*[\].]")
    kept: list[str] = []
    inside = False
    for line in text.splitlines():
        if _SECTION.match(line):
            inside = own.match(line) is not None
        if not inside:
            kept.append(line)
    return "\n".join(kept).rstrip("\n") + "\n"


def _parse(text: str) -> Config:
    return parse_config(text, base=Path("/"), environ={})


def _check(before: Config, after: Config, wanted: Mapping[str, object]) -> None:
    kept = ("name", "tables", "max_reject_share", "contract", "vendors", "maintenance")
    differing = [name for name in kept if getattr(before, name) != getattr(after, name)]
    found = {"engine": after.engine, "catalog": after.catalog, "schema": after.schema, "settle_s": after.settle_s}
    differing += [name for name, value in found.items() if value != wanted[name]]
    differing += [n for n in ("source", "archive", "warehouse") if getattr(after, n) != Path(str(wanted[n]))]
    spark = SparkSettings(tables="three-level", driver_max_bytes=before.spark.driver_max_bytes)
    differing += ["spark"] if after.spark != spark else []
    if differing:
        raise UsageError(
            f"the config cannot be changed for Databricks: {', '.join(differing)} came out wrong",
            hint="write [pipeline] and [spark] as sections, each setting on a line of its own",
        )
