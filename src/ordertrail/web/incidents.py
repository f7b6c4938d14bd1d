"""The page of the incidents: the life of every cause that needed a person."""

from __future__ import annotations

import shlex

from ordertrail.errors import UsageError
from ordertrail.look import document
from ordertrail.look.follow import Moment
from ordertrail.look.incidents import Incident
from ordertrail.look.open_items import command_of
from ordertrail.look.rows import Json, Rows
from ordertrail.web.page import Answer, Ask

_LISTED = (
    "incident_id", "key", "kind", "severity", "vendor", "text", "rows", "shipments", "opened_at", "closed_at", "count",
    "acknowledged_at", "acknowledged_by", "acknowledged_why",
)  # fmt: skip


def incidents(moment: Moment, ask: Ask) -> Answer:
    """See `web.page.Page.make`."""
    which = ask.choice("show", ("all", "open", "closed"), "all")
    everything = moment.incidents()
    wanted = [one for one in everything if which == "all" or one.open == (which == "open")]
    if after := ask.text("after"):
        place = next((place for place, one in enumerate(wanted) if one.incident_id == after), None)
        if place is None:
            raise UsageError("the list has changed", hint="begin with its first page again")
        wanted = wanted[place + 1 :]
    shown = wanted[: ask.rows_most]
    onward = shown[-1].incident_id if len(wanted) > len(shown) else None
    rows = Rows(_LISTED, tuple(tuple(getattr(one, name) for name in _LISTED) for one in shown), cut=onward is not None)
    told: dict[str, Json] = {
        "pipeline": moment.config.name,
        "open": sum(1 for one in everything if one.open),
        "incidents": [document.incident(one) for one in shown],
        "after": onward,
    }
    commands = {one.incident_id: _acknowledging(moment, one) for one in shown if one.open}
    more = {"found": shown, "which": which, "any": bool(everything), "commands": commands}
    return Answer(told, rows, more)


def _acknowledging(moment: Moment, one: Incident) -> str:
    return command_of(moment.config, f"alerts ack {shlex.quote(one.key)} --why 'what is being done'")
