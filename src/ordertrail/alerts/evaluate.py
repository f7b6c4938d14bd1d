"""Brings the table of incidents up to what needs a person now.

Two processes may look at the same time, `watch` and `alerts check`: the one whose commit comes second reads what the
first one wrote and judges anew, so that nothing is opened, and later told, twice.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from ordertrail.engines.base import IncidentTable, KeptIncidents
from ordertrail.errors import CommitConflictError
from ordertrail.look.open_items import OpenItem
from ordertrail.rules.incidents import Cause, Incident, Seen, judge
from ordertrail.rules.outbox import Channel
from ordertrail.rules.secrets import masked

ATTEMPTS = 10
"""How often a change is computed again when another process has written the incidents meanwhile."""

Change = Callable[[Sequence[Incident]], Sequence[Incident] | None]
"""Computes the incidents anew from those that are there; None when nothing changes."""


def now_utc() -> datetime:
    """The time now, aware UTC."""
    return datetime.now(UTC)


def causes_of(items: Sequence[OpenItem]) -> tuple[Cause, ...]:
    """The causes of incidents that open items are, each key once."""
    found = {
        one.key: Cause(
            one.kind,
            one.key,
            one.severity,
            masked(one.text),
            one.next,
            one.since,
            _vendor_of(one),
            one.rows,
            one.shipments,
        )
        for one in items
    }
    return tuple(found.values())


def _vendor_of(item: OpenItem) -> str | None:
    """The vendor that an item concerns; the key `vendor:NAME:…` says it, too."""
    kind, _, rest = item.key.partition(":")
    return item.vendor or (rest.rpartition(":")[0] or None if kind == "vendor" else None)


def evaluate(
    table: IncidentTable, seen: Seen, channels: Sequence[Channel], now: Callable[[], datetime] = now_utc
) -> KeptIncidents:
    """Open, close and remind of incidents; what is to be told then waits in the table.

    Args:
        table: The table of incidents.
        seen: What needs a person now.
        channels: Where messages go.
        now: The clock, aware UTC.

    Returns:
        The incidents as they are now. Nothing is written when nothing changed.

    Raises:
        CommitConflictError: Other processes were faster again and again.
        OrdertrailError: The table cannot be read or written.
    """
    return changed(table, lambda known: judge(known, seen, channels, now(), lambda: new_id(now())))


def changed(table: IncidentTable, change: Change) -> KeptIncidents:
    """Write what a change makes of the incidents, computed anew while other processes write meanwhile.

    Args:
        table: The table of incidents.
        change: The change.

    Returns:
        The incidents as they are now.

    Raises:
        CommitConflictError: Other processes were faster again and again.
        OrdertrailError: The table cannot be read or written.
    """
    for attempt in range(ATTEMPTS):
        kept = table.read()
        after = change(kept.incidents)
        if after is None:
            return kept
        try:
            return table.write(kept, after)
        except CommitConflictError:
            if attempt + 1 == ATTEMPTS:
                raise
    raise AssertionError("unreachable")


def new_id(now: datetime) -> str:
    """The id of a new incident; later ones sort later.

    Args:
        now: Aware UTC.
    """
    return f"{now:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}"
