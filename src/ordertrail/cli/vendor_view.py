"""The output of `vendor add`: what was appended, how the columns were found, and what to do next."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from ordertrail.cli.screen import Column, Screen, shown
from ordertrail.look.rows import Json

if TYPE_CHECKING:
    from ordertrail.begin.vendor_add import AddedVendor


def added(screen: Screen, found: AddedVendor) -> None:
    """`vendor add`."""
    screen.line(f"Appended to {found.file.name}", "bold")
    screen.verbatim("".join(f"  {shown(line)}".rstrip() + "\n" for line in found.appended.rstrip().split("\n")))
    screen.heading("Where the columns are")
    screen.table((Column("column"), Column("in the file")), [(name, _headers(names)) for name, names in found.found])
    for note in found.notes:
        screen.line(f"- {note}")
    screen.heading("Next")
    given = "" if found.file.name == "ordertrail.toml" else f" --config {shlex.quote(str(found.file))}"
    name, sample = shlex.quote(found.vendor.name), shlex.quote(str(found.sample))
    screen.command(f"ordertrail plan{given} --vendor {name} {sample}", "what would become of its rows?")
    screen.command(f"ordertrail doctor{given}", "do the globs fit?")


def _headers(names: tuple[str, ...]) -> str:
    return " and ".join(map(repr, names)) if names else "-"


def added_document(found: AddedVendor) -> Json:
    """`vendor add`; `columns` holds an empty list for a column that the files do not carry."""
    return {
        "config": str(found.file),
        "sample": str(found.sample),
        "vendor": found.vendor.name,
        "files": found.vendor.files,
        "appended": found.appended,
        "columns": {name: list(names) for name, names in found.found},
        "notes": list(found.notes),
    }
