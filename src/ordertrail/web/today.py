"""The first page: what came, what needs a person, and whether the service is alive."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import cast

from ordertrail.look import document
from ordertrail.look.arrivals import Arrivals
from ordertrail.look.follow import Moment
from ordertrail.look.heartbeat import Heard, heard
from ordertrail.look.recent import NEEDED, Columns, Lately, VendorLately, columns_of, day_edges, hour_edges, lately
from ordertrail.look.rows import Json, json_value
from ordertrail.web.chart import Bar, bars
from ordertrail.web.page import Answer, Ask

SERIES = ("inserted", "updated", "unchanged", "stale", "superseded", "duplicate", "rejected")
"""Outcomes in the order in which they stand on each other."""

_PERIODS = ("24h", "14d")


def today(moment: Moment, ask: Ask) -> Answer:
    """See `web.page.Page.make`."""
    period = ask.choice("period", _PERIODS, "24h")
    status, beat = moment.status(), heard(moment.config)
    came = _came(moment, ask, period) if moment.begun else None
    expected = {one.vendor: one for one in moment.arrivals(ask.now, days=1)} if moment.begun else {}
    told: dict[str, Json] = {
        "pipeline": moment.config.name,
        "at": json_value(ask.now),
        "service": _service(beat, ask.now),
        "last_batch": status.last_batch,
        "last_loaded_at": json_value(status.last_loaded_at),
        "waiting_files": status.waiting_files,
        "open_items": [document.open_item(one) for one in status.open_items],
        "period": period,
        "lag_p50_s": None if came is None else came.lag_p50_s,
        "lag_p95_s": None if came is None else came.lag_p95_s,
        "vendors": [] if came is None else [_vendor(one, expected.get(one.vendor)) for one in came.vendors],
        "spans": [] if came is None else [_span(came, place) for place in range(len(came.spans))],
    }
    more: dict[str, object] = {
        "status": status,
        "came": came,
        "expected": expected,
        "beat": beat,
        "silent": beat is not None and beat.silent(ask.now),
        "series": SERIES,
        "chart": None if came is None else _chart(came, ask, period),
    }
    return Answer(told, more=more)


def prepare(moment: Moment) -> None:
    """Make what a moment keeps for this page, before anybody waits for it."""
    columns_now(moment)
    moment.arrivals(datetime.now(UTC), days=1)


def columns_now(moment: Moment) -> Columns:
    """The deliveries as arrays, made once for a state of the tables."""
    return cast(
        Columns, moment.kept(columns_of, lambda: columns_of(moment.deliveries(NEEDED, keep=False)), of_deliveries=True)
    )


def _came(moment: Moment, ask: Ask, period: str) -> Lately:
    columns = columns_now(moment)
    edges = (hour_edges if period == "24h" else day_edges)(ask.now, ask.zone)
    names = [vendor.name for vendor in moment.config.vendors]
    key = (lately, period, edges[0], ask.zone.key)
    return cast(Lately, moment.kept(key, lambda: lately(columns, edges, names)))


def _chart(came: Lately, ask: Ask, period: str) -> object:
    found: Sequence[Bar] = [
        Bar(
            label=f"{span.start.astimezone(ask.zone):{'%H' if period == '24h' else '%d %b'}}"
            if (period == "24h" and place % 3 == 0) or (period == "14d" and place % 2 == 1)
            else "",
            title=_words(span.start.astimezone(ask.zone), period, span.rows, span.files),
            parts=[span.rows[name] for name in SERIES],
        )
        for place, span in enumerate(came.spans)
    ]
    rows = sum(sum(span.rows.values()) for span in came.spans)
    long = "24 hours" if period == "24h" else "14 days"
    return bars(
        f"Rows by outcome over the last {long}: {rows:,} in all. The table below has the numbers.", SERIES, found
    )


def _words(start: datetime, period: str, rows: dict[str, int], files: int) -> str:
    told = ", ".join(f"{rows[name]:,} {name}" for name in SERIES if rows[name]) or "no rows"
    at = f"{start:%d %b %H:%M}" if period == "24h" else f"{start:%a %d %b}"
    return f"{at}: {files} {'file' if files == 1 else 'files'}, {told}"


def _service(beat: Heard | None, now: datetime) -> Json:
    if beat is None:
        return {"state": "none", "beat_at": None}
    state = "silent" if beat.silent(now) else "failing" if beat.failures else "alive"
    return {"state": state, "beat_at": json_value(beat.beat_at)}


def _vendor(one: VendorLately, expected: Arrivals | None) -> Json:
    return {
        "vendor": one.vendor,
        "last_at": json_value(one.last_at),
        "files": one.files,
        "rows": one.rows,
        "rejected": one.rejected,
        "set_aside": one.set_aside,
        "expectation": None if expected is None else expected.expectation or None,
        "next_expected": None if expected is None else json_value(expected.next_expected),
        "late_since": None if expected is None else json_value(expected.late_since),
    }


def _span(came: Lately, place: int) -> Json:
    one = came.spans[place]
    return {"start": json_value(one.start), "end": json_value(one.end), "files": one.files, "rows": dict(one.rows)}
