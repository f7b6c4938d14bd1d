"""One delivery: what became of its rows, what was rejected, what replaced it, and what can be done about it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from msgspec import Struct

from ordertrail.config import Config
from ordertrail.look.beside import beside
from ordertrail.look.deliveries import delivery_row
from ordertrail.look.open_items import command_of
from ordertrail.look.places import places, rows_at
from ordertrail.look.quick import Look
from ordertrail.look.rows import Row, Rows
from ordertrail.model import CorrectionKind, Outcome, State
from ordertrail.rules.corrections import ALLOWED, IN_HISTORY, correction_from
from ordertrail.rules.sql import quoted
from ordertrail.rules.tables import DELIVERIES

FIRST_ROWS = 10
"""So many of its rows are shown, and so many of its rejects."""

_LOOKED_AT = 200  # of the records of its file, for the first that were accepted
_REJECTS = ("file_row", "file_line", "column", "value", "rule", "reason", "raw")
_MENDED = (
    "delivery_id",
    "vendor",
    "file_name",
    "state",
    "batch",
    "staged_at",
    "changed_at",
    "changed_by",
    "changed_why",
    "replayed_by",
    "correction",
    "rows_parsed",
)
_WHY: Mapping[CorrectionKind, str] = {
    CorrectionKind.REPLAY: "read the archived file again, under the config as it is now",
    CorrectionKind.RELEASE: "load it, although it is held",
    CorrectionKind.REFUSE: "decide that it is not loaded",
    CorrectionKind.UNDO: "take it back: its rows no longer count",
    CorrectionKind.REDO: "make it count again",
    CorrectionKind.CORRECT: "put another file in its place",
    CorrectionKind.DISMISS: "say that nobody needs to look at it any more",
}


class Command(Struct, frozen=True):
    """A command that may be typed next.

    Attributes:
        text: The whole line.
        why: What it does.
    """

    text: str
    why: str


class Delivery(Struct, frozen=True):
    """What is known about one delivery.

    Attributes:
        row: Its row in the ledger.
        equation: The rows of its file by outcome, those that do not occur left out; with `parsed` they add up.
        first_rows: Its first accepted rows as the history has them, in file order, with `_outcome`.
        rejects: Its first rejects, in file order.
        corrections: The rows of corrections that are about it, oldest first.
        replaces: The rows of deliveries whose place it took.
        replaced_by: The row of the delivery that took its place; None for none.
        commands: What may be typed next, the most likely first.
    """

    row: Row
    equation: dict[str, int]
    first_rows: Rows
    rejects: Rows
    corrections: tuple[Row, ...]
    replaces: tuple[Row, ...]
    replaced_by: Row | None
    commands: tuple[Command, ...]

    @property
    def balanced(self) -> bool:
        """Whether the rows by outcome are those that were parsed."""
        return sum(self.equation.values()) == (self.row["rows_parsed"] or 0)


def delivery(look: Look, delivery_id: str) -> Delivery | None:
    """What is known about a delivery; None when there is none with this id.

    Args:
        look: The tables.
        delivery_id: Its id.
    """
    row, mended = _told(look, delivery_id)
    if row is None:
        return None
    first_rows, rejects = beside(lambda: _first_rows(look, row), lambda: _rejects(look, delivery_id))
    return Delivery(
        row=row,
        equation={str(one): count for one in Outcome if (count := _count(row, f"rows_{one}"))},
        first_rows=first_rows,
        rejects=rejects,
        corrections=tuple(one for one in mended if one["correction"]),
        replaces=tuple(one for one in mended if one["replayed_by"] == delivery_id),
        replaced_by=next((one for one in mended if one["delivery_id"] == row["replayed_by"]), None),
        commands=commands(look.config, row),
    )


def commands(config: Config, row: Row) -> tuple[Command, ...]:
    """What may be typed next about a delivery, the most likely first.

    Args:
        config: Of the pipeline; where it is not the default file, the commands name it.
        row: The delivery's row in the ledger.
    """
    state, one = State(str(row["state"])), shlex.quote(str(row["delivery_id"]))
    if state in (State.CORRECTION, State.MIGRATION):
        return ()
    found = []
    if row["rows_rejected"]:
        found.append(Command(command_of(config, f"rejects --delivery {one}"), "list all that was rejected"))
        text = command_of(config, f"rejects --delivery {one} --for-vendor -o send-back.csv")
        found.append(Command(text, "the rejected rows as the vendor writes them, to send back"))
    for kind, why in _WHY.items():
        if state in ALLOWED[kind] and not (kind is CorrectionKind.REDO and not _accepted(row)):
            file = " --with FILE" if kind is CorrectionKind.CORRECT else ""
            found.append(Command(command_of(config, f"{kind} {one}{file} --why 'TEXT'"), why))
    if state in (State.QUARANTINED, State.HELD, State.DISMISSED, State.REFUSED):
        found.sort(key=lambda command: " replay " not in command.text)
    return tuple(found)


def _told(look: Look, delivery_id: str) -> tuple[Row | None, list[Row]]:
    """A delivery; corrections about it, and the deliveries that changed places with it, oldest first."""
    one = quoted(delivery_id)
    where = f"delivery_id = {one} OR replayed_by = {one} OR contains(correction, {one})"
    there = places(look, "deliveries", ("delivery_id", "replayed_by", "correction"), where)
    found = rows_at(look, "deliveries", [column.name for column in DELIVERIES], there).dicts()
    row = next((other for other in found if other["delivery_id"] == delivery_id), None)
    if row is None:
        return None, []
    known = {other["delivery_id"] for other in found}
    if row["replayed_by"] and row["replayed_by"] not in known:
        heir = delivery_row(look, str(row["replayed_by"]))
        found += [] if heir is None else [heir]
    told = []
    for other in sorted(found, key=lambda other: str(other["delivery_id"])):
        made = correction_from(str(other["correction"] or ""))
        if other is row or (made is not None and delivery_id not in made.of):
            continue
        kind = None if made is None else str(made.kind)
        told.append({**{name: other[name] for name in _MENDED}, "correction": kind})
    return row, told


def _first_rows(look: Look, row: Row) -> Rows:
    if State(str(row["state"])) not in IN_HISTORY or not _accepted(row):
        return Rows((), ())
    names = ("_file_row", "_outcome", *look.config.contract.names)
    # By batch and record number whole row groups are passed over.
    one = quoted(str(row["delivery_id"]))
    where = f"_batch = {row['batch']} AND _file_row <= {_LOOKED_AT} AND _delivery_id = {one}"
    there = places(look, "history", ("_batch", "_file_row", "_delivery_id"), where, "_file_row", FIRST_ROWS)
    return rows_at(look, "history", names, there)


def _rejects(look: Look, delivery_id: str) -> Rows:
    where, order = f"delivery_id = {quoted(delivery_id)}", 'file_row NULLS FIRST, "column"'
    there = places(look, "rejects", ("delivery_id", "file_row", "column"), where, order, FIRST_ROWS)
    return rows_at(look, "rejects", _REJECTS, there)


def _accepted(row: Row) -> int:
    return _count(row, "rows_parsed") - _count(row, "rows_rejected")


def _count(row: Row, name: str) -> int:
    value = row.get(name)
    return value if isinstance(value, int) else 0
