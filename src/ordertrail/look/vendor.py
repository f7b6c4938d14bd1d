"""What a vendor sends: its deliveries, and the statuses that its shipments have."""

from __future__ import annotations

from msgspec import Struct

from ordertrail.look.quick import Look
from ordertrail.look.recent import Columns
from ordertrail.look.rows import rows_of
from ordertrail.rules.sql import name_sql, quoted


class StatusCount(Struct, frozen=True):
    """A status that shipments have now.

    Attributes:
        status: As it stands in the target; None for none.
        shipments: How many have it.
        ranked: Whether the contract ranks it: among rows of one time, a status that is not ranked loses.
    """

    status: str | None
    shipments: int
    ranked: bool


def columns_of_vendor(columns: Columns, vendor: str) -> Columns:
    """Those of one vendor's deliveries.

    Args:
        columns: Of all deliveries.
        vendor: Its name.
    """
    import numpy as np

    wanted = columns.vendors.index(vendor) if vendor in columns.vendors else -1
    mask = np.asarray(columns.vendor) == wanted
    return Columns(
        vendor=np.zeros(int(mask.sum()), dtype=np.int64),
        vendors=(vendor,),
        found_us=columns.found_us[mask],
        modified_us=columns.modified_us[mask],
        loaded_us=columns.loaded_us[mask],
        set_aside=columns.set_aside[mask],
        rows=columns.rows[mask],
    )


def statuses_of(look: Look, vendor: str) -> tuple[StatusCount, ...]:
    """The statuses of the shipments whose current row a vendor sent, those that are not ranked first.

    This reads two columns of the whole target.

    Args:
        look: The tables.
        vendor: Its name.
    """
    contract = look.config.contract
    if contract.status is None:
        return ()
    status = name_sql(contract.status)
    found = rows_of(
        look.read(
            f"SELECT {status}, count(*) FROM {look.relation('target')} WHERE _vendor = {quoted(vendor)} GROUP BY 1"
        )
    )
    counts = [
        StatusCount(None if name is None else str(name), int(str(count)), name in contract.status_rank)
        for name, count in found.rows
    ]
    return tuple(sorted(counts, key=lambda one: (one.ranked, -one.shipments, one.status or "")))
