"""One event of the log as one line: for people, or as a JSON object (`ORDERTRAIL_LOG_FORMAT=json`)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from math import isfinite

from ordertrail.cli.screen import shown

OWN = ("time", "level", "event", "exception")
"""Members of every JSON line, `exception` only where there is a traceback; all others are the event's fields."""

_LEVEL_CHARS = 7

Event = Mapping[str, object]
"""What happened (`event`), `level`, an `exception` as text, and the event's fields."""


def text_line(event: Event) -> str:
    """Time, level, what happened, key=value; a traceback on lines of its own."""
    fields = {name: value for name, value in event.items() if name not in OWN}
    words = [
        f"{_now():%Y-%m-%dT%H:%M:%SZ}",
        str(event.get("level", "")).ljust(_LEVEL_CHARS),
        str(event.get("event", "")),
    ]
    words += [f"{key}={value!r}" if " " in str(value) else f"{key}={value}" for key, value in fields.items()]
    line = shown(" ".join(words))
    return f"{line}\n{event['exception']}" if event.get("exception") else line


def json_line(event: Event) -> str:
    """A JSON object on one line, in ASCII: `time` (ISO 8601 in UTC), `level`, `event`, the fields, `exception`."""
    fields = {name: _plain(value) for name, value in event.items() if name not in OWN}
    body = {
        "time": _iso(_now()),
        "level": _plain(event.get("level", "")),
        "event": _plain(event.get("event", "")),
        **fields,
    }
    if event.get("exception"):
        body["exception"] = _plain(event["exception"])
    return json.dumps(body)


def _plain(value: object) -> object:
    """A value as JSON has it: text, numbers, true, false, null, lists and objects of these."""
    match value:
        case None | bool() | int():
            return value
        case float() if isfinite(value):
            return value
        case datetime():
            return _iso(value)
        case Mapping():
            return {_text(key): _plain(one) for key, one in value.items()}
        case Sequence() | set() | frozenset() if not isinstance(value, str | bytes):
            return [_plain(one) for one in value]
        case _:
            return _text(value)


def _text(value: object) -> str:
    # Bytes of a file name that are no UTF-8 are lone surrogates: no parser has to accept them.
    return str(value).encode("utf-8", "backslashreplace").decode("utf-8")


def _iso(moment: datetime) -> str:
    """An aware time in UTC with microseconds; a naive one as it is."""
    if moment.tzinfo is None:
        return moment.isoformat(timespec="microseconds")
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"


def _now() -> datetime:
    return datetime.now(UTC)
