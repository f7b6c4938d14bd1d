"""Which files that wait in the source folder need a person, and the warnings of a pass about them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from ordertrail.model import Skipped

NAMED = 10
"""How many files are named; further ones are only counted."""


def waits_long(since: datetime | None, now: datetime, limit_h: float) -> bool:
    """Whether a file has been waiting for so long that a person should look.

    Args:
        since: When it was first seen, aware; None when that is not known.
        now: Aware.
        limit_h: How long a file may wait, in hours; 0 for ever.
    """
    return limit_h > 0 and since is not None and now - since >= timedelta(hours=limit_h)


def waiting_text(name: str, reason: str, since: datetime | None, *, needs_person: bool) -> str:
    """What a person is told of a file that waits, the same wherever it is told.

    Args:
        name: Its path below the source, as clean text.
        reason: Why it waits.
        since: Since when, aware UTC; None when that is not known.
        needs_person: Whether it waits for something that does not happen by itself.
    """
    if needs_person or since is None:
        return f"{name}: {reason}"
    return f"{name} has been waiting since {since:%Y-%m-%d %H:%M} UTC: {reason}"


def waiting_warnings(skipped: Sequence[Skipped], now: datetime, limit_h: float) -> list[str]:
    """Warnings, one line each; they stay the same from pass to pass, so that a service says them once.

    Args:
        skipped: The files that were left alone, with the time when each was first seen.
        now: Aware.
        limit_h: How long a file may wait without a warning, in hours; 0 for ever.
    """
    at_once = [one for one in skipped if one.needs_person]
    late = [one for one in skipped if not one.needs_person and waits_long(one.since, now, limit_h)]
    told = [
        waiting_text(one.file_name, one.reason, one.since, needs_person=one.needs_person) for one in (*at_once, *late)
    ]
    more = len(told) - NAMED
    return told if more <= 0 else [*told[:NAMED], f"{more} more files wait: ordertrail status lists them"]
