"""Open items as text for people: `health`, and a part of `status`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ordertrail.cli.screen import Column, Screen, Style

if TYPE_CHECKING:
    from ordertrail.look.open_items import OpenItem

_STYLES: Mapping[str, Style] = {"critical": "red", "warning": "yellow"}
_COLUMNS = (
    Column("kind"),
    Column("severity"),
    Column("since (UTC)"),
    Column("what", detail=True),
    Column("next", detail=True),
)


def health(screen: Screen, pipeline: str, items: Sequence[OpenItem]) -> None:
    """`health`: one line when all is well."""
    if not items:
        screen.line(f"{pipeline}: healthy, nothing needs a person", "green")
        return
    screen.line(f"{pipeline}: {len(items)} {'thing needs' if len(items) == 1 else 'things need'} a person", "bold")
    open_table(screen, items)


def open_table(screen: Screen, items: Sequence[OpenItem]) -> None:
    """Open items, one a row, each with the command to type next."""
    rows = [
        (one.kind, one.severity, "" if one.since is None else f"{one.since:%Y-%m-%d %H:%M}", one.text, one.next)
        for one in items
    ]
    screen.table(_COLUMNS, rows, _STYLES)
