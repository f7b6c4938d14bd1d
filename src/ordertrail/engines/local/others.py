"""Keeps the values of columns that others added: copies them from the target's old rows to their successors."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
from msgspec.structs import replace

from ordertrail.delta.snapshot import Snapshot
from ordertrail.delta.table import scan_sql
from ordertrail.engines.local.net import rows_at_sql
from ordertrail.engines.local.relations import CARRIED, CARRIED_KEYS, Relation, WeighedBatch
from ordertrail.engines.local.session import Session
from ordertrail.errors import OrdertrailError
from ordertrail.model import Outcome
from ordertrail.rules.outcomes import CODES
from ordertrail.rules.placing import contract_key_sql
from ordertrail.rules.sql import name_sql
from ordertrail.rules.tables import TableColumn, target_columns


def carry(session: Session, weighed: WeighedBatch, before: Snapshot, others: Sequence[TableColumn]) -> Relation | None:
    """Create `carried`: positions of the rows that are replaced, and their values in the columns of others.

    Only the data files with such rows are read.

    Args:
        session: The pass.
        weighed: The batch.
        before: The target that it was weighed against.
        others: Which columns.

    Returns:
        `carried`; None when there are no columns of others.
    """
    if not others:
        return None
    session.run(
        f"CREATE OR REPLACE TEMP TABLE replaced AS SELECT pos FROM {weighed.outcomes} "
        f"WHERE outcome = {CODES[Outcome.UPDATED]} UNION SELECT pos FROM {weighed.best} WHERE copies > 1 AND place = 1"
    )
    return CARRIED.make(session.run, rows_at_sql(session, before, "replaced", others))


def carry_by_key(session: Session, target: Snapshot, others: Sequence[TableColumn]) -> tuple[Relation, list[str]]:
    """Create `carried_keys`: for every key of the target `_k`, the key as text, and the values of others in its row.

    Of several rows of a key, the one written last counts.

    Args:
        session: The pass.
        target: Some of its files may be damaged or gone.
        others: Which columns.

    Returns:
        `carried_keys`, and the data files that could not be read; values of others in their rows are lost.
    """
    contract = session.config.contract
    columns = [*target_columns(contract), *others]
    names = ", ".join(name_sql(column.name) for column in others)
    rows = f"SELECT {contract_key_sql(contract)} AS _k, _batch AS _b, _revision AS _r, _pos AS _p, {names} FROM "
    nothing = scan_sql(session.con, replace(target, files={}), columns)
    session.run(f"CREATE OR REPLACE TEMP TABLE carried_rows AS SELECT 0 AS _f, * FROM ({rows}{nothing})")
    unread = []
    for number, file in enumerate(target.files.values()):
        try:
            scan = scan_sql(session.con, replace(target, files={file.path: file}), columns)
            session.run(f"INSERT INTO carried_rows SELECT {number}, * FROM ({rows}{scan})")
        except (duckdb.Error, OrdertrailError, OSError):
            unread.append(file.path)  # the target may be damaged: that is why it is written anew
    carried = CARRIED_KEYS.make(
        session.run,
        f"SELECT _k, {names} FROM carried_rows QUALIFY row_number() "
        "OVER (PARTITION BY _k ORDER BY _b DESC NULLS LAST, _r DESC NULLS LAST, _f DESC, _p DESC) = 1",
    )
    return carried, unread
