"""The statistics of a data file for the log, from its Parquet footer; other engines use them to skip files.

Source of the format: PROTOCOL.md of delta-io/delta, "Per-file Statistics". Bounds may be wider than the values but
never narrower: times are rounded outwards to the millisecond, and long texts have no bounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import MAXYEAR, UTC, date, datetime, timedelta
from pathlib import Path

from ordertrail.delta.actions import Json

MAX_BOUND_CHARS = 64
"""Longer texts get no bounds: a truncated maximum would have to be rounded up."""


def statistics(path: Path, rows: int, columns: Sequence[str]) -> dict[str, Json]:
    """The number of rows, and the minimum, maximum and number of NULLs of some columns.

    Args:
        path: A finished Parquet file.
        rows: Number of its rows.
        columns: The wanted columns; those that the file lacks, or has no bounds for, are left out.

    Raises:
        OSError: The file cannot be read.
    """
    found: dict[str, Json] = {"numRecords": rows}
    if not columns:
        return found
    import pyarrow.parquet as pq

    footer = pq.read_metadata(path)
    places = {footer.schema.column(place).path: place for place in range(footer.num_columns)}
    least: dict[str, Json] = {}
    greatest: dict[str, Json] = {}
    nulls: dict[str, Json] = {}
    for name in columns:
        if name not in places:
            continue
        groups = [footer.row_group(group).column(places[name]).statistics for group in range(footer.num_row_groups)]
        if not groups or any(group is None or not group.has_null_count for group in groups):
            continue
        nulls[name] = sum(group.null_count for group in groups)
        bounded = [group for group in groups if group.num_values]
        if not bounded or not all(group.has_min_max for group in bounded):
            continue
        low, high = _low(min(group.min for group in bounded)), _high(max(group.max for group in bounded))
        if low is not None and high is not None:
            least[name], greatest[name] = low, high
    return found | {"minValues": least, "maxValues": greatest, "nullCount": nulls}


def _low(value: object) -> Json:
    return _bound(value, timedelta())


def _high(value: object) -> Json:
    return _bound(value, timedelta(microseconds=999))


def _bound(value: object, widen: timedelta) -> Json:
    """A value as the log writes it; None when it has no unambiguous form."""
    match value:
        case bool() | float():
            return None
        case int():
            return value
        case str() if len(value) <= MAX_BOUND_CHARS:
            return value
        case datetime() if value.tzinfo is not None and value.year < MAXYEAR:
            return (value + widen).astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        case date() if not isinstance(value, datetime):
            return value.isoformat()
        case _:
            return None
