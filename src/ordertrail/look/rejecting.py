"""The vendors whose newest file has many more rejected rows than their files usually have."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from ordertrail.delta.columns import Columns
from ordertrail.model import State
from ordertrail.rules.rejecting import LOOKED_AT, MIN_ROWS, unusual_share

NEEDED = ("vendor", "state", "batch", "rows_parsed", "rows_rejected", "loaded_at", "file_name")
"""All columns that `rejecting` asks for."""


class Rejecting(Struct, frozen=True):
    """A vendor whose newest loaded file has unusually many rejected rows.

    Attributes:
        vendor: Who sent it.
        file_name: The file's name.
        rejected: Its rejected rows.
        parsed: Its rows.
        usual: The share of rejected rows that nine of ten earlier files stay below.
        loaded_at: When it was loaded; aware UTC.
    """

    vendor: str
    file_name: str
    rejected: int
    parsed: int
    usual: float
    loaded_at: datetime | None


def rejecting(columns: Columns) -> tuple[Rejecting, ...]:
    """Judge the newest loaded file of each vendor.

    Args:
        columns: Reads the deliveries table.

    Returns:
        By vendor's name; nothing of a vendor whose newest file is as usual, or has few rejected rows.
    """
    import numpy as np

    from ordertrail.arrow import NEVER, at_us, coded, integers

    table = columns(("state", "batch", "vendor", "rows_rejected"))
    states, known = coded(table["state"])
    if State.LOADED not in known:
        return ()
    vendors, names = coded(table["vendor"])
    rejected = integers(table["rows_rejected"], 0)
    loaded = np.flatnonzero(states == known.index(State.LOADED))
    loaded = loaded[np.argsort(integers(table["batch"], 0)[loaded], kind="stable")]
    turned = loaded[::-1]
    last = turned[np.unique(vendors[turned], return_index=True)[1]]
    found = []
    for place in sorted(last[rejected[last] >= MIN_ROWS].tolist(), key=lambda one: names[vendors[one]]):
        vendor = vendors[place]
        parsed = integers(columns(("rows_parsed",))["rows_parsed"], 0)
        before = loaded[vendors[loaded] == vendor][:-1]
        before = before[parsed[before] > 0][-LOOKED_AT:]
        earlier = [(int(rejected[one]), int(parsed[one])) for one in before]
        usual = unusual_share(int(rejected[place]), int(parsed[place]), earlier)
        if usual is not None:
            row = columns(("file_name", "loaded_at")).slice(place, 1)
            at = at_us(int(integers(row["loaded_at"], NEVER)[0]))
            name = str(row["file_name"][0].as_py())
            found.append(Rejecting(names[vendor], name, int(rejected[place]), int(parsed[place]), usual, at))
    return tuple(found)
