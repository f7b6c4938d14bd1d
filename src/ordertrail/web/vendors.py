"""The vendors: who is late, what came of each, and what of it the contract does not know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from ordertrail.config import Config
from ordertrail.errors import OrdertrailError, UsageError
from ordertrail.look import document
from ordertrail.look.arrivals import Arrivals
from ordertrail.look.drift import Drift
from ordertrail.look.follow import Moment
from ordertrail.look.recent import Lately, VendorLately, day_edges, lately
from ordertrail.look.rows import Json, Rows, json_value
from ordertrail.look.vendor import StatusCount, columns_of_vendor, statuses_of
from ordertrail.web.apart import apart
from ordertrail.web.chart import Bar, bars
from ordertrail.web.page import Answer, Ask
from ordertrail.web.today import SERIES, columns_now

DAYS = 28
"""How many days of a vendor are shown."""

AT_ONCE_ROWS = 300_000
"""In a history of up to so many rows columns and statuses are looked at without being asked for."""

LOOKING_S = 20.0
"""Longest time that a page waits for them, in seconds."""

_STATES = {
    "in_time": "in time",
    "late": "came late",
    "missing": "missing",
    "expected": "expected",
    "not_expected": "nothing expected",
}


def vendors(moment: Moment, ask: Ask) -> Answer:
    """See `web.page.Page.make`."""
    arrivals = {one.vendor: one for one in _arrivals(moment, ask)}
    came = lately(columns_now(moment), day_edges(ask.now, ask.zone, DAYS), list(arrivals))
    rows = [_summary(one, arrivals.get(one.vendor)) for one in came.vendors]
    names = tuple(rows[0]) if rows else ()
    told: dict[str, Json] = {
        "pipeline": moment.config.name,
        "days": DAYS,
        "vendors": [{name: json_value(value) for name, value in row.items()} for row in rows],  # type: ignore[arg-type]
    }
    listed = Rows(names, tuple(tuple(row.values()) for row in rows))  # type: ignore[arg-type]
    return Answer(told, rows=listed, more={"came": came.vendors, "arrivals": arrivals, "days": DAYS, "words": _STATES})


def vendor(moment: Moment, ask: Ask) -> Answer:
    """See `web.page.Page.make`."""
    name = ask.text("name")
    columns = columns_of_vendor(columns_now(moment), name)
    arrivals = next((one for one in _arrivals(moment, ask) if one.vendor == name), None)
    if arrivals is None and not len(columns.vendor):
        raise UsageError(
            f"there is no vendor {name[:80]!r}" if name else "no vendor is asked for", hint="choose one of the list"
        )
    came = lately(columns, day_edges(ask.now, ask.zone, DAYS), [name])
    small = (moment.snapshots["history"].live_rows or 0) <= AT_ONCE_ROWS
    looked = _looked(moment, name, small=small) if small or ask.text("look") else None
    told: dict[str, Json] = {
        "pipeline": moment.config.name,
        "vendor": name,
        "arrivals": None if arrivals is None else document.arrivals([arrivals]),
        "days": [{"start": json_value(one.start), "files": one.files, "rows": dict(one.rows)} for one in came.spans],
        **({} if looked is None else looked.document),
    }
    more: dict[str, object] = {
        "name": name,
        "one": came.vendors[0],
        "came": came,
        "arrivals": arrivals,
        "days": DAYS,
        "words": _STATES,
        "series": SERIES,
        "chart": _chart(came, ask, name),
        "looked": looked,
        "profile": next((one for one in moment.config.vendors if one.name == name), None),
    }
    return Answer(told, more=more)


def _arrivals(moment: Moment, ask: Ask) -> Sequence[Arrivals]:
    """Kept for a minute: they are made from all deliveries."""
    minute = int(ask.now.timestamp()) // 60

    def make() -> Sequence[Arrivals]:
        with moment.reading() as reader:
            return reader.arrivals(days=DAYS, now=ask.now)

    return cast("Sequence[Arrivals]", moment.kept(("arrivals", minute), make))


def _summary(one: VendorLately, arrivals: Arrivals | None) -> dict[str, object]:
    return {
        "vendor": one.vendor,
        "expected": "" if arrivals is None else arrivals.expectation,
        "late_since": None if arrivals is None else arrivals.late_since,
        "next_expected": None if arrivals is None else arrivals.next_expected,
        "last_at": one.last_at,
        "files": one.files,
        "rows": one.rows,
        "rejected": one.rejected,
        "set_aside": one.set_aside,
    }


def _chart(came: Lately, ask: Ask, name: str) -> object:
    found = []
    for place, span in enumerate(came.spans):
        start = span.start.astimezone(ask.zone)
        told = ", ".join(f"{span.rows[one]:,} {one}" for one in SERIES if span.rows[one]) or "no rows"
        files = f"{span.files} {'file' if span.files == 1 else 'files'}"
        label = f"{start:%d %b}" if place % 4 == 1 else ""
        found.append(Bar(label, f"{start:%a %d %b}: {files}, {told}", [span.rows[one] for one in SERIES]))
    return bars(f"Rows of {name} by day and outcome; the table below has the numbers.", SERIES, found)


class _Looked:
    """What was found in the history and the target."""

    def __init__(self, drift: Drift | None, statuses: Sequence[StatusCount], trouble: str) -> None:
        self.drift, self.statuses, self.trouble = drift, statuses, trouble

    @property
    def document(self) -> Mapping[str, Json]:
        columns = () if self.drift is None else self.drift.columns
        return {
            "columns": [
                {"column": one.column, "first_seen": json_value(one.first_seen), "share": one.share, "guess": one.guess}
                for one in columns
            ],
            "statuses": [
                {"status": one.status, "shipments": one.shipments, "ranked": one.ranked} for one in self.statuses
            ],
        }


def _looked(moment: Moment, name: str, *, small: bool) -> _Looked:
    def make() -> _Looked:
        if small:
            with moment.reading() as reader:
                return _Looked(reader.drift(vendor=name), statuses_of(moment.look, name), "")
        try:
            drift, statuses = apart(_look_through, (moment.config, name), LOOKING_S)
        except TimeoutError:
            return _Looked(None, (), f"it took longer than {LOOKING_S:g} s")
        except OrdertrailError as error:
            return _Looked(None, (), f"{error.message}. {error.hint}")
        return _Looked(drift, statuses, "")

    return cast(_Looked, moment.kept(("looked", name), make))


def _look_through(config: Config, name: str) -> tuple[Drift, tuple[StatusCount, ...]]:
    from ordertrail.look.status import Reader

    with Reader(config) as reader:
        return reader.drift(vendor=name), statuses_of(reader.quick(), name)
