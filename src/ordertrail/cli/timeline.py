"""One shipment for people: its current state, and every row about it with the row's outcome."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from ordertrail.cli.render import OUTCOME_STYLES, reject_table
from ordertrail.cli.screen import Column, Screen
from ordertrail.look.rows import Row, cell
from ordertrail.look.track import CASE, ENDS, PART, STARTS, Track
from ordertrail.model import Contract


def track(screen: Screen, found: Track, contract: Contract) -> None:
    """`track`.

    Args:
        screen: Where to write.
        found: What is known about the key.
        contract: Names the columns.
    """
    if found.as_of is not None:
        screen.line(f"As of batch {found.as_of.batch}, {cell(found.as_of.at)[:19]} UTC", "dim")
    _matches(screen, found, contract)
    if found.current is None and not found.history:
        if found.matches and not found.rejected:
            return
        never = "No accepted row ever spoke" if found.rejected else "No row that was loaded or rejected ever spoke"
        screen.line(f"{never} of {found.key}.")
        _rejected(screen, found, contract)
        return
    screen.line(found.key, "bold")
    if found.current is not None:
        row = found.current
        revision = f"revision {row['_revision']}, batch {row['_batch']}, loaded {cell(row['_updated_at'])[:19]} UTC"
        screen.fields(
            [
                *((name, cell(row[name])) for name in contract.names if name not in contract.key),
                ("said by", f"{row['_vendor']}, {row['_file_name']} row {row['_file_row']}"),
                ("which is", revision),
            ]
        )
    screen.heading("Timeline, oldest first by event time (UTC)")
    timeline(screen, found, contract)
    _rejected(screen, found, contract)


def _matches(screen: Screen, found: Track, contract: Contract) -> None:
    if not found.matches:
        return
    by = found.matches[0].found_by
    ways = {
        CASE: "written otherwise",
        ENDS: "with that at the end of the number",
        STARTS: "with that at the beginning of the number",
        PART: "with that in the number",
    }
    how = ways.get(by, f"with that {by}")
    if len(found.matches) == 1:
        screen.line(f"No shipment has exactly this number; this is the one {how}.", "dim")
        return
    screen.line(f"No shipment has exactly this number; these are {how}:")
    columns = (Column("number"), Column("vendor"), Column(contract.status or "status"), Column("when"))
    screen.table(columns, [(one.key, cell(one.vendor), cell(one.status), cell(one.time)) for one in found.matches])
    if found.more:
        screen.line(f"and {found.more:,} more; a longer part finds fewer")


def _rejected(screen: Screen, found: Track, contract: Contract) -> None:
    if not found.rejected:
        return
    screen.heading("Rejected rows of it, which count for nothing")
    reject_table(screen, found.rejected)
    if any(row["column"] in contract.key for row in found.rejected):
        screen.line("Where the column is the key's, the number itself was rejected: it may belong to another shipment.")


def timeline(screen: Screen, found: Track, contract: Contract) -> None:
    """Every accepted row of the key, oldest first by the total order; `*` marks the one in the target."""
    befores = [None, *(before for before, _ in pairwise(found.history))]
    rows = [_line(row, before, found, contract) for before, row in zip(befores, found.history, strict=True)]
    columns = (
        Column(""),
        Column("when"),
        Column(contract.status or "key"),
        Column("outcome"),
        Column("batch", right=True),
        Column("vendor", detail=True),
        Column("who said so", detail=True),
        Column("changed", detail=True),
    )
    screen.table(columns, rows, OUTCOME_STYLES)


def _line(row: Row, before: Row | None, found: Track, contract: Contract) -> Sequence[str]:
    now = found.current
    place = ("_delivery_id", "_file_row")
    is_current = now is not None and all(row[name] == now[name] for name in place)
    watched = [n for n in contract.names if n not in (*contract.key, contract.order_by, contract.status)]
    changed = [name for name in watched if before is not None and row[name] != before[name]]
    return (
        "*" if is_current else "",
        cell(row[contract.order_by]),
        cell(row[contract.status]) if contract.status else found.key,
        cell(row["_outcome"]),
        cell(row["_batch"]),
        cell(row["_vendor"]),
        f"{row['_file_name']} row {row['_file_row']}",
        str(row["_taken_back"]) if row.get("_taken_back") else f"changes {', '.join(changed)}" if changed else "",
    )
