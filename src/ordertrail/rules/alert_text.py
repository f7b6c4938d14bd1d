"""The messages about incidents: plain text whose first line fits a text message of a phone.

```
orders: bad.csv of acme is quarantined: no column tracking_num (240 rows of about 231 shipments)

since      2026-11-23 08:30 UTC, for 1 h 5 min
concerns   240 rows of about 231 shipments: none of them is in the target
type next  ordertrail rejects --delivery 000012-00001-51c7a1e0
known?     ordertrail alerts ack delivery:000012-00001-51c7a1e0 --why "..."
```
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from ordertrail.rules.incidents import CHANNEL, Incident
from ordertrail.rules.outbox import Event, Severity

FIRST_LINE = 160
"""Characters of the first line: those of one text message."""

MOST_TOLD = 20
"""Incidents that one message tells of; it counts the others."""

_MARKS: dict[Event, str] = {"open": "", "remind": "still: ", "close": "over: "}


class Message(Struct, frozen=True):
    """What is sent on a channel.

    Attributes:
        title: The first line, of at most `FIRST_LINE` characters.
        body: All else.
        severity: The worst of the incidents that it tells of.
        over: Whether all of them are over.
    """

    title: str
    body: str
    severity: Severity = "warning"
    over: bool = False

    @property
    def text(self) -> str:
        """The whole message."""
        return f"{self.title}\n\n{self.body}".rstrip()


def message(pipeline: str, told: Sequence[tuple[Incident, Event]], now: datetime, option: str = "") -> Message:
    """The one message that tells events.

    Args:
        pipeline: The pipeline's name.
        told: At least one incident with what happened.
        now: Aware UTC.
        option: What commands need to find the config, such as ` --config FILE`.
    """
    ordered = sorted(told, key=lambda one: (one[1] == "close", one[0].severity != "critical", one[0].opened_at))
    first, event = ordered[0]
    severity: Severity = "critical" if any(one.severity == "critical" for one, _ in told) else "warning"
    over = all(event == "close" for _, event in told)
    if len(told) == 1:
        title = _title(pipeline, first, event)
        whole = () if first.text in title else (f"{first.text}\n",)
        return Message(title, "\n".join((*whole, *_details(first, event, now, option))), severity, over)
    begun = sum(1 for _, event in told if event != "close")
    parts = [f"{count} {words}" for count, words in ((begun, "open"), (len(told) - begun, "over")) if count]
    title = _cut(f"{_who(pipeline, severity, over=over)}: {', '.join(parts)}; {_MARKS[event]}{first.text}")
    blocks = [
        "\n".join((_words("", one, event), *_details(one, event, now, option))) for one, event in ordered[:MOST_TOLD]
    ]
    if len(told) > MOST_TOLD:
        blocks.append(f"and {len(told) - MOST_TOLD} more: ordertrail alerts list{option}")
    return Message(title, "\n\n".join(blocks), severity, over)


def trial(pipeline: str, channel: str, now: datetime) -> Message:
    """The message that `ordertrail alerts test` sends.

    Args:
        pipeline: The pipeline's name.
        channel: The channel's name.
        now: Aware UTC.
    """
    title = _cut(f"{pipeline}: this is a test of the channel {channel}")
    return Message(
        title, f"Sent at {now:%Y-%m-%d %H:%M:%S} UTC by ordertrail alerts test. Nothing is wrong.", over=True
    )


def _title(pipeline: str, one: Incident, event: Event) -> str:
    """The first line; with the rows where they fit, for a text message is this line alone."""
    line = _cut(_words(pipeline, one, event))
    rows = f" ({_rows(one.rows, one.shipments)})" if one.rows and event != "close" else ""
    return line + rows if len(line + rows) <= FIRST_LINE else line


def _words(pipeline: str, one: Incident, event: Event) -> str:
    who = _who(pipeline, one.severity, over=event == "close")
    return f"{who}: {_MARKS[event]}{one.text}" if who else f"{_MARKS[event]}{one.text}"


def _who(pipeline: str, severity: Severity, *, over: bool) -> str:
    loud = "CRITICAL" if severity == "critical" and not over else ""
    return " ".join(filter(None, (pipeline, loud)))


def _details(one: Incident, event: Event, now: datetime, option: str) -> Iterator[str]:
    since = one.since or one.opened_at
    end = one.closed_at if event == "close" and one.closed_at is not None else now
    until = f" to {_at(end)}" if event == "close" else ""
    yield f"since      {_at(since)}{until}, {'after' if event == 'close' else 'for'} {_span(end - since)}"
    if one.rows:
        none = "it is not" if one.rows == 1 else "none of them is"
        yield f"concerns   {_rows(one.rows, one.shipments)}: {none} in the target"
    if one.count > 1:
        yield f"came       {one.count} times since {_at(one.opened_at)}"
    if event == "close":
        return
    yield f"type next  {one.next}"
    if one.kind != CHANNEL:
        yield f'known?     ordertrail alerts ack {shlex.quote(one.key)} --why "..."{option}'


def _rows(rows: int, shipments: int | None) -> str:
    if rows == 1:
        return "1 row, at most one shipment"
    if shipments is None:
        return f"{rows:,} rows, at most as many shipments"
    return f"{rows:,} rows of about {shipments:,} shipment{'' if shipments == 1 else 's'}"


def _at(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"


def _span(span: timedelta) -> str:
    minutes = max(0, int(span.total_seconds() // 60))
    days, rest = divmod(minutes, 24 * 60)
    hours, minutes = divmod(rest, 60)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= FIRST_LINE else f"{line[: FIRST_LINE - 3]}..."
