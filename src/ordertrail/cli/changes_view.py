"""`changes` as text for people and as JSON documents, but for the changes themselves."""

from __future__ import annotations

from collections.abc import Sequence

from ordertrail.cli.render import plural
from ordertrail.cli.screen import Column, Screen
from ordertrail.look.changes import Written
from ordertrail.look.consume import Standing
from ordertrail.look.rows import Json, json_value

_COLUMNS = (
    Column("consumer"),
    Column("next batch", right=True),
    Column("behind by", right=True),
    Column("last seen (UTC)"),
)


def document(found: Written) -> Json:
    """`changes` into a file."""
    return {
        "from_batch": found.from_batch,
        "next_batch": found.next_batch,
        "changes": found.changes,
        "path": str(found.path),
        "bytes": found.size_bytes,
    }


def written(screen: Screen, found: Written) -> None:
    """`changes` into a file."""
    if found.next_batch == found.from_batch:
        screen.line(f"No batch is done since; {found.path} has no change")
    else:
        batches = f"batches {found.from_batch} to {found.next_batch - 1}"
        screen.line(f"{plural(found.changes, 'change')} of {batches} in {found.path}")
    screen.line(f"next batch: {found.next_batch}")


def consumers_document(found: Sequence[Standing]) -> Json:
    """`changes --consumers`; `behind_by` is null when a consumer has read other tables than these."""
    return {
        "consumers": [
            {
                "name": one.name,
                "next_batch": one.next_batch,
                "behind_by": one.behind,
                "last_seen": json_value(one.seen_at),
            }
            for one in found
        ]
    }


def consumers(screen: Screen, found: Sequence[Standing]) -> None:
    """`changes --consumers`."""
    if not found:
        screen.line("No consumer is recorded.")
        return
    rows = [
        (
            one.name,
            str(one.next_batch),
            "other tables" if one.behind is None else plural(one.behind, "batch"),
            f"{one.seen_at:%Y-%m-%d %H:%M}",
        )
        for one in found
    ]
    screen.table(_COLUMNS, rows)
