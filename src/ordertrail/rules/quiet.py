"""Whether a pass may have changed what needs a person, judged by its report alone.

Most passes load files as files are: nothing opens, nothing closes, and nobody need read 100,000 deliveries to know.
Whatever is not certainly like that counts as a change; then everything is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from ordertrail.model import RunReport, State
from ordertrail.rules.rejecting import MIN_ROWS
from ordertrail.rules.waiting import waits_long

ORDINARY = (State.LOADED, State.EMPTY, State.DUPLICATE)
"""The states of a delivery that needs nobody."""

Content = tuple[str, str]
"""A vendor, and the SHA-256 of a file of it."""


class Quiet(Struct, frozen=True):
    """What a look at the open items found, as far as it tells what would change them.

    Attributes:
        app_id: Of the pipeline's tables.
        deliveries: The version of the deliveries that was read.
        at: When; aware UTC.
        until: The first moment at which one of them may open or close by itself, such as a vendor that becomes late;
            aware UTC.
        contents: Of the deliveries that are set aside: the same bytes, loaded, close such an item.
        vendors: Of which any file may open or close an item: one that is late has come.
    """

    app_id: str
    deliveries: int
    at: datetime
    until: datetime
    contents: tuple[Content, ...] = ()
    vendors: tuple[str, ...] = ()


def may_change(quiet: Quiet, report: RunReport) -> bool:
    """Whether what a pass loaded may have opened or closed an open item.

    Args:
        quiet: From the last look.
        report: Of the pass.
    """
    if report.recovered or report.added_columns or report.correction is not None:
        return True
    return any(
        one.state not in ORDINARY
        or one.rows.rejected >= MIN_ROWS
        or one.vendor in quiet.vendors
        or (one.vendor, one.sha256) in quiet.contents
        for one in report.deliveries
    )


def told_of(report: RunReport, now: datetime, waiting_warn_h: float) -> tuple[str, ...]:
    """What a pass says of files that wait and of damaged tables; the same as long as they are the same.

    Args:
        report: Of the pass.
        now: Aware UTC.
        waiting_warn_h: How long a file may wait, in hours; 0 for ever.
    """
    waiting = (
        f"{one.file_name}: {one.reason}"
        for one in report.skipped
        if one.needs_person or waits_long(one.since, now, waiting_warn_h)
    )
    return tuple(sorted((*report.warnings, *waiting)))


def earliest(first: datetime, others: Sequence[datetime | None]) -> datetime:
    """The earliest of some times, those that are known."""
    return min((first, *(one for one in others if one is not None)))
