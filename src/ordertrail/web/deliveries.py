"""The deliveries, and one of them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, time, timedelta

from msgspec.structs import asdict

from ordertrail.errors import UsageError
from ordertrail.look import deliveries as listing
from ordertrail.look import document
from ordertrail.look.archived_lines import Lines, archived_lines, line_of_row
from ordertrail.look.delivery import Delivery
from ordertrail.look.delivery import delivery as find
from ordertrail.look.follow import Moment
from ordertrail.look.rows import Json
from ordertrail.model import State
from ordertrail.web.apart import PREVIEW_S, previewed
from ordertrail.web.page import Answer, Ask

SHOWN = ("duplicate", "stale", "superseded", "unchanged", "updated", "inserted", "rejected")
"""Outcomes as a delivery's equation lists them, from the least to the most interesting."""


def deliveries(moment: Moment, ask: Ask) -> Answer:
    """See `web.page.Page.make`."""
    since, until = day(ask, "since"), day(ask, "until")
    wanted = listing.Wanted(
        vendor=ask.text("vendor"),
        state=ask.text("state"),
        since=since,
        until=None if until is None else _next_day(until),
        name=ask.text("name"),
        rejects=bool(ask.text("rejects")),
        after=ask.text("after"),
    )
    listed = listing.deliveries(moment.look, wanted, ask.rows_most)
    told: dict[str, Json] = {
        "pipeline": moment.config.name,
        "rows": [document.row(one) for one in listed.rows.dicts()],
        "after": listed.after,
    }
    more: Mapping[str, object] = {
        "rows": listed.rows.dicts(),
        "vendors": [vendor.name for vendor in moment.config.vendors],
        "states": [str(state) for state in State],
        "filtered": any(ask.text(name) for name in ("vendor", "state", "since", "until", "name", "rejects")),
    }
    return Answer(told, rows=listed.rows, more=more)


def delivery(moment: Moment, ask: Ask) -> Answer:
    """See `web.page.Page.make`."""
    wanted = ask.text("id")
    found = find(moment.look, wanted) if wanted else None
    if found is None:
        raise UsageError(
            f"there is no delivery {wanted[:80]!r}" if wanted else "no delivery is asked for",
            hint="choose one of the list of deliveries",
        )
    line, lines = ask.whole("line", 0, 1, 10**12), None
    if not line and (number := ask.whole("row", 0, 1, 10**12)):
        place = line_of_row(moment.config, found.row, number)
        line, lines = (place, None) if isinstance(place, int) else (0, place)
    if line:
        lines = archived_lines(moment.config, found.row, line)
    plan = previewed(moment.config, wanted, PREVIEW_S) if ask.text("undo") else None
    told: dict[str, Json] = {
        "pipeline": moment.config.name,
        "delivery": document.row(found.row),
        "rows": dict(found.equation),
        "balanced": found.balanced,
        "rejects": [document.row(one) for one in found.rejects.dicts()],
        "first_rows": [document.row(one) for one in found.first_rows.dicts()],
        "corrections": [document.row(one) for one in found.corrections],
        "replaces": [document.row(one) for one in found.replaces],
        "replaced_by": None if found.replaced_by is None else document.row(found.replaced_by),
        "commands": [asdict(one) for one in found.commands],
        "lines": None if lines is None else _lines(lines),
        "undo": None if plan is None else plan.document,
    }
    more = {"found": found, "shown": _parts(found), "lines": lines, "line": line, "plan": plan}
    return Answer(told, more=more)


def day(ask: Ask, name: str) -> datetime | None:
    """The midnight with which a day of the query begins, in the reader's zone; None when none is asked for.

    Raises:
        UsageError: It is no day.
    """
    text = ask.text(name)
    if not text:
        return None
    try:
        return datetime.combine(date.fromisoformat(text), time(), ask.zone)
    except ValueError as error:
        raise UsageError(f"{name} is {text[:40]!r}, which is no day", hint="give one such as 2026-11-23") from error


def _next_day(start: datetime) -> datetime:
    """The next midnight; a day is not always 24 hours."""
    return datetime.combine(start.date() + timedelta(days=1), time(), start.tzinfo)


def _parts(found: Delivery) -> list[tuple[str, int]]:
    return [(name, found.equation[name]) for name in reversed(SHOWN) if name in found.equation]


def _lines(found: Lines) -> Json:
    lines: list[Json] = [asdict(one) for one in found.lines]
    return {"lines": lines, "trouble": found.trouble, "checked": found.checked, "codec": found.codec}
