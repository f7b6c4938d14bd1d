"""What was rejected: how much of each kind, the rejects themselves a part at a time, and what goes back to a vendor."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from msgspec import Struct
from msgspec.structs import replace

from ordertrail.errors import UsageError
from ordertrail.look.deliveries import Listed
from ordertrail.look.places import places, rows_at
from ordertrail.look.quick import Look
from ordertrail.look.rows import Rows, rows_of
from ordertrail.rules.sql import quoted

SENT_BACK = ("vendor", "file_name", "file_row", "file_line", "column", "value", "rule", "reason", "raw")
"""The columns that a vendor needs to correct its file."""

MOST_KINDS = 100
"""So many kinds of rejects are listed, the most frequent ones."""

_OF_KINDS = ("vendor", "rule", "column", "delivery_id", "rejected_at", "reason", "value")
_ORDER = ("batch", "delivery_id", "file_row", "column")
_SHOWN = ("delivery_id", *SENT_BACK, "batch", "rejected_at")
_CURSOR = re.compile(r"(\d{1,18})\.(-?\d{1,18})\.([^.]{1,200})\.(.{0,200})", re.DOTALL)
_WHOLE_FILE = -1  # the place of a reject that is of a whole file, in its delivery


class Wanted(Struct, frozen=True):
    """Which rejects are wanted; all that is left empty does not matter.

    Attributes:
        vendor: Only of this vendor.
        rule: Only by this rule.
        column: Only of this contract column; `-` those of whole rows and files.
        delivery: Only of this delivery.
        since: Only those rejected then or later; aware.
        after: Only those after this one in the list: `Listed.after` of the part before.
    """

    vendor: str = ""
    rule: str = ""
    column: str = ""
    delivery: str = ""
    since: datetime | None = None
    after: str = ""


class RejectKind(Struct, frozen=True):
    """Rejects of one vendor by one rule in one column.

    Attributes:
        vendor: Who sent the rows.
        rule: The rule that was broken.
        column: The contract column; None for whole rows and files.
        rejects: How many.
        files: Of how many deliveries.
        last_at: When the last one was rejected; aware UTC.
        reason: Of one of them, in plain words.
        example: The value of one of them; None where it is a whole row or file.
    """

    vendor: str
    rule: str
    column: str | None
    rejects: int
    files: int
    last_at: datetime
    reason: str
    example: str | None


def reject_kinds(look: Look, wanted: Wanted) -> tuple[RejectKind, ...]:
    """The kinds of rejects, the most frequent ones first.

    Args:
        look: The tables.
        wanted: Which of them; `after` does not matter.
    """
    where = " AND ".join(condition for _, condition in _conditions(wanted)) or "true"
    found = rows_of(
        look.read(
            "SELECT coalesce(vendor, ''), coalesce(rule, ''), \"column\", count(*) AS n, count(DISTINCT delivery_id), "
            "max(rejected_at), coalesce(any_value(reason), ''), any_value(value) "
            f"FROM {look.relation('rejects', _OF_KINDS)} WHERE {where} GROUP BY ALL "
            f"ORDER BY n DESC, 1, 2, 3 LIMIT {MOST_KINDS}"
        )
    )
    return tuple(RejectKind(*row) for row in found.rows)  # type: ignore[arg-type]


def rejects(look: Look, wanted: Wanted, most: int) -> Listed:
    """The rejects, those of the newest batch first, in a file in its order.

    Args:
        look: The tables.
        wanted: Which of them.
        most: At most so many.

    Raises:
        UsageError: `after` is no place in a list.
    """
    asked, place = _conditions(wanted), f"coalesce(file_row, {_WHOLE_FILE})"
    if wanted.after:
        batch, row, one, column = _place(wanted.after)
        after = (
            f"(batch < {batch} OR (batch = {batch} AND (delivery_id < {quoted(one)} OR "
            f"(delivery_id = {quoted(one)} AND ({place}, coalesce(\"column\", '')) > ({row}, {quoted(column)})))))"
        )
        asked.append(("batch", after))
    where = " AND ".join(condition for _, condition in asked) or "true"
    order = f"batch DESC, delivery_id DESC, {place}, coalesce(\"column\", '')"
    names = tuple(dict.fromkeys((*_ORDER, *(name for name, _ in asked))))
    found = rows_at(look, "rejects", _SHOWN, places(look, "rejects", names, where, order, most + 1))
    if len(found) <= most:
        return Listed(found, None)
    rows = Rows(found.columns, found.rows[:most], cut=True)
    last = rows.dicts()[-1]
    at = _WHOLE_FILE if last["file_row"] is None else last["file_row"]
    return Listed(rows, f"{last['batch']}.{at}.{last['delivery_id']}.{last['column'] or ''}")


def send_back(found: Rows) -> Rows:
    """What goes back to a vendor, of rejects as the table has them."""
    rows = tuple(tuple(row[name] for name in SENT_BACK) for row in found.dicts())
    return replace(found, columns=SENT_BACK, rows=rows)


def _conditions(wanted: Wanted) -> list[tuple[str, str]]:
    """What must hold of a reject: the column, and SQL over it."""
    cells = {"vendor": wanted.vendor, "rule": wanted.rule, "delivery_id": wanted.delivery}
    found = [(name, f"{name} = {quoted(value)}") for name, value in cells.items() if value]
    if wanted.column:
        is_it = '"column" IS NULL' if wanted.column == "-" else f'"column" = {quoted(wanted.column)}'
        found.append(("column", is_it))
    if wanted.since is not None:
        since = f"rejected_at >= TIMESTAMPTZ {quoted(wanted.since.astimezone(UTC).isoformat())}"
        found.append(("rejected_at", since))
    return found


def _place(after: str) -> tuple[int, int, str, str]:
    found = _CURSOR.fullmatch(after)
    if found is None:
        raise UsageError(f"{after[:60]!r} is no place in the list", hint="begin again without after")
    return int(found[1]), int(found[2]), found[3], found[4]
