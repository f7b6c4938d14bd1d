"""Which rows count: the accepted ones, of which the target is the fold (P2). Written once, for every reader of them.

A row is accepted when its delivery is `loaded` and it was not rejected. The history has every accepted row, with the
batch that accepted it. Nobody may count the rows of a batch that is not done: it is loaded again from the stage, and
its rows in the history may be there already.

DuckDB's dialect; `recorded_sql` and `LOADED` are every engine's.
"""

from __future__ import annotations

from ordertrail.model import Outcome

ACCEPTED_OUTCOMES = tuple(outcome for outcome in Outcome if outcome is not Outcome.REJECTED)
"""What may become of an accepted row."""

LOADED = "state = 'loaded'"
"""SQL that is true of the deliveries whose rows are accepted."""

ACCEPTED_ROWS = " + ".join(f"coalesce(rows_{outcome}, 0)" for outcome in ACCEPTED_OUTCOMES)
"""SQL of the number of accepted rows of a loaded delivery: so many has the history of it."""

ABSENT = "coalesce(CAST(CAST(absent AS JSON) AS VARCHAR[]), CAST([] AS VARCHAR[]))"
"""SQL of `orders_deliveries.absent` as a list."""


def recorded_sql(batch: int) -> str:
    """SQL that is true of the history's rows of all batches up to one.

    Args:
        batch: The last one that counts: the one with the done mark, or the one before the batch that is weighed.
    """
    return f"coalesce(_batch, 0) <= {batch}"


def lacking_sql(deliveries: str) -> str:
    """SQL of the contract columns that some loaded delivery does not carry, each once, in the order of their names.

    Args:
        deliveries: A relation with rows of `orders_deliveries`.
    """
    return f"SELECT DISTINCT unnest({ABSENT}) AS name FROM {deliveries} WHERE {LOADED} AND absent <> '[]' ORDER BY name"
