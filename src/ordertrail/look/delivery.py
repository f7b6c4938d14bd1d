"""One delivery: what became of its rows, what was rejected, what replaced it, and what can be done about it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from ordertrail.config import Config
from ordertrail.look.beside import beside
from ordertrail.look.deliveries import delivery_row
from ordertrail.look.open_items import command_of
from ordertrail.look.quick import Look
from ordertrail.look.rows import Row, Rows, rows_of
from ordertrail.model import CorrectionKind, Outcome, State
from ordertrail.rules.corrections import ALLOWED, IN_HISTORY, correction_from
from ordertrail.rules.sql import name_sql, quoted

FIRST_ROWS = 10
"""So many of its rows are shown, and so many of its rejects."""

_LOOKED_AT = 200  # of the records of its file, for the first that were accepted
_REJECTS = ("file_row", "file_line", "column", "value", "rule", "reason", "raw")
_WHY: Mapping[CorrectionKind, str] = {
    CorrectionKind.REPLAY: "read the archived file again, under the config as it is now",
    CorrectionKind.RELEASE: "load it, although it is held",
    CorrectionKind.REFUSE: "decide that it is not loaded",
    CorrectionKind.UNDO: "take it back: its rows no longer count",
    CorrectionKind.REDO: "make it count again",
    CorrectionKind.CORRECT: "put another file in its place",
    CorrectionKind.DISMISS: "say that nobody needs to look at it any more",
}


@dataclass(frozen=True, slots=True)
class Command:
    """A command that may be typed next.

    Attributes:
        text: The whole line.
        why: What it does.
    """

    text: str
    why: str


@dataclass(frozen=True, slots=True)
class Delivery:
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
    row = delivery_row(look, delivery_id)
    if row is None:
        return None
    mended, (first_rows, rejects) = beside(
        lambda: _mended(look, row), lambda: (_first_rows(look, row), _rejects(look, delivery_id))
    )
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


def _mended(look: Look, row: Row) -> list[Row]:
    """Corrections about a delivery, and the deliveries that changed places with it, oldest first."""
    one, heir = quoted(str(row["delivery_id"])), quoted(str(row["replayed_by"] or ""))
    found = rows_of(
        look.read(
            "SELECT delivery_id, vendor, file_name, state, batch, staged_at, changed_at, changed_by, changed_why, "
            f"replayed_by, correction, rows_parsed FROM {look.relation('deliveries')} WHERE replayed_by = {one} "
            f"OR delivery_id = {heir} OR (correction IS NOT NULL AND contains(correction, {one})) ORDER BY delivery_id"
        )
    ).dicts()
    told = []
    for other in found:
        if (made := correction_from(str(other["correction"] or ""))) is not None:
            if row["delivery_id"] not in made.of:
                continue
            other["correction"] = str(made.kind)
        told.append(other)
    return told


def _first_rows(look: Look, row: Row) -> Rows:
    if State(str(row["state"])) not in IN_HISTORY or not _accepted(row):
        return Rows((), ())
    names = ("_file_row", "_outcome", *look.config.contract.names)
    # By batch and record number whole row groups are passed over.
    return rows_of(
        look.read(
            f"SELECT {', '.join(map(name_sql, names))} FROM {look.relation('history')} WHERE _batch = {row['batch']} "
            f"AND _file_row <= {_LOOKED_AT} AND _delivery_id = {quoted(str(row['delivery_id']))} "
            f"ORDER BY _file_row LIMIT {FIRST_ROWS}"
        )
    )


def _rejects(look: Look, delivery_id: str) -> Rows:
    columns = ", ".join(map(name_sql, _REJECTS))
    return rows_of(
        look.read(
            f"SELECT {columns} FROM {look.relation('rejects')} WHERE delivery_id = {quoted(delivery_id)} "
            f'ORDER BY file_row NULLS FIRST, "column" LIMIT {FIRST_ROWS}'
        )
    )


def _accepted(row: Row) -> int:
    return _count(row, "rows_parsed") - _count(row, "rows_rejected")


def _count(row: Row, name: str) -> int:
    value = row.get(name)
    return value if isinstance(value, int) else 0
