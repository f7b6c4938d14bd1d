"""Which rows count: the accepted ones, of which the target is the fold (P2). Written once, for every reader of them.

A row is accepted when it was not rejected, and it counts while its delivery is `loaded`. The history has every row that
was ever accepted, with the batch that accepted it, also those of deliveries that were taken back since. Nobody counts
the rows of a batch that is not done: it is loaded again from the stage, and its rows in the history may be there
already.

DuckDB's dialect; `recorded_sql`, `LOADED`, `RECORDED` and `TAKEN_BACK` are every engine's.
"""

from __future__ import annotations

from ordertrail.model import ROW_OUTCOMES, Outcome
from ordertrail.rules.placing import KNOWN

ACCEPTED_OUTCOMES = tuple(outcome for outcome in ROW_OUTCOMES if outcome is not Outcome.REJECTED)
"""What may become of an accepted row."""

LOADED = "state = 'loaded'"
"""SQL that is true of the deliveries whose rows count."""

RECORDED = "state IN ('loaded', 'undone', 'replayed')"
"""SQL that is true of the deliveries whose accepted rows the history has; of some of them these are none."""

TAKEN_BACK = "state IN ('undone', 'replayed')"
"""SQL that is true of the deliveries in the history whose rows do not count any more."""

ACCEPTED_ROWS = " + ".join(f"coalesce(rows_{outcome}, 0)" for outcome in ACCEPTED_OUTCOMES)
"""SQL of the number of accepted rows of a delivery that is `RECORDED`: so many has the history of it."""

ABSENT = "coalesce(CAST(CAST(absent AS JSON) AS VARCHAR[]), CAST([] AS VARCHAR[]))"
"""SQL of `orders_deliveries.absent` as a list."""


def known_sql(deliveries: str) -> str:
    """SQL of deliveries with the columns of `rules.placing.KNOWN`; a `WHERE` may follow.

    Args:
        deliveries: A relation with rows of `orders_deliveries`.
    """
    said = {"fk": "file_key", "mtime_ms": "epoch_ms(modified_at)", "absent": ABSENT}
    said["newest_first"] = "coalesce(newest_first, false)"
    columns = ", ".join(f"{said.get(name, name)} AS {name}" for name in KNOWN)
    return f"SELECT {columns} FROM {deliveries}"


def recorded_sql(batch: int) -> str:
    """SQL that is true of the history's rows of all batches up to one.

    Args:
        batch: The last one that counts: the one with the done mark, or the one before the batch that is weighed.
    """
    return f"coalesce(_batch, 0) <= {batch}"


def accepted_sql(batch: int, deliveries: str) -> str:
    """SQL that is true of the history's rows that count, of all batches up to one.

    Args:
        batch: As in `recorded_sql`.
        deliveries: A relation with rows of `orders_deliveries`.
    """
    gone = f"SELECT delivery_id FROM {deliveries} WHERE {TAKEN_BACK}"
    return f"{recorded_sql(batch)} AND coalesce(_delivery_id, '') NOT IN ({gone})"


def lacking_sql(deliveries: str, counts: str = LOADED) -> str:
    """SQL of the contract columns that some delivery does not carry, each once, in the order of their names.

    Args:
        deliveries: A relation with rows of `orders_deliveries`.
        counts: SQL that is true of the deliveries that matter.
    """
    return f"SELECT DISTINCT unnest({ABSENT}) AS name FROM {deliveries} WHERE {counts} AND absent <> '[]' ORDER BY name"
