"""The fold of the history in DuckDB: what the target must be (P2), for some keys or for all."""

from __future__ import annotations

from ordertrail.delta.snapshot import Snapshot
from ordertrail.delta.table import scan_sql
from ordertrail.engines.local.session import Session
from ordertrail.rules.cells import name_sql
from ordertrail.rules.outcomes import fold_sql
from ordertrail.rules.placing import PLACED, contract_key_sql, order_sql
from ordertrail.rules.tables import history_columns, stage_columns

ABSENT = "coalesce(CAST(CAST(absent AS JSON) AS VARCHAR[]), CAST([] AS VARCHAR[]))"
"""SQL of `orders_deliveries.absent` as a list."""


def place_deliveries(session: Session, ids: str | None, below_batch: int | None) -> None:
    """Make `placed`: file key, place `tb` in (vendor, path, mtime, sha256, batch) and absent columns of deliveries.

    Args:
        session: The pass; `batch_deliveries` has the deliveries of the batch, if there is one.
        ids: SQL of the delivery ids wanted; None takes all.
        below_batch: Only deliveries of earlier batches, and those of `batch_deliveries`; None takes all.
    """
    where = "true" if ids is None else f"delivery_id IN ({ids})"
    known = (
        "SELECT delivery_id, file_key AS fk, vendor, path, epoch_ms(modified_at) AS mtime_ms, sha256, "
        f"{ABSENT} AS absent, batch FROM {session.deliveries()} WHERE {where}"
    )
    parts = [known]
    if below_batch is not None:
        new = "SELECT delivery_id, fk, vendor, path, mtime_ms, sha256, absent, batch FROM batch_deliveries"
        parts = [f"{known} AND batch < {below_batch}", new]
    session.run(f"CREATE OR REPLACE TEMP VIEW known AS {' UNION ALL '.join(parts)}")
    session.run(f"CREATE OR REPLACE TEMP TABLE placed AS {PLACED}")


def fold(
    session: Session,
    history: Snapshot,
    where: str,
    absent: tuple[str, ...],
    stage: Snapshot | None,
    key: str | None = None,
) -> None:
    """Make `folded`: one row a key, `_k`, with the contract's columns and `_rescued`, folded from the accepted rows.

    Args:
        session: The pass; `placed` must hold every delivery concerned.
        history: Where the accepted rows are.
        where: SQL condition on them.
        absent: Contract columns that some delivery lacks.
        stage: Rows accepted but not yet in the history, or None.
        key: SQL of `k`; None takes the key as text.
    """
    contract = session.config.contract
    names = (*contract.names, "_rescued")
    cells = ", ".join(f"{name_sql(name)} AS c{i}" for i, name in enumerate(names))
    key = key or contract_key_sql(contract)
    past = scan_sql(session.con, history, history_columns(contract))
    rows = [f"SELECT {key} AS k, {order_sql(contract)}, {cells} FROM {past} WHERE {where}"]
    if stage is not None:
        new = scan_sql(session.con, stage, stage_columns(contract))
        rows.append(f"SELECT {key} AS k, {order_sql(contract)}, {cells} FROM {new} WHERE _kind = 'row'")
    lacks = "".join(f", list_contains(p.absent, '{name}') AS lacks_{i}" for i, name in enumerate(absent))
    columns = tuple(f"c{i}" for i in range(len(names)))
    absent_columns = tuple(f"c{names.index(name)}" for name in absent)
    session.run(
        f"CREATE OR REPLACE TEMP VIEW accepted AS SELECT r.*, p.fk, p.tb{lacks} "
        f"FROM ({' UNION ALL '.join(rows)}) r JOIN placed p USING (delivery_id)"
    )
    folded = ", ".join(f"{column} AS {name_sql(name)}" for column, name in zip(columns, names, strict=True))
    session.run(
        f"CREATE OR REPLACE TEMP TABLE folded AS SELECT k AS _k, {folded} FROM ({fold_sql(columns, absent_columns)})"
    )
