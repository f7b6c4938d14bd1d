"""The page for SQL that only reads, within limits of time, memory and rows. The address is the query's permalink."""

from __future__ import annotations

import time
from datetime import datetime

from ordertrail.errors import QueryError, UsageError
from ordertrail.look import document
from ordertrail.look.follow import Moment
from ordertrail.look.rows import Json, Rows
from ordertrail.web.page import Answer, Ask

TIMEOUT_S = 10.0
"""A query is stopped after so long, in seconds."""

ROWS = 1_000
"""A page and its JSON twin have at most so many rows."""

MOST_CHARACTERS = 20_000
"""Of a query."""

_TOO_LONG_HINT = "narrow it down with WHERE; in a terminal, ordertrail query --timeout gives it more time"


def query(moment: Moment, ask: Ask) -> Answer:
    """See `web.page.Page.make`."""
    sql, as_of = ask.text("sql"), ask.text("as_of")
    told: dict[str, Json] = {"pipeline": moment.config.name, "sql": sql or None, "as_of": as_of or None}
    more: dict[str, object] = {"sql": sql, "as_of": as_of, "examples": _examples(moment), "limits": (TIMEOUT_S, ROWS)}
    empty: dict[str, object] = {"rows": None, "error": None, "seconds": 0.0, "asked_elsewhere": False}
    if not sql:
        return Answer(told, Rows((), ()), {**more, **empty})
    if ask.from_elsewhere:
        # Whoever puts a link on a page must not make this machine compute by it: a person presses the button.
        return Answer(told, Rows((), ()), {**more, **empty, "asked_elsewhere": True})
    begin = time.monotonic()
    try:
        found = _run(moment, ask, sql, as_of)
    except (QueryError, UsageError) as error:
        hint = _TOO_LONG_HINT if "--timeout" in error.hint else error.hint
        told |= {"error": error.message, "hint": hint}
        return Answer(told, Rows((), ()), {**more, **empty, "error": (error.message, hint)}, status=400)
    seconds = round(time.monotonic() - begin, 3)
    listed = document.rows(found)
    assert isinstance(listed, dict)
    told |= {"seconds": seconds, **listed}
    return Answer(told, found, {**more, **empty, "rows": found, "seconds": seconds})


def _run(moment: Moment, ask: Ask, sql: str, as_of: str) -> Rows:
    if len(sql) > MOST_CHARACTERS:
        raise QueryError(
            f"the query has {len(sql):,} characters; a page takes {MOST_CHARACTERS:,}", hint="take ordertrail query"
        )
    then = _moment(as_of, ask)
    most = ask.rows_most if ask.twin == "csv" else ROWS
    with moment.querying() as reader:
        return reader.query(sql, max_rows=most, timeout_s=TIMEOUT_S, as_of=then)


def _moment(as_of: str, ask: Ask) -> int | datetime | None:
    """The batch or the time that is asked for; a time without offset is one of the reader's zone."""
    if not as_of:
        return None
    if as_of.isascii() and as_of.isdigit() and len(as_of) <= 18:
        return int(as_of)
    try:
        at = datetime.fromisoformat(as_of)
    except ValueError as error:
        raise UsageError(
            f"{as_of[:60]!r} is no time", hint="give 2026-11-23T08:00, or the number of a batch"
        ) from error
    return at if at.tzinfo else at.replace(tzinfo=ask.zone)


def _examples(moment: Moment) -> list[tuple[str, str]]:
    """Queries to begin with: words and SQL."""
    names, contract = moment.config.tables, moment.config.contract
    latest, key = moment.config.current if moment.config.appends else names.target, ", ".join(contract.key)
    found = {
        "Rejects by vendor and rule": f"SELECT vendor, rule, count(*) AS rows FROM {names.rejects} GROUP BY ALL",
        "Not updated for a week": f"SELECT {key}, {contract.order_by} FROM {latest} "
        "WHERE _updated_at < now() - INTERVAL 7 DAY",
        "Rows that came late": f"SELECT _vendor, count(*) AS rows FROM {names.history} "
        "WHERE _outcome = 'stale' GROUP BY ALL",
        "Columns of the target": f"DESCRIBE {names.target}",
    }
    if contract.status:
        status = f"SELECT {contract.status}, count(*) AS shipments FROM {latest} GROUP BY ALL ORDER BY shipments DESC"
        found = {"Shipments by status": status, **found}
    return list(found.items())
