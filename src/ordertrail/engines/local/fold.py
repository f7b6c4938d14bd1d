"""The fold of the history in DuckDB: what the target must be (P2), for some keys or for all."""

from __future__ import annotations

from ordertrail.delta.snapshot import Snapshot
from ordertrail.delta.table import scan_sql
from ordertrail.engines.local.session import Session
from ordertrail.rules.accepted import ABSENT
from ordertrail.rules.cells import name_sql
from ordertrail.rules.outcomes import fold_sql
from ordertrail.rules.placing import KNOWN, PLACED, contract_key_sql, order_sql, placed_sql
from ordertrail.rules.tables import history_columns, stage_columns


def place_deliveries(session: Session, ids: str | None, below_batch: int | None) -> None:
    """Make `placed`: file key, place `tb` in (vendor, path, mtime, sha256, batch) and absent columns of deliveries.

    Args:
        session: The pass; `batch_deliveries` has the deliveries of the batch, if there is one.
        ids: SQL of the delivery ids wanted; None takes all.
        below_batch: Only deliveries of earlier batches, and those of `batch_deliveries`; None takes all.
    """
    where = "true" if ids is None else f"delivery_id IN ({ids})"
    said = {"fk": "file_key", "mtime_ms": "epoch_ms(modified_at)", "absent": ABSENT}
    columns = ", ".join(f"{said.get(name, name)} AS {name}" for name in KNOWN)
    known = f"SELECT {columns} FROM {session.deliveries()} WHERE {where}"
    parts = [known]
    if below_batch is not None:
        parts = [f"{known} AND batch < {below_batch}", f"SELECT {', '.join(KNOWN)} FROM batch_deliveries"]
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
    columns = tuple(f"c{i}" for i in range(len(names)))
    absent_columns = tuple(f"c{names.index(name)}" for name in absent)
    placed = placed_sql(f"({' UNION ALL '.join(rows)})", absent)
    session.run(f"CREATE OR REPLACE TEMP VIEW accepted AS {placed}")
    folded = ", ".join(f"{column} AS {name_sql(name)}" for column, name in zip(columns, names, strict=True))
    session.run(
        f"CREATE OR REPLACE TEMP TABLE folded AS SELECT k AS _k, {folded} FROM ({fold_sql(columns, absent_columns)})"
    )
