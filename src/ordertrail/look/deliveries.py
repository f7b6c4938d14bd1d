"""The deliveries, a part at a time: filtered, newest first, never counted as a whole."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from msgspec import Struct

from ordertrail.errors import UsageError
from ordertrail.look.places import places, rows_at
from ordertrail.look.quick import Look
from ordertrail.look.rows import Row, Rows
from ordertrail.model import State
from ordertrail.rules.sql import quoted
from ordertrail.rules.tables import DELIVERIES

COLUMNS = (
    "delivery_id",
    "vendor",
    "file_name",
    "state",
    "reason",
    "batch",
    "discovered_at",
    "loaded_at",
    "size_bytes",
    "rows_parsed",
    "rows_inserted",
    "rows_updated",
    "rows_unchanged",
    "rows_stale",
    "rows_superseded",
    "rows_duplicate",
    "rows_rejected",
    "first_error",
)
"""What a list of deliveries shows of each."""

_CURSOR = re.compile(r"(\d{1,18})\.(.{1,200})", re.DOTALL)


class Wanted(Struct, frozen=True):
    """Which deliveries are wanted; all that is left empty does not matter.

    Attributes:
        vendor: Only of this vendor.
        state: Only with this state.
        since: Only those found then or later; aware.
        until: Only those found before; aware.
        name: Only those with this in the file's name, in any case.
        rejects: Only those with rejected rows.
        after: Only those after this one in the list: `Listed.after` of the part before.
    """

    vendor: str = ""
    state: str = ""
    since: datetime | None = None
    until: datetime | None = None
    name: str = ""
    rejects: bool = False
    after: str = ""


class Listed(Struct, frozen=True):
    """A part of a list.

    Attributes:
        rows: Newest first.
        after: Where the list goes on; None at its end.
    """

    rows: Rows
    after: str | None


def deliveries(look: Look, wanted: Wanted, most: int) -> Listed:
    """The deliveries, those of the newest batch first; in a batch the one that was listed last first.

    Args:
        look: The tables.
        wanted: Which of them.
        most: At most so many.

    Raises:
        UsageError: There is no such state, or `after` is no place in a list.
    """
    asked = _conditions(wanted)
    if wanted.after:
        batch, one = _place(wanted.after)
        asked.append(("batch", f"(batch < {batch} OR (batch = {batch} AND delivery_id < {quoted(one)}))"))
    names = tuple(dict.fromkeys(("batch", "delivery_id", *(name for name, _ in asked))))
    where = " AND ".join(condition for _, condition in asked) or "true"
    there = places(look, "deliveries", names, where, "batch DESC, delivery_id DESC", most + 1)
    found = rows_at(look, "deliveries", COLUMNS, there)
    if len(found) <= most:
        return Listed(found, None)
    rows = Rows(found.columns, found.rows[:most], cut=True)
    last = rows.dicts()[-1]
    return Listed(rows, f"{last['batch']}.{last['delivery_id']}")


def delivery_row(look: Look, delivery_id: str) -> Row | None:
    """All that the ledger says of one delivery; None when there is none with this id."""
    there = places(look, "deliveries", ("delivery_id",), f"delivery_id = {quoted(delivery_id)}", most=1)
    found = rows_at(look, "deliveries", [column.name for column in DELIVERIES], there).dicts()
    return found[0] if found else None


def _conditions(wanted: Wanted) -> list[tuple[str, str]]:
    """What must hold of a delivery: the column, and SQL over it."""
    if wanted.state and wanted.state not in tuple(State):
        raise UsageError(f"there is no state {wanted.state!r}", hint=f"the states are: {', '.join(State)}")
    found = []
    if wanted.vendor:
        found.append(("vendor", f"vendor = {quoted(wanted.vendor)}"))
    if wanted.state:
        found.append(("state", f"state = {quoted(wanted.state)}"))
    if wanted.since is not None:
        found.append(("discovered_at", f"discovered_at >= {_at(wanted.since)}"))
    if wanted.until is not None:
        found.append(("discovered_at", f"discovered_at < {_at(wanted.until)}"))
    if wanted.name:
        found.append(("file_name", f"contains(lower(file_name), lower({quoted(wanted.name)}))"))
    if wanted.rejects:
        found.append(("rows_rejected", "rows_rejected > 0"))
    return found


def _at(time: datetime) -> str:
    return f"TIMESTAMPTZ {quoted(time.astimezone(UTC).isoformat())}"


def _place(after: str) -> tuple[int, str]:
    found = _CURSOR.fullmatch(after)
    if found is None:
        raise UsageError(f"{after[:60]!r} is no place in the list", hint="begin again without after")
    return int(found[1]), found[2]
