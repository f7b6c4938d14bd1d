"""A target that was adopted, or could be, as text for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ordertrail.cli.render import plural
from ordertrail.cli.screen import Screen

if TYPE_CHECKING:
    from ordertrail.engines.spark.adopt import Adopted


def adopt(screen: Screen, found: Adopted) -> None:
    """What adopting did, or what it would do and what stands in its way."""
    verb = "is ordertrail's now" if found.adopted else "can be adopted"
    if found.problems:
        verb = "cannot be adopted as it is"
    screen.line(f"{found.table} {verb}: {plural(found.rows, 'row')} kept", "bold")
    if found.columns_added:
        screen.line(f"Columns {'added' if found.adopted else 'to add'}: {', '.join(found.columns_added)}.")
    if (doubled := found.doubled).keys:
        rows = f"{plural(doubled.rows, 'row')} too many"
        screen.line(
            f"Keys that are there more than once: {doubled.keys:,}, {rows}, such as {'; '.join(doubled.examples)}."
        )
    for problem in found.problems:
        screen.line(problem.message, "red")
        screen.line(f"  hint: {problem.hint}", "dim")
    if not found.adopted:
        screen.line("Nothing was written.", "dim")
        return
    screen.heading("Compare with the table of before")
    screen.line(found.compare)
    screen.heading("Go back")
    for statement in found.back:
        screen.line(f"{statement};")
