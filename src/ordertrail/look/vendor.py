"""What a vendor sends: how much on which day, the statuses that the contract does not know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from ordertrail.look.quick import Look
from ordertrail.look.rows import rows_of
from ordertrail.rules.sql import name_sql, quoted


@dataclass(frozen=True, slots=True)
class Day:
    """What came on a day.

    Attributes:
        start: Aware UTC, inclusive.
        files: How many.
        rows: How many rows they have.
        rejected: How many of these were rejected.
        set_aside: How many files were quarantined or held.
    """

    start: datetime
    files: int
    rows: int
    rejected: int
    set_aside: int


@dataclass(frozen=True, slots=True)
class StatusCount:
    """A status that shipments have now.

    Attributes:
        status: As it stands in the target; None for none.
        shipments: How many have it.
        ranked: Whether the contract ranks it: among rows of one time, a status that is not ranked loses.
    """

    status: str | None
    shipments: int
    ranked: bool


def days_of(look: Look, vendor: str, edges: Sequence[datetime]) -> tuple[Day, ...]:
    """What a vendor sent on each day, oldest first.

    Args:
        look: The tables.
        vendor: Its name.
        edges: Ascending and aware; a day lies between two of them.
    """
    starts = [edge.astimezone(UTC) for edge in edges]
    bounds = [f"TIMESTAMPTZ {quoted(start.isoformat())}" for start in starts]
    found = rows_of(
        look.read(
            f"WITH edges AS (SELECT unnest([{', '.join(bounds)}]) AS edge) "
            "SELECT edge, count(*), sum(coalesce(rows_parsed, 0)), sum(coalesce(rows_rejected, 0)), "
            "count(*) FILTER (state IN ('quarantined', 'held', 'dismissed', 'refused')) "
            f"FROM (SELECT * FROM {look.relation('deliveries')} WHERE vendor = {quoted(vendor)} "
            "AND state NOT IN ('correction', 'migration') "
            f"AND discovered_at >= {bounds[0]} AND discovered_at < {bounds[-1]}) d "
            "ASOF JOIN edges ON d.discovered_at >= edges.edge GROUP BY edge"
        )
    )
    came = {row[0]: [int(str(value or 0)) for value in row[1:]] for row in found.rows}
    return tuple(Day(start, *came.get(start, [0, 0, 0, 0])) for start in starts[:-1])


def statuses_of(look: Look, vendor: str) -> tuple[StatusCount, ...]:
    """The statuses of the shipments whose current row a vendor sent, those that are not ranked first.

    This reads two columns of the whole target.

    Args:
        look: The tables.
        vendor: Its name.
    """
    contract = look.config.contract
    if contract.status is None:
        return ()
    status = name_sql(contract.status)
    found = rows_of(
        look.read(
            f"SELECT {status}, count(*) FROM {look.relation('target')} WHERE _vendor = {quoted(vendor)} GROUP BY 1"
        )
    )
    counts = [
        StatusCount(None if name is None else str(name), int(str(count)), name in contract.status_rank)
        for name, count in found.rows
    ]
    return tuple(sorted(counts, key=lambda one: (one.ranked, -one.shipments, one.status or "")))
