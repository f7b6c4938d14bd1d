"""The audit columns that a batch writes beside a row's cells, as SQL that DuckDB and Spark read alike.

Where a row is from was written when it was staged. What has become of it is worked out here, from relation `o`, its row
of `outcomes` (see `rules.outcomes`): `outcome`, and `rv` and `ins` of the target's row before it. A row that did not
change the target has NULL in what tells of the target's states.

The two engines differ in one word: the function that makes a time of microseconds.
"""

from __future__ import annotations

from datetime import datetime

from ordertrail.model import Outcome
from ordertrail.rules.outcomes import CODES

DUCKDB_TIME, SPARK_TIME = "make_timestamptz", "timestamp_micros"
"""The function of microseconds since 1970 UTC, in each dialect."""

CHANGED = (CODES[Outcome.INSERTED], CODES[Outcome.UPDATED])
"""The numbers of the outcomes that put a row into the target."""

FROM = ("_vendor", "_delivery_id", "_file_name", "_file_row")
"""Where a row is from: as it was staged."""


def clock_us(clock: datetime) -> int:
    """An aware UTC time in microseconds since 1970."""
    return int(clock.timestamp()) * 1_000_000 + clock.microsecond


def clock_sql(clock: datetime, time: str = DUCKDB_TIME) -> str:
    """An aware UTC time as SQL.

    Args:
        clock: The time.
        time: The dialect's function.
    """
    return f"{time}({clock_us(clock)})"


def listed_sql(outcomes: tuple[int, ...]) -> str:
    """SQL list of the numbers of outcomes."""
    return f"({', '.join(map(str, outcomes))})"


def states_sql(inserted_at: str, updated_at: str, revision: str) -> dict[str, str]:
    """The audit columns that tell of a row's states in the target, by name, each with its SQL."""
    return {"_inserted_at": inserted_at, "_updated_at": updated_at, "_revision": revision}


def inserted_sql(batch: int, clock: str) -> dict[str, str]:
    """The audit columns of rows that are all inserted.

    Args:
        batch: Its number.
        clock: SQL of its clock.
    """
    return {"_batch": f"CAST({batch} AS BIGINT)", **states_sql(clock, clock, "CAST(1 AS BIGINT)")}


def judged_sql(batch: int, clock: datetime, time: str = DUCKDB_TIME) -> dict[str, str]:
    """The audit columns of rows that were weighed.

    Args:
        batch: Its number.
        clock: Of the batch.
        time: The dialect's function.
    """
    now = clock_sql(clock, time)

    def if_changed(sql: str) -> str:
        return f"CASE WHEN o.outcome IN {listed_sql(CHANGED)} THEN {sql} END"

    states = states_sql(f"coalesce({time}(o.ins), {now})", now, "CAST(coalesce(o.rv, 0) + 1 AS BIGINT)")
    return {"_batch": f"CAST({batch} AS BIGINT)", **{name: if_changed(sql) for name, sql in states.items()}}


def history_sql(clock: datetime, time: str = DUCKDB_TIME) -> dict[str, str]:
    """The columns that the history alone has, of rows that were weighed.

    Args:
        clock: Of the batch.
        time: The dialect's function.
    """
    words = " ".join(f"WHEN {number} THEN '{outcome}'" for outcome, number in CODES.items())
    return {"_outcome": f"CASE o.outcome {words} END", "_loaded_at": clock_sql(clock, time)}
