"""`ordertrail alerts ack`: somebody knows of an incident, so there are no reminders any more."""

from __future__ import annotations

from collections.abc import Sequence

from ordertrail.alerts.evaluate import changed, now_utc
from ordertrail.config import Config
from ordertrail.config.contract import nearest
from ordertrail.engines.choice import incident_table
from ordertrail.errors import UsageError
from ordertrail.rules.incidents import Incident, acknowledged


def acknowledge(config: Config, key: str, why: str, who: str) -> Incident:
    """Acknowledge the open incident with a key.

    Args:
        config: Of the pipeline.
        key: Of the incident.
        why: What is being done.
        who: Who acknowledges it.

    Returns:
        The incident afterwards.

    Raises:
        UsageError: No incident with this key is open.
        OrdertrailError: The table cannot be read or written.
    """
    done: list[Incident] = []

    def change(known: Sequence[Incident]) -> Sequence[Incident] | None:
        after, hit = acknowledged(known, key, who, why, now_utc())
        if hit is None:
            raise _unknown(key, [one.key for one in known if one.open])
        done[:] = [hit]
        return after

    changed(incident_table(config), change)
    return done[0]


def _unknown(key: str, opened: Sequence[str]) -> UsageError:
    if not opened:
        return UsageError(
            f"no incident {key!r} is open: none is", hint="ordertrail alerts list --all shows closed ones"
        )
    return UsageError(f"no incident {key!r} is open", hint=nearest(key, opened, otherwise="see ordertrail alerts list"))
