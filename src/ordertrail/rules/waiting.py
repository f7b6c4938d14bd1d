"""The warnings of a pass about files that wait in the source folder: those that need a person, or wait for long."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from ordertrail.model import Skipped

NAMED = 10
"""How many files are named; further ones are only counted."""


def waiting_warnings(skipped: Sequence[Skipped], now: datetime, limit_h: float) -> list[str]:
    """Warnings, one line each; they stay the same from pass to pass, so that a service says them once.

    Args:
        skipped: The files that were left alone, with the time when each was first seen.
        now: Aware.
        limit_h: How long a file may wait without a warning, in hours; 0 for ever.
    """
    told = [f"{one.file_name}: {one.reason}" for one in skipped if one.needs_person]
    limit = timedelta(hours=limit_h)
    told += [
        f"{one.file_name} has been waiting since {one.since:%Y-%m-%d %H:%M} UTC: {one.reason}"
        for one in skipped
        if not one.needs_person and limit_h > 0 and one.since is not None and now - one.since >= limit
    ]
    more = len(told) - NAMED
    return told if more <= 0 else [*told[:NAMED], f"{more} more files wait: ordertrail status lists them"]
