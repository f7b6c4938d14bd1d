"""A migration as text for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ordertrail.cli.render import plural
from ordertrail.cli.screen import Column, Screen
from ordertrail.look.rows import cell

if TYPE_CHECKING:
    from ordertrail.mend.migration import MigrationReport
    from ordertrail.rules.migration import Step


MANY_COLUMNS = 10
"""More added columns than this are told in one line."""


def report(screen: Screen, found: MigrationReport) -> None:
    """What a migration did, or what it would take."""
    open_steps = [step for step in found.steps if step.kind != "fill" or (step.rows or 0) > step.unfit]
    if not open_steps:
        screen.line(f"{found.pipeline}: the tables carry the contract of the config.", "bold")
    elif found.applied:
        batch = "" if found.batch is None else f"batch {found.batch}: "
        screen.line(f"{found.pipeline}: {batch}the tables carry the contract now, {found.seconds:.2f} s", "bold")
    else:
        screen.line(f"{found.pipeline}: the tables carry another contract than the config. It takes:", "bold")
    # A pass adds no column while it refuses the contract for another reason; that a column could be filled is none.
    alone = not found.applied and all(step.by_itself or step.kind == "fill" for step in found.steps)
    added = [step for step in found.steps if step.kind == "add"]
    several = len(added) > MANY_COLUMNS
    if several:
        names = ", ".join(step.column for step in added[:MANY_COLUMNS])
        screen.line(f"  {len(added)} columns are added: {names} and {len(added) - MANY_COLUMNS} more")
    for step in found.steps:
        if not (several and step.kind == "add"):
            screen.line(f"  {step.text}{_counts(step, alone=alone)}")
    if found.unfit:
        screen.heading("Values that do not fit")
        screen.table(
            (Column("file"), Column("row", right=True), Column("column"), Column("value"), Column("why", detail=True)),
            [(cell(o.file_name), cell(o.file_row), o.column, cell(o.value), o.reason) for o in found.unfit],
        )
        more = sum(step.unfit for step in found.steps) - len(found.unfit)
        if more > 0:
            screen.line(f"and {plural(more, 'more value')}", "dim")
    _heals(screen, found)
    if found.problems:
        screen.heading("It cannot be done like this")
        for problem in found.problems:
            screen.line(problem, "red")
    for note in found.notes:
        screen.line(f"Note: {note}", "dim")
    heals = any(not one.left for one in found.heals) and found.replay_batch is None
    if (open_steps or heals) and not found.applied and found.replay_batch is None:
        if not found.problems and heals:
            screen.command("ordertrail migrate --apply --replay", "does it, and reads these files again")
        elif not found.problems and not all(step.by_itself for step in open_steps):
            screen.command("ordertrail migrate --apply", "does it, in one batch")
        screen.line("Nothing was written.", "dim")


def _heals(screen: Screen, found: MigrationReport) -> None:
    """The files of which the contract accepts more than was loaded."""
    if not found.heals:
        return
    if found.replay_batch is None:
        screen.heading("Rows and files that only this contract accepts")
    else:
        screen.heading(f"Read again in batch {found.replay_batch}")
    columns = (Column("file"), Column("is"), Column("rows more", right=True), Column("delivery"))
    screen.table(
        (*columns, Column("left", detail=True)),
        [
            (cell(o.file_name), o.state, f"{o.rows:,}", o.delivery_id,
             f"{o.left}; ordertrail replay {o.delivery_id} reads it all the same" if o.left else "")
            for o in found.heals
        ],
    )  # fmt: skip


def _counts(step: Step, *, alone: bool) -> str:
    """How many values a step concerns, and what becomes of those that do not fit; `alone`: a pass does it as well."""
    if step.rows is None:
        return "; the next pass does it by itself" if step.by_itself and alone else ""
    text = f": {plural(step.rows, 'value')}"
    if step.unfit:
        text += f"; not fitting, and kept in _rescued: {step.unfit:,}"
    return text
