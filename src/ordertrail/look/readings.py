"""What the metrics are made of, read from the tables, the folders and the heartbeat at one moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from msgspec import Struct, field

from ordertrail.config import Config
from ordertrail.delta.columns import Columns
from ordertrail.delta.log import DeltaLog
from ordertrail.engines.choice import incident_table, placed
from ordertrail.engines.local.whole import places_of, read_whole
from ordertrail.errors import OrdertrailError
from ordertrail.look.delivered import columns_in
from ordertrail.look.heartbeat import Heard, heard
from ordertrail.look.open_items import Waiting
from ordertrail.look.space import free_bytes, nearest
from ordertrail.look.standing import Status, not_begun, standing, waiting_in
from ordertrail.markers import Belonging
from ordertrail.model import ROW_OUTCOMES
from ordertrail.rules.incidents import Incident

MOST_VENDORS = 100
"""Vendors that are told by name: those of the config first, then those that only the tables know."""

OTHERS = "(others)"
"""The name under which all further vendors are summed."""

Counts = Mapping[str, Mapping[str, int]]
"""By vendor, then by outcome or state."""


class Readings(Struct, frozen=True):
    """What was read.

    Attributes:
        status: Of the pipeline; None when its tables cannot be read here.
        rows: Rows of the files of each vendor, by outcome.
        deliveries: Files of each vendor, by state.
        waiting: The files in the source folder.
        heartbeat: Of the service.
        free_bytes: Free space, by folder.
        incidents: Open and closed; None when they cannot be read here.
        trouble: Why the tables cannot be read; None when they can, or are none of this process' business.
    """

    status: Status | None = None
    rows: Counts = field(default_factory=dict)
    deliveries: Counts = field(default_factory=dict)
    waiting: Sequence[Waiting] = ()
    heartbeat: Heard | None = None
    free_bytes: Mapping[str, int] = field(default_factory=dict)
    incidents: Sequence[Incident] | None = None
    trouble: str | None = None

    @property
    def readable(self) -> bool:
        """Whether nothing was in the way of reading the tables."""
        return self.trouble is None


def read(config: Config, now: datetime) -> Readings:
    """Read all there is; what cannot be read is left out.

    Tables that only Spark reaches are not read: that would be a job on the cluster each time somebody asks.

    Args:
        config: Of the pipeline.
        now: Aware UTC.
    """
    beat, free = heard(config), free_spaces(config)
    trouble = None
    if not config.by_name:
        try:
            return _of_tables(config, beat, free)
        except (OrdertrailError, OSError) as error:
            trouble = str(error)
    waiting, _ = waiting_in(config, now)
    return Readings(waiting=waiting, heartbeat=beat, free_bytes=free, trouble=trouble)


def _of_tables(config: Config, beat: Heard | None, free: Mapping[str, int]) -> Readings:
    if not any(DeltaLog(root).exists() for root in places_of(config).values()):
        Belonging(config).refuse_beginning()
        status = not_begun(config)
        return Readings(status, waiting=status.waiting, heartbeat=beat, free_bytes=free, incidents=_incidents(config))
    config = placed(config)
    snapshots = {getattr(config.tables, role): one for role, one in read_whole(config).items()}
    status = standing(config, snapshots)
    rows, deliveries = counted(columns_in(snapshots[config.tables.deliveries]), [one.name for one in config.vendors])
    return Readings(status, rows, deliveries, status.waiting, beat, free, _incidents(config))


def _incidents(config: Config) -> Sequence[Incident] | None:
    """None when they cannot be read: that takes nothing else along."""
    try:
        return incident_table(config).read().incidents
    except OrdertrailError:
        return None


def counted(columns: Columns, known: Sequence[str]) -> tuple[Counts, Counts]:
    """Rows by outcome and files by state, of each vendor; corrections and migrations have no vendor and are left out.

    Args:
        columns: Reads the deliveries.
        known: The vendors of the config; they are told even when nothing came from them.
    """
    names = tuple(f"rows_{outcome.value}" for outcome in ROW_OUTCOMES)
    import numpy as np

    from ordertrail.arrow import coded, integers

    table = columns(("vendor", "state", *names))
    vendor, vendors = coded(table["vendor"])
    state, states = coded(table["state"])
    called = _called(known, vendors)
    rows: dict[str, dict[str, int]] = {name: {} for name in called.values()}
    deliveries: dict[str, dict[str, int]] = {name: {} for name in called.values()}
    for outcome, name in zip(ROW_OUTCOMES, names, strict=True):
        sums = np.zeros(len(vendors), dtype=np.int64)
        np.add.at(sums, vendor, integers(table[name], 0))
        for one, total in zip(vendors, sums, strict=True):
            if one:
                _add(rows[called[one]], {outcome: int(total)})
    for place, count in enumerate(np.bincount(vendor * len(states) + state)):
        if count and (one := vendors[place // len(states)]):
            _add(deliveries[called[one]], {states[place % len(states)]: int(count)})
    return rows, deliveries


def _called(known: Sequence[str], vendors: Sequence[str]) -> dict[str, str]:
    """The name under which each vendor is told."""
    found = dict.fromkeys((*known, *sorted(name for name in vendors if name)))
    return {name: name if place < MOST_VENDORS else OTHERS for place, name in enumerate(found)}


def _add(sums: dict[str, int], more: Mapping[str, int]) -> None:
    for name, count in more.items():
        sums[str(name)] = sums.get(str(name), 0) + int(count)


def free_spaces(config: Config) -> dict[str, int]:
    """Free bytes on the disks of the folders, by what the folder is; what cannot be asked is left out."""
    found: dict[str, int] = {}
    for name, path in (("source", config.source), ("archive", config.archive), ("warehouse", config.warehouse)):
        try:
            found[name] = free_bytes(nearest(path))
        except OSError:
            continue
    return found
