"""The read model of incidents, for the commands, the pages and the metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ordertrail.config import Config
from ordertrail.engines.choice import incident_table
from ordertrail.errors import UsageError
from ordertrail.rules.incidents import Incident, listed

if TYPE_CHECKING:
    from ordertrail.engines.spark.session import SparkSession

__all__ = ["Incident", "incidents_of"]


def incidents_of(
    config: Config, *, before: str | None = None, limit: int | None = None, session: SparkSession | None = None
) -> tuple[Incident, ...]:
    """The incidents of a pipeline: open ones first, newest first; none before the first one opened.

    Args:
        config: Of the pipeline.
        before: The `incident_id` of the last one that the caller has: only those after it in this order.
        limit: At most so many; None for all.
        session: For tables by name; None uses the active one, or starts one.

    Raises:
        UsageError: There is no incident with this id.
        TableError: The table is damaged, or another pipeline's.
        StorageError: It cannot be read.
    """
    found = listed(incident_table(config, session).read().incidents)
    if before is not None:
        place = next((place for place, one in enumerate(found) if one.incident_id == before), None)
        if place is None:
            raise UsageError(f"there is no incident {before}", hint="begin with the first page again")
        found = found[place + 1 :]
    return found if limit is None else found[:limit]
