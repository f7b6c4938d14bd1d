"""The output of `deploy`: which files were written, and what to do next."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from typing import TYPE_CHECKING

from ordertrail.cli.screen import Column, Screen, Style
from ordertrail.look.rows import Json

if TYPE_CHECKING:
    from ordertrail.databricks.bundle import Bundle

_STYLES: dict[str, Style] = {"written": "green", "replaced": "yellow", "unchanged": "dim"}


def document(found: Bundle) -> Json:
    """`deploy databricks`, as JSON."""
    return {
        "folder": str(found.folder),
        "catalog": found.catalog,
        "schema": found.schema,
        "config": None if found.config is None else str(found.config),
        "files": [asdict(one) for one in found.files],
        "notes": list(found.notes),
    }


def text(screen: Screen, found: Bundle) -> None:
    """`deploy databricks`."""
    source = "the order feed's contract" if found.config is None else str(found.config)
    screen.line(f"The bundle for Databricks is in {found.folder}", "bold")
    screen.fields([("tables", f"{found.catalog}.{found.schema}"), ("made from", source)])
    screen.table((Column("file"), Column("")), [(one.path, one.action) for one in found.files], _STYLES)
    for note in found.notes:
        screen.line(f"- {note}", "yellow")
    screen.heading("Next")
    screen.command(f"cd {shlex.quote(str(found.folder))}", "review databricks.yml; README.md has all steps")
    screen.command("databricks bundle validate", "with Databricks' own CLI")
    screen.command("databricks bundle deploy", "a copy of your own, triggers paused")
