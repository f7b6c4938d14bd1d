"""The names of the tables and the folders of `[pipeline]`, checked."""

from __future__ import annotations

import os
import re
from pathlib import Path

from msgspec.structs import asdict

from ordertrail.config.contract import Fail
from ordertrail.config.settings import PipelineSection
from ordertrail.config.values import Tables

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def plain_name(name: str, value: str, fail: Fail) -> str:
    """A name that every engine and catalog takes; anything else is a mistake.

    Args:
        name: Of the setting of `[pipeline]`.
        value: Its value.
        fail: Called with the mistake.
    """
    if not _IDENTIFIER.fullmatch(value):
        hint = "use letters, digits and underscores, beginning with a letter or underscore"
        fail(f"pipeline.{name}", value, "is not a plain name", hint)
    return value


def table_names(section: PipelineSection, fail: Fail) -> Tables:
    """The names of the five tables, all different."""
    tables = Tables(section.stage, section.target, section.history, section.rejects, section.deliveries)
    taken: dict[str, str] = {}
    for role, name in asdict(tables).items():
        value = plain_name(role, name, fail)
        # Catalogs and some file systems do not tell capital from small letters.
        other = taken.setdefault(value.lower(), role)
        if other != role:
            fail(f"pipeline.{role}", value, f"is also the {other} table", "give every table its own name")
    return tables


def folders_of(section: PipelineSection, base: Path, fail: Fail) -> tuple[Path, Path, Path]:
    """Source, archive and warehouse: absolute, and none inside another one that it would spoil."""
    names = ("source", "archive", "warehouse")
    found = {name: _folder(name, getattr(section, name), base, fail) for name in names}
    # Links are followed for the comparison only: what the user wrote stays what messages show.
    real = {name: path.resolve() for name, path in found.items()}
    for index, name in enumerate(names):
        for other in names[:index]:
            if real[name] == real[other]:
                problem = f"is the same folder as {other}"
                fail(f"pipeline.{name}", getattr(section, name), problem, "give each a folder of its own")
    for name in ("archive", "warehouse"):
        if real["source"] in real[name].parents:
            problem = "lies inside source: its files would be taken for deliveries"
            fail(f"pipeline.{name}", getattr(section, name), problem, "put the two folders side by side")
        if real[name] in real["source"].parents:
            problem = f"lies inside {name}: files in there must not move"
            fail("pipeline.source", section.source, problem, "put the two folders side by side")
    return found["source"], found["archive"], found["warehouse"]


def _folder(name: str, value: str, base: Path, fail: Fail) -> Path:
    key = f"pipeline.{name}"
    if not value.strip() or "\0" in value:
        fail(key, value, "is not a folder", f'name a folder, such as {name} = "data/{name}"')
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", value):
        fail(key, value, "object stores are not built yet", "name a local folder")
    # abspath, not resolve: `..` goes, links stay.
    return Path(os.path.abspath(base / Path(value).expanduser()))  # noqa: PTH100
