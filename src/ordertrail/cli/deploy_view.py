"""The output of `deploy`: which files were written, and what to do next."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec.structs import asdict

from ordertrail.cli.screen import Column, Screen, Style
from ordertrail.look.rows import Json

if TYPE_CHECKING:
    from ordertrail.databricks.bundle import Bundle
    from ordertrail.deploy.files import Deployed, WrittenFile

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
    _files(screen, found.files, found.notes)
    screen.command(f"cd {shlex.quote(str(found.folder))}", "review databricks.yml; README.md has all steps")
    screen.command("databricks bundle validate", "with Databricks' own CLI")
    screen.command("databricks bundle deploy", "a copy of your own, triggers paused")


def machine_document(found: Deployed) -> Json:
    """`deploy systemd` and `deploy docker`, as JSON."""
    return {
        "folder": str(found.folder),
        "config": None if found.config is None else str(found.config),
        "files": [asdict(one) for one in found.files],
        "notes": list(found.notes),
    }


def systemd(screen: Screen, found: Deployed) -> None:
    """`deploy systemd`."""
    screen.line(f"The units for systemd are in {found.folder}", "bold")
    screen.fields([("made from", str(found.config))])
    _files(screen, found.files, found.notes)
    screen.command(f"cd {shlex.quote(str(found.folder))}", "review them; README.md has all steps")
    screen.command("systemd-analyze verify *.service *.timer", "does systemd understand them?")


def docker(screen: Screen, found: Deployed) -> None:
    """`deploy docker`."""
    source = "the order feed's contract" if found.config is None else str(found.config)
    screen.line(f"Image and compose file are in {found.folder}", "bold")
    screen.fields([("made from", source)])
    _files(screen, found.files, found.notes)
    screen.command(
        f"cd {shlex.quote(str(found.folder))}", "review Dockerfile and compose.yaml; README.md has all steps"
    )
    screen.command("docker compose build", "once .env has the digest of the base image")
    screen.command("docker compose up -d", "the service begins")


def _files(screen: Screen, files: Sequence[WrittenFile], notes: Sequence[str]) -> None:
    screen.table((Column("file"), Column("")), [(one.path, one.action) for one in files], _STYLES)
    for note in notes:
        screen.line(f"- {note}", "yellow")
    screen.heading("Next")
