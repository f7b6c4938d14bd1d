"""A shipment: where it is, and who said so."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise
from typing import cast

from ordertrail.errors import UsageError
from ordertrail.look import document
from ordertrail.look.as_of import AsOf, moment
from ordertrail.look.follow import Moment
from ordertrail.look.rows import Json, Row, Rows
from ordertrail.look.track import CASE, ENDS, PART, STARTS, Match, Track, order_numbers
from ordertrail.look.tracking import track
from ordertrail.look.why import DID, Said, why
from ordertrail.web.page import Answer, Ask
from ordertrail.web.sorting import keep_sorted

_WAYS = {
    CASE: "written in another case",
    ENDS: "end with it",
    STARTS: "begin with it",
    PART: "have it in them",
}


def shipment(moment: Moment, ask: Ask) -> Answer:
    """See `web.page.Page.make`."""
    text, contract = ask.text("number"), moment.config.contract
    sorting = keep_sorted(moment)
    told: dict[str, Json] = {"pipeline": moment.config.name, "number": text, "sorting": sorting}
    asked = {"key": " / ".join(contract.key), "orders": order_numbers(contract), "sorting": sorting}
    if not text:
        return Answer(told, more={**asked, "found": None})
    found = track(moment.look, moment.finder, text, _as_of(moment, ask))
    said = why(contract, found) if found.as_of is None else ()
    told |= cast("dict[str, Json]", document.track(found))
    told["why"] = [_told(one) for one in said]
    rows = Rows(tuple(found.history[0]), tuple(tuple(row.values()) for row in found.history)) if found.history else None
    more: dict[str, object] = {
        **asked,
        "found": found,
        "how": _how(found.matches[0]) if found.matches else "",
        "said": said or _bare(found, contract.names),
        "lines": _timeline(found, contract.names, (*contract.key, contract.order_by, contract.status)),
        "contract": contract,
        "did": DID,
    }
    return Answer(told, rows=rows or Rows((), ()), more=more)


def _as_of(now: Moment, ask: Ask) -> AsOf | None:
    """The moment that is asked for: a batch, or a time in the reader's zone."""
    text = ask.text("as_of")
    if not text:
        return None
    number = text.lower().removeprefix("batch").strip()
    wanted: int | datetime
    if number.isascii() and number.isdigit() and len(number) < 10:
        wanted = int(number)
    else:
        try:
            wanted = datetime.fromisoformat(text)
        except ValueError as error:
            hint = "give a time such as 2026-11-23T08:00, or batch 12"
            raise UsageError(f"{text[:40]!r} is no time", hint=hint) from error
        wanted = wanted if wanted.tzinfo is not None else wanted.replace(tzinfo=ask.zone)
    return moment(now.look.read, now.look.relation("deliveries"), wanted)


def _how(match: Match) -> str:
    return _WAYS.get(match.found_by, f"have it as their {match.found_by}")


def _bare(found: Track, names: tuple[str, ...]) -> tuple[Said, ...]:
    return () if found.current is None else tuple(Said(name, found.current[name], None, None, 0) for name in names)


def _timeline(found: Track, names: tuple[str, ...], left_out: tuple[str | None, ...]) -> list[dict[str, object]]:
    """Every row of the history, oldest first: itself, whether it is the current one, and what it changed."""
    now, lines = found.current, []
    if not found.history:
        return []
    befores: list[Row | None] = [None, *(before for before, _ in pairwise(found.history))]
    for before, row in zip(befores, found.history, strict=True):
        place = ("_delivery_id", "_file_row")
        changed = [] if before is None else [n for n in names if n not in left_out and row[n] != before[n]]
        lines.append(
            {
                "row": row,
                "current": now is not None and all(row[name] == now[name] for name in place),
                "changed": [(name, None if before is None else before[name], row[name]) for name in changed],
            }
        )
    return lines


def _told(one: Said) -> Json:
    place = ("_delivery_id", "_file_name", "_file_row", "_batch", "_vendor")
    return {
        "column": one.column,
        "by": None if one.by is None else document.row({name: one.by[name] for name in place}),
        "since": None if one.since is None else document.row({name: one.since[name] for name in place}),
        "times": one.times,
    }
