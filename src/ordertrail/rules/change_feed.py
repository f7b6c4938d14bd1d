"""The target's change data feed: what the config asks for, and what the table does.

Source of the format: PROTOCOL.md of delta-io/delta, "Add CDC File" and "Change Data Files". A version of the table is
either explicit, and readers of changes read its `cdc` files alone, or inferable: they work the changes out of the files
that were added and removed.
"""

from __future__ import annotations

FEED = "delta.enableChangeDataFeed"
"""Table property: whether readers may ask for the changes of each version."""

FEATURE = "changeDataFeed"
"""Writer feature without which the property counts for nothing at writer version 7."""

CHANGE_TYPE = "_change_type"
"""Column of a file with changes: one of the four words below."""

INSERT, DELETE = "insert", "delete"
PREIMAGE, POSTIMAGE = "update_preimage", "update_postimage"

RESERVED = frozenset({CHANGE_TYPE, "_commit_version", "_commit_timestamp"})
"""Names that readers of changes add, so that no column of the table may have them."""


def feed_note(wanted: str, table: str, *, on: bool) -> str | None:
    """A line that says how config and table differ; None when they agree.

    Args:
        wanted: `change_feed` of the config.
        table: The target's name.
        on: Whether its feed is on.
    """
    if on == (wanted != "off"):
        return None
    if on:
        return (
            f'change_feed is "off", but the change data feed of {table} is on and is kept right: set change_feed = '
            '"pairs" to agree, or let ordertrail migrate --apply switch it off'
        )
    off = f'change_feed is "{wanted}", but the change data feed of {table} is off'
    return f"{off}: ordertrail migrate --apply switches it on"
