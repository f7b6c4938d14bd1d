"""Incidents as rows of the table `orders_incidents`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial

from ordertrail.rules.incidents import Incident
from ordertrail.rules.outbox import outbox_of, outbox_text

Row = dict[str, str | int | datetime | None]
"""A row of `orders_incidents`."""


def row_of(one: Incident) -> Row:
    """An incident as a row of the table."""
    return {
        "incident_id": one.incident_id,
        "key": one.key,
        "kind": one.kind,
        "severity": one.severity,
        "vendor": one.vendor,
        "text": one.text,
        "next": one.next,
        "rows_affected": one.rows,
        "shipments_affected": one.shipments,
        "since": one.since,
        "opened_at": one.opened_at,
        "seen_at": one.seen_at,
        "count": one.count,
        "closed_at": one.closed_at,
        "acknowledged_at": one.acknowledged_at,
        "acknowledged_by": one.acknowledged_by,
        "acknowledged_why": one.acknowledged_why,
        "reminded": one.reminded,
        "remind_at": one.remind_at,
        "outbox": outbox_text(one.posts),
    }


def incident_of(row: Mapping[str, object]) -> Incident:
    """The incident that a row of the table is about.

    Args:
        row: Its cells by column; times are aware, and a column that an older release did not write may be missing.
    """
    text, at = partial(_text, row), partial(_time, row)
    opened_at = at("opened_at") or datetime.fromtimestamp(0, UTC)
    return Incident(
        incident_id=text("incident_id") or "",
        key=text("key") or "",
        kind=text("kind") or "",
        severity="critical" if row.get("severity") == "critical" else "warning",
        vendor=text("vendor"),
        text=text("text") or "",
        next=text("next") or "",
        rows=_number(row, "rows_affected"),
        shipments=_number(row, "shipments_affected"),
        since=at("since"),
        opened_at=opened_at,
        seen_at=at("seen_at") or opened_at,
        count=_number(row, "count") or 1,
        closed_at=at("closed_at"),
        acknowledged_at=at("acknowledged_at"),
        acknowledged_by=text("acknowledged_by"),
        acknowledged_why=text("acknowledged_why"),
        reminded=_number(row, "reminded") or 0,
        remind_at=at("remind_at"),
        posts=outbox_of(text("outbox")),
    )


def _text(row: Mapping[str, object], name: str) -> str | None:
    found = row.get(name)
    return None if found is None else str(found)


def _number(row: Mapping[str, object], name: str) -> int | None:
    found = row.get(name)
    return None if found is None else int(str(found))


def _time(row: Mapping[str, object], name: str) -> datetime | None:
    found = row.get(name)
    return found.astimezone(UTC) if isinstance(found, datetime) else None
