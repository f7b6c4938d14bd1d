"""The fold of the history in DuckDB: what the target must be (P2), for some keys or for all."""

from __future__ import annotations

from collections.abc import Sequence

from ordertrail.engines.local.relations import ACCEPTED, FOLDED, Relation
from ordertrail.engines.local.relations import PLACED as PLACED_RELATION
from ordertrail.engines.local.session import Session
from ordertrail.rules.accepted import LOADED, known_sql
from ordertrail.rules.outcomes import fold_sql
from ordertrail.rules.placing import KNOWN, PLACED, contract_key_sql, order_sql, placed_sql
from ordertrail.rules.sql import name_sql


def place_deliveries(
    session: Session, ids: str | None = None, batch: tuple[int, Relation] | None = None, counts: str = LOADED
) -> Relation:
    """Create `placed`: file key, place `tb` in (vendor, path, mtime, sha256, batch) and absent columns of deliveries.

    Args:
        session: The pass.
        ids: SQL of the wanted delivery ids; None means all.
        batch: Number and deliveries of the batch that is weighed: of the recorded deliveries only those of earlier
            batches count. None means all.
        counts: SQL that is true of the recorded deliveries whose rows count. The others have no place.

    Returns:
        `placed`.
    """
    where = "true" if ids is None else f"delivery_id IN ({ids})"
    known = f"{known_sql(session.deliveries())} WHERE {where} AND {counts}"
    if batch is not None:
        number, new = batch
        known += f" AND batch < {number} UNION ALL SELECT {', '.join(KNOWN)} FROM {new}"
    return PLACED_RELATION.make(session.run, f"WITH known AS ({known}) {PLACED}")


def fold(
    session: Session, placed: Relation, rows: Sequence[str], absent: tuple[str, ...], key: str | None = None
) -> Relation:
    """Create `folded`: one row a key, `_k`, with the contract's columns and `_rescued`, folded from accepted rows.

    Args:
        session: The pass.
        placed: Has every delivery concerned.
        rows: Relations with accepted rows: the contract's columns, `_rescued`, `_file_row` and `_delivery_id`.
        absent: Contract columns that some delivery lacks.
        key: SQL of `_k`; None means the key as text.

    Returns:
        `folded`.
    """
    contract = session.config.contract
    names = (*contract.names, "_rescued")
    cells = ", ".join(f"{name_sql(name)} AS c{i}" for i, name in enumerate(names))
    key = key or contract_key_sql(contract)
    parts = (f"SELECT {key} AS k, {order_sql(contract)}, {cells} FROM {part}" for part in rows)
    ACCEPTED.make(session.run, placed_sql(f"({' UNION ALL '.join(parts)})", absent, str(placed)))
    columns = tuple(f"c{i}" for i in range(len(names)))
    absent_columns = tuple(f"c{names.index(name)}" for name in absent)
    folded = ", ".join(f"{column} AS {name_sql(name)}" for column, name in zip(columns, names, strict=True))
    return FOLDED.make(session.run, f"SELECT k AS _k, {folded} FROM ({fold_sql(columns, absent_columns)})")
