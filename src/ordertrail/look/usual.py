"""What a vendor's files usually bring, so that a message can say how many shipments it is about.

A file that is set aside was not loaded, so nobody counted its shipments. Those of the vendor's earlier files were: a
shipment of a file is one row that was inserted, updated, unchanged or stale; further rows of it are superseded or
duplicates.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import median

from msgspec import Struct

from ordertrail.delta.columns import Columns
from ordertrail.model import State

LOOKED_AT = 20
"""So many of the vendor's last loaded files are looked at."""

_SHIPMENTS = ("rows_inserted", "rows_updated", "rows_unchanged", "rows_stale")

NEEDED = ("vendor", "state", "batch", "rows_parsed", "rows_rejected", *_SHIPMENTS)
"""All columns that `usual_of` asks for."""

Asked = tuple[str, int | None]
"""A vendor, and the batch that the files come before; None for all its files."""


class Usual(Struct, frozen=True):
    """What the last loaded files of a vendor brought.

    Attributes:
        rows: Rows of a file, the median.
        shipments: Shipments of a file, the median.
        share: Shipments by accepted row, above 0 and at most 1.
    """

    rows: int
    shipments: int
    share: float

    def shipments_in(self, rows: int) -> int:
        """About how many shipments so many rows are of."""
        return min(rows, max(1, round(rows * self.share)))


def usual_of(columns: Columns, asked: Iterable[Asked]) -> dict[Asked, Usual]:
    """What vendors' files usually bring. Nothing is read where nothing is asked.

    Args:
        columns: Reads the deliveries table.
        asked: Of which vendors.

    Returns:
        By what was asked; nothing for a vendor without a loaded file that has rows.
    """
    wanted = dict.fromkeys(asked)
    if not wanted:
        return {}
    import numpy as np

    from ordertrail.arrow import coded, integers

    table = columns(("state", "vendor", "batch"))
    states, known = coded(table["state"])
    vendors, names = coded(table["vendor"])
    batches = integers(table["batch"], 0)
    loaded = states == known.index(State.LOADED) if State.LOADED in known else np.zeros(len(states), dtype=bool)
    found: dict[Asked, Usual] = {}
    for vendor, before in wanted:
        if vendor not in names:
            continue
        theirs = np.flatnonzero(loaded & (vendors == names.index(vendor)))
        theirs = theirs if before is None else theirs[batches[theirs] < before]
        files = _counted(columns, theirs[np.argsort(batches[theirs], kind="stable")][-LOOKED_AT:].tolist())
        if files:
            share = sum(shipments for _, _, shipments in files) / sum(accepted for _, accepted, _ in files)
            rows, _, shipments = (int(median(counts)) for counts in zip(*files, strict=True))
            found[vendor, before] = Usual(rows, shipments, min(1.0, share))
    return found


def _counted(columns: Columns, places: Sequence[int]) -> list[tuple[int, int, int]]:
    """Rows, accepted rows and shipments of the files at some places, of those that have any."""
    table = columns(("rows_parsed", "rows_rejected", *_SHIPMENTS))
    found = []
    for place in places:  # of a few rows, whatever the table holds
        parsed, rejected, *kinds = (column[place].as_py() or 0 for column in table.columns)
        if sum(kinds):
            found.append((parsed, parsed - rejected, sum(kinds)))
    return found
