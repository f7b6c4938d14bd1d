"""Corrections as text for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ordertrail.cli.render import added_columns, attention, deliveries_of, keys_of, outcomes, plural
from ordertrail.cli.screen import Column, Screen
from ordertrail.look.rows import cell
from ordertrail.model import RunReport

if TYPE_CHECKING:
    from ordertrail.look.dry_run import Changed
    from ordertrail.mend.preview import Preview


def report(screen: Screen, found: RunReport) -> None:
    """A correction that was made."""
    assert found.correction is not None
    done, seconds = found.correction, found.seconds.get("total", 0.0)
    what = f"{done.correction.kind} of {plural(len(done.correction.of), 'delivery')}"
    screen.line(f"{found.pipeline}: batch {found.batch}: {what}, {keys_of(done)} in {seconds:.2f} s", "bold")
    if found.recovered:
        screen.line("A batch that an earlier pass had begun was finished first.", "yellow")
    if found.deliveries:
        deliveries_of(screen, found.deliveries)
    _added(screen, found, "added")
    attention(screen, found.warnings)


def preview(screen: Screen, found: Preview) -> None:
    """What a correction would do."""
    done = found.correction
    what = f"{done.correction.kind} of {', '.join(done.correction.of)}"
    screen.line(f"If this were done now: {what}: {keys_of(done)}", "bold")
    if found.report.deliveries:
        screen.line(f"Rows of the files that would be read: {outcomes(found.report.rows)}")
        deliveries_of(screen, found.report.deliveries)
    if found.changes:
        more = done.restored + done.removed - len(found.changes)
        screen.heading("Shipments that would change")
        screen.table(
            (Column("key"), Column("would be"), Column("column"), Column("now"), Column("then")), _cells(found)
        )
        if more > 0:
            screen.line(f"and {plural(more, 'more shipment')}", "dim")
    _added(screen, found.report, "that would be added")
    attention(screen, found.report.warnings)
    screen.line("Nothing was written.", "dim")


def _added(screen: Screen, found: RunReport, how: str) -> None:
    """The columns that the files bring, and what stays in `_rescued`."""
    added_columns(screen, found.added_columns, how)
    for note in found.notes:
        screen.line(note, "dim")


def _cells(found: Preview) -> list[tuple[str, ...]]:
    """One line for each cell that would change."""
    return [line for one in found.changes for line in _of(one)]


def _of(one: Changed) -> list[tuple[str, ...]]:
    key = " ".join(cell(value) for value in one.key.values())
    if one.before is None or one.after is None:
        return [(key, one.change, "", "", "")]
    names = [name for name in one.before if one.before[name] != one.after[name]]
    return [
        (
            key if place == 0 else "",
            one.change if place == 0 else "",
            name,
            cell(one.before[name], "NULL"),
            cell(one.after[name], "NULL"),
        )
        for place, name in enumerate(names)
    ]
